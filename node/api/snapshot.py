"""One moment of the chain for one answer, read away from the event loop.

Owns the executor of the API's reads and the `Snapshot` that every view is computed from. Nothing here holds a
read open across an `await`: a whole view is computed in one executor call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from ...consensus.block import SealedHeader
from ...consensus.errors import ConsensusError
from ...consensus.params import Genesis
from ...consensus.state import StateView
from ..chain_index import ChainReader
from ..chainstate import ChainState
from .limits import BLOCK_COUNTS_KEPT, READER_THREADS

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCounts:
    """What a body holds, in numbers."""

    statements: int
    images: int
    size_bytes: int


class CountsCache:
    """Counts by block hash. A block never changes, so what is here is true; the oldest entries go first."""

    def __init__(self) -> None:
        self._counts: dict[bytes, BlockCounts] = {}

    def get(self, chain: ChainReader, block_hash: bytes) -> BlockCounts | None:
        """Return a block's counts; None when its body is not here."""
        known = self._counts.get(block_hash)
        if known is not None:
            return known
        body = chain.body(block_hash)
        if body is None:
            return None
        batches = [item.header.batch for item in body.statements if item.header.batch is not None]
        counts = BlockCounts(
            statements=len(body.statements),
            images=sum(batch.record_count for batch in batches),
            size_bytes=body.byte_count(),
        )
        self._counts[block_hash] = counts
        if len(self._counts) > BLOCK_COUNTS_KEPT:
            self._counts.pop(next(iter(self._counts.copy())), None)
        return counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The active chain and the state after its tip, as of one moment."""

    chain: ChainReader
    state: StateView
    genesis: Genesis
    tip: SealedHeader
    counts: CountsCache

    @property
    def height(self) -> int:
        """Height of the tip."""
        return self.tip.height

    def confirmations(self, height: int) -> int:
        """Blocks from `height` to the tip, both counted."""
        return self.tip.height - height + 1

    def header_at(self, height: int) -> SealedHeader:
        """Return the active header at a height that is on the chain.

        Raises:
            ConsensusError: store-damaged.
        """
        block_hash = self.chain.block_hash(height)
        sealed = None if block_hash is None else self.chain.sealed_header(block_hash)
        if sealed is None:
            raise ConsensusError("store-damaged", f"block {height}: expected its header, got nothing")
        return sealed


class SnapshotReader:
    """Computes views in its own threads."""

    def __init__(self, chain: ChainState) -> None:
        self._chain = chain
        self._counts = CountsCache()
        self._executor = ThreadPoolExecutor(READER_THREADS, thread_name_prefix="api-read")

    async def view(self, compute: Callable[[Snapshot], T]) -> T:
        """Return what `compute` makes of the chain as it stands now."""
        return await self.run(lambda: self._compute(compute))

    async def run(self, work: Callable[[], T]) -> T:
        """Run blocking work (files, decoding of images) in the same threads."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def _compute(self, compute: Callable[[Snapshot], T]) -> T:
        with self._chain.store.read() as reader:
            chain = ChainReader(reader)
            tip = chain.sealed_header(chain.tip_hash())
            if tip is None:
                raise ConsensusError("store-damaged", "tip: expected its header in the store, got nothing")
            return compute(
                Snapshot(
                    chain=chain,
                    state=StateView(reader),
                    genesis=self._chain.genesis,
                    tip=tip,
                    counts=self._counts,
                )
            )

    def close(self) -> None:
        """Wait for reads under way and end the threads."""
        self._executor.shutdown()
