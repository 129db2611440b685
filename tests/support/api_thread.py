"""A lone node with its HTTP API in a thread, so that commands, which run loops of their own, can talk to it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any, Self

from facechain.consensus.params import Genesis
from facechain.consensus.statement import Statement
from facechain.node.api.context import ApiConfig
from facechain.node.api.server import ApiServer
from facechain.node.mempool import Submission
from support.lone_node import LoneNode

SECONDS = 30
TOKEN = "f" * 64


class SealingNode(LoneNode):
    """Seals this many blocks after each submission, so that whoever waits for them needs no clock."""

    blocks_after_submit = 0

    async def submit(self, statements: Sequence[Statement]) -> Sequence[Submission]:
        answers = await super().submit(statements)
        if self.blocks_after_submit:
            await self.seal(self.blocks_after_submit)
        return answers


class ApiThread:
    """Runs while it is entered; `url` and `token` are for the commands."""

    def __init__(self, genesis: Genesis, **config: Any) -> None:
        """`config`: further fields of `ApiConfig`."""
        self.genesis = genesis
        self.config = ApiConfig(token=TOKEN, **config)
        self.token = TOKEN
        self.url = ""
        self.node = SealingNode(genesis)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._leave = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="api")

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(timeout=SECONDS):
            raise AssertionError(f"expected the API to listen within {SECONDS} s")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._leave.set)
        self._thread.join(timeout=SECONDS)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        async with self.node as running, ApiServer(running, self.config) as server:
            self.url = server.url
            self._ready.set()
            await self._leave.wait()

    def _call(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=SECONDS)

    def seal(self, count: int = 1) -> None:
        """Seal blocks from the mempool."""
        self._call(self.node.seal(count))

    def block_hash(self, height: int) -> bytes:
        """Return the hash of an active block."""
        return self.node.chain.tree.active[height].hash

    def waiting(self) -> list[Statement]:
        """Return the statements in the mempool, by sequence."""
        found = (self.node.pool.get(leaf) for leaf in self.node.pool.leaves())
        return sorted((item for item in found if item is not None), key=lambda item: item.sequence)
