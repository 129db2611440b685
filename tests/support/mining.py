"""What a miner is driven with in tests: a clock that is moved by hand, a chain in memory, two searches."""

from __future__ import annotations

import asyncio

from facechain.consensus.block import Block
from facechain.consensus.statement import Statement
from facechain.node.mempool import Mempool
from facechain.node.mining.controller import MinerController, MiningSituation, mining_situation
from facechain.node.mining.search import search
from support.ledger import PRODUCER, Ledger, LedgerTemplate


class ManualClock:
    """Time that passes when the test says so."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms
        self._sleepers: list[tuple[int, asyncio.Future[None]]] = []

    def now_ms(self) -> int:
        return self._now_ms

    async def sleep(self, seconds: float) -> None:
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._now_ms + round(seconds * 1_000), wake))
        await wake

    def sleeping_ms(self) -> list[int]:
        """How long those who sleep now have left."""
        return [due - self._now_ms for due, wake in self._sleepers if not wake.done()]

    def advance(self, milliseconds: int) -> None:
        """Let time pass and wake whoever is due."""
        self._now_ms += milliseconds
        for due, wake in self._sleepers:
            if due <= self._now_ms and not wake.done():
                wake.set_result(None)
        self._sleepers = [(due, wake) for due, wake in self._sleepers if not wake.done()]


class LedgerChain:
    """The miner's chain over a `Ledger` and a real mempool."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.pool = Mempool(ledger.params, ledger.network_id)
        self.miner: MinerController | None = None
        self.situations = 0
        self.templates = 0
        self.submitted: list[Block] = []

    async def mining_situation(self, producer: bytes) -> MiningSituation:
        self.situations += 1
        return mining_situation(
            self.ledger.tree,
            self.ledger.tip().state,
            self.ledger.params,
            producer=producer,
            has_statements=len(self.pool) > 0,
        )

    async def build_template(self, *, producer: bytes, now_ms: int) -> LedgerTemplate:
        self.templates += 1
        return self.ledger.template(self.pool.select(self.ledger.tip()), producer=producer, now_ms=now_ms)

    async def submit_block(self, block: Block) -> None:
        self.ledger.connect(block)
        self.submitted.append(block)
        self.miner_hears_of(block)

    def receive(self, statement: Statement) -> None:
        """A statement arrives."""
        self.pool.add(statement, self.ledger.tip())
        if self.miner is not None:
            self.miner.on_statements()

    def somebody_else_mines(self, *statements: Statement) -> Block:
        """A block of a peer becomes the tip."""
        block = self.ledger.mine(*statements)
        self.miner_hears_of(block)
        return block

    def miner_hears_of(self, block: Block) -> None:
        """The pool and the miner follow to a block that is connected."""
        self.pool.on_update(connected=(block,), disconnected=(), tip=self.ledger.tip())
        if self.miner is not None:
            self.miner.on_new_tip(block.hash)


class InlineSearch:
    """The real search, in the event loop: for targets that half of all hashes meet."""

    async def mine(self, prefix: bytes, target: int) -> int:
        nonce = search(prefix, target, 0, 2**16)
        assert nonce is not None
        return nonce


class EndlessSearch:
    """A search that never finds anything, as with a hard target."""

    def __init__(self) -> None:
        self.running = 0
        self.prefixes: list[bytes] = []

    async def mine(self, prefix: bytes, target: int) -> int:
        self.running += 1
        self.prefixes.append(prefix)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.running -= 1
        raise AssertionError("the future above is never given a result")


def miner(chain: LedgerChain, search: InlineSearch | EndlessSearch, clock: ManualClock) -> MinerController:
    """A controller that mines `chain` with the producer's key and hears of its news."""
    chain.miner = MinerController(
        key=PRODUCER,
        network_id=chain.ledger.network_id,
        params=chain.ledger.params,
        chain=chain,
        search=search,
        clock=clock,
    )
    return chain.miner
