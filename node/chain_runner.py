"""Chain state and mempool on an event loop: one writer, heavy work in one named thread.

Owns the order of all changes to the chain and the mempool. The header tree is changed on the loop;
validation, transactions and the durable mempool run in the thread ``chain-writer`` while the lock is
held. Blocks that arrive while a transaction is being synced are taken together by the next one, so
catch-up and rapid mining commit in groups without a timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from ..consensus.block import Block
from ..consensus.errors import ConsensusError, RuleViolation
from ..consensus.statement import Statement
from .chainstate import ChainState, ChainUpdate, InvalidBlock, Template
from .mempool import Drop, DurableMempool, MempoolLimits, MempoolRefusal, Submission, Tip
from .mempool.limits import DEFAULT_LIMITS

T = TypeVar("T")

OnChecked = Callable[[Block], None]
"""Told of a block whose work, seal and body were checked, before it is connected: the time to relay it."""

OnUpdate = Callable[[ChainUpdate, Sequence[Drop]], None]
"""Told of every move of the tip, after it is durable and the mempool followed."""


class ChainRunner:
    """See the module's text. An async context manager; opened with :meth:`open`."""

    def __init__(self, chain: ChainState, mempool: DurableMempool, clock_ms: Callable[[], int]) -> None:
        """Drive an open chain state and mempool."""
        self.chain = chain
        self.mempool = mempool
        self._clock_ms = clock_ms
        self._lock = asyncio.Lock()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="chain-writer")
        self._listeners: list[OnUpdate] = []

    @classmethod
    def open(
        cls, chain: ChainState, clock_ms: Callable[[], int], limits: MempoolLimits = DEFAULT_LIMITS
    ) -> Self:
        """Reload the durable mempool on top of the chain's tip."""
        mempool = DurableMempool.open(
            chain.store, chain.params, chain.network_id, partial(open_tip, chain), limits
        )
        return cls(chain, mempool, clock_ms)

    async def __aenter__(self) -> Self:
        """Return the runner."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the running change finish, then stop the thread."""
        async with self._lock:
            await asyncio.to_thread(self._executor.shutdown)

    def subscribe(self, listener: OnUpdate) -> None:
        """Call ``listener`` on the loop after every move of the tip."""
        self._listeners.append(listener)

    async def call(self, work: Callable[[], T]) -> T:
        """Run ``work`` in the writer thread while nothing else changes chain or mempool."""
        async with self._lock:
            return await self._run(work)

    async def _run(self, work: Callable[[], T]) -> T:
        """Run in the thread and wait for the end even when cancelled: half a change is never abandoned."""
        future = asyncio.get_running_loop().run_in_executor(self._executor, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait((future,))
            raise

    async def add_blocks(
        self, blocks: Sequence[Block], on_checked: OnChecked
    ) -> tuple[ChainUpdate, list[Refused]]:
        """Check and add whole blocks, then move to the best tip in as few transactions as possible.

        Returns the move, and the blocks that broke a rule with that rule.
        """
        refused: list[Refused] = []
        async with self._lock:
            for block in blocks:
                try:
                    await self._accept(block, on_checked)
                except ConsensusError as error:
                    refused.append((block, error))
            update = await self._advance()
        by_hash = {block.hash: block for block in blocks}
        refused += [(by_hash[item], error) for item, error in update.refused if item in by_hash]
        return update, refused

    async def _accept(self, block: Block, on_checked: OnChecked) -> None:
        node = self.chain.accept_header(block.sealed, now_ms=self._clock_ms())
        if node.has_body:
            return
        if node.parent is not None and node.parent.invalid:
            raise RuleViolation("bad-prevblk", expected="a valid parent", got=node.parent.hash.hex())
        await self._run(lambda: self.chain.check_new_body(block))
        self.chain.accept_body(block)
        if node.linked and node is self.chain.tree.best_header:
            on_checked(block)

    async def _advance(self) -> ChainUpdate:
        chain, pool = self.chain, self.mempool.pool
        disconnected: list[Block] = []
        connected: list[Block] = []
        refused: list[tuple[bytes, ConsensusError]] = []
        while (plan := chain.next_plan()) is not None:
            try:
                done = await self._run(partial(chain.execute, plan, verified=pool))
            except InvalidBlock as found:
                chain.refuse(found)
                refused.append((found.node.hash, found.error))
                continue
            chain.settle(done)
            disconnected = [*reversed(done.disconnected), *disconnected]
            connected.extend(done.connected)
        if chain.wants_flush:
            await self._run(lambda: chain.store.transact(chain.flush_pending))
            chain.forget_flushed()
        update = ChainUpdate(
            disconnected=tuple(disconnected), connected=tuple(connected), refused=tuple(refused)
        )
        if update.changed:
            await self._follow(update)
        return update

    async def _follow(self, update: ChainUpdate) -> None:
        drops = await self._run(
            partial(self.mempool.on_update, connected=update.connected, disconnected=update.disconnected)
        )
        for listener in self._listeners:
            listener(update, drops)

    async def submit(self, statements: Sequence[Statement]) -> tuple[Submission, ...]:
        """Take statements from a submitter; those that are queued in the answer are on disk."""
        return await self.call(lambda: self.mempool.submit(statements))

    async def relay(self, statements: Sequence[Statement]) -> list[Relayed]:
        """Take statements from peers; each is returned with None when it is new here, or why it was refused.

        A statement that was here already is left out.
        """
        return await self.call(lambda: self._relay(statements))

    def _relay(self, statements: Sequence[Statement]) -> list[Relayed]:
        results: list[Relayed] = []
        for statement in statements:
            try:
                if not self.mempool.relay(statement).known:
                    results.append((statement, None))
            except (RuleViolation, MempoolRefusal) as error:
                results.append((statement, error))
        return results

    async def template(self, producer: bytes, now_ms: int) -> Template:
        """Build the next block from the mempool; raises RuleViolation when the key may not seal it."""

        def build() -> Template:
            return self.chain.make_template(
                self.mempool.select(), producer=producer, now_ms=now_ms, verified=self.mempool.pool
            )

        return await self.call(build)


Refused = tuple[Block, ConsensusError]
Relayed = tuple[Statement, RuleViolation | MempoolRefusal | None]


@contextmanager
def open_tip(chain: ChainState) -> Iterator[Tip]:
    """Open the state after the tip for the mempool."""
    tip = chain.tree.tip
    with chain.view() as state:
        yield Tip(height=tip.height, hash=tip.hash, state=state)
