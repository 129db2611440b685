"""Chain state and mempool on an event loop: one writer, heavy work in one named thread.

Owns the order of all changes to the chain and the mempool. The header tree is changed on the loop;
validation, transactions and the durable mempool run in the thread ``chain-writer`` while the lock is
held; blocks go before statements (`turns`). Blocks that arrive while a transaction is being synced are taken together by the next one, so
catch-up and rapid mining commit in groups without a timer.

A change runs to its end even when its caller is cancelled. When the store fails (a full disk, a read error),
the caller gets the error, what was committed before stays readable, and :meth:`ChainRunner.retry` goes on
where it stopped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from ..consensus.block import Block
from ..consensus.errors import ConsensusError, RuleViolation
from ..consensus.state import FixedView
from ..consensus.statement import Statement
from .chain_update import ChainUpdate, InvalidBlock
from .chainstate import ChainState
from .intake import Intake, Relayed
from .mempool import Drop, DurableMempool, MempoolLimits, Submission, Tip
from .mempool.limits import DEFAULT_LIMITS
from .moves import Moves
from .store.errors import StoreError
from .store.port import Writer
from .store.schema import PROBE_KEY, Table
from .template import Template
from .turns import Turns

T = TypeVar("T")

OnChecked = Callable[[Block], None]
"""Told of a block whose work, seal and body were checked, before it is connected: the time to relay it."""

OnUpdate = Callable[[ChainUpdate, Sequence[Drop]], None]
"""Told of every move of the tip, after it is durable and the mempool followed."""

Refused = tuple[bytes, ConsensusError]
"""Hash of a block and the rule that it broke."""

OnRelayed = Callable[[Sequence[Relayed]], None]
"""Told of statements that waited for another one and were tried again."""

PROBE_BYTES = 2**20
"""Room that a store which failed must have to count as working again: a statement and what it brings along."""

_log = logging.getLogger(__name__)


class StorePaused(StoreError):
    """The store fails at present, so nothing new is taken; it is tried again by itself."""

    code = "store-unavailable"

    def __init__(self, trouble: StoreError) -> None:
        """Name what the store failed at."""
        super().__init__(
            f"nothing new is taken until the store works again: {trouble.diagnostics()}; it is tried again by "
            "itself"
        )


class ChainRunner:
    """See the module's text. An async context manager; opened with :meth:`open`."""

    def __init__(self, chain: ChainState, mempool: DurableMempool, clock_ms: Callable[[], int]) -> None:
        """Drive an open chain state and mempool."""
        self.chain = chain
        self.mempool = mempool
        self.intake = Intake(chain, mempool)
        self.trouble: StoreError | None = None
        """Why the store does not take changes at present; None while it does."""
        self.trouble_since_ms = 0
        """When the trouble began, Unix milliseconds."""
        self.on_trouble: Callable[[], None] = lambda: None
        """Told when trouble begins and when it ends."""
        self._works = asyncio.Event()
        self._works.set()
        self._clock_ms = clock_ms
        self._turns = Turns()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="chain-writer")
        self._changes: set[asyncio.Task[Any]] = set()
        self._listeners: list[OnUpdate] = []
        self._unfollowed = Moves(chain.stored)
        """Moves of the chain that the mempool does not know of yet."""
        self._untold = Moves(chain.stored)
        """Moves of the chain that the subscribers do not know of yet."""
        self.on_relayed: OnRelayed = lambda _results: None
        self.on_blocks: Callable[[], None] = lambda: None
        """Told after blocks were taken in, whether or not the tip moved."""

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
        """Let the changes that were begun finish, then stop the thread."""
        while self._changes:
            await asyncio.wait(tuple(self._changes))
        await asyncio.to_thread(self._executor.shutdown)

    def subscribe(self, listener: OnUpdate) -> None:
        """Call ``listener`` on the loop after every move of the tip."""
        self._listeners.append(listener)

    # Running changes.

    async def call(self, work: Callable[[], T]) -> T:
        """Run ``work`` in the writer thread while nothing else changes chain or mempool."""
        return await self._whole(self._locked(work))

    async def _locked(self, work: Callable[[], T]) -> T:
        async with self._turns.of_blocks():
            return await self._run(work)

    async def _on_mempool(self, turn: AbstractAsyncContextManager[None], work: Callable[[], T]) -> T:
        """Run ``work`` in the thread on a mempool that stands on the tip."""
        async with turn:
            await self._follow()
            return await self._run(work)

    async def _whole(self, change: Coroutine[Any, Any, T]) -> T:
        """Run a change to its end, even when the caller is cancelled: half of one is never left behind."""
        task = asyncio.create_task(self._watched(change), name="chain change")
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return await asyncio.shield(task)

    async def _watched(self, change: Coroutine[Any, Any, T]) -> T:
        try:
            return await change
        except StoreError as error:
            self._note_trouble(error)
            raise

    def _note_trouble(self, error: StoreError) -> None:
        is_new, self.trouble = self.trouble is None, error
        if is_new:
            self._works.clear()
            self.trouble_since_ms = self._clock_ms()
            _log.critical("the store fails, nothing new is taken until it works again: %s", error)
            _guarded(self.on_trouble, "telling of the store's failure")

    def check_works(self) -> None:
        """Refuse new work while the store fails: trying each time would fail each time.

        Raises:
            StorePaused: it fails at present.
        """
        if self.trouble is not None:
            raise StorePaused(self.trouble)

    async def until_it_works(self) -> None:
        """Wait while the store fails."""
        await self._works.wait()

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def retry(self) -> None:
        """Go on where a failure of the store stopped a change; raises StoreError when it fails again."""
        await self._whole(self._retry())

    async def _retry(self) -> None:
        async with self._turns.of_blocks():
            await self._move()
            await self._run(self._probe)
            if self.trouble is not None:
                _log.warning("the store works again")
                self.trouble = None
                self._works.set()
                _guarded(self.on_trouble, "telling that the store works")

    def _probe(self) -> None:
        """Write something and remove it again: that fails as long as the disk is full or broken.

        Two transactions, since one would leave nothing to write; a death in between leaves the row.
        """

        def write(writer: Writer) -> None:
            writer.put(Table.META, PROBE_KEY, bytes(PROBE_BYTES))

        def remove(writer: Writer) -> None:
            writer.delete(Table.META, PROBE_KEY)

        self.chain.store.transact(write)
        self.chain.store.transact(remove)

    # Blocks.

    async def add_blocks(
        self, blocks: Sequence[Block], on_checked: OnChecked
    ) -> tuple[ChainUpdate, list[Refused]]:
        """Check and add whole blocks, then move to the best tip in as few transactions as possible.

        Returns the move, and the blocks that broke a rule with that rule; earlier blocks may be among them.

        Raises:
            StoreError: the store failed; whatever was connected before is told to the subscribers.
        """
        return await self._whole(self._add_blocks(blocks, on_checked))

    async def _add_blocks(
        self, blocks: Sequence[Block], on_checked: OnChecked
    ) -> tuple[ChainUpdate, list[Refused]]:
        async with self._turns.of_blocks():
            refused, fresh = self._take_headers(blocks)
            wrong = await self._run(lambda: [self._check_body(block) for block in fresh]) if fresh else []
            for block, error in zip(fresh, wrong, strict=True):
                if error is None:
                    self._take_body(block, on_checked)
                else:
                    refused.append((block.hash, error))
            update = await self._move()
        return update, [*refused, *update.refused]

    def _take_headers(self, blocks: Sequence[Block]) -> tuple[list[Refused], list[Block]]:
        """Add headers to the tree; return what is refused, and the blocks whose bodies are new."""
        refused: list[Refused] = []
        fresh: dict[bytes, Block] = {}
        for block in blocks:
            try:
                node = self.chain.accept_header(block.sealed, now_ms=self._clock_ms())
                if node.parent is not None and node.parent.invalid:
                    raise RuleViolation("bad-prevblk", expected="a valid parent", got=node.parent.hash.hex())
            except ConsensusError as error:
                refused.append((block.hash, error))
                continue
            if not node.has_body:
                fresh.setdefault(block.hash, block)
        return refused, list(fresh.values())

    def _check_body(self, block: Block) -> ConsensusError | None:
        try:
            self.chain.check_new_body(block)
        except ConsensusError as error:
            return error
        return None

    def _take_body(self, block: Block, on_checked: OnChecked) -> None:
        node = self.chain.accept_body(block)
        if node.linked and node is self.chain.tree.best_header:
            _guarded(partial(on_checked, block), "relaying a block")

    async def _move(self) -> ChainUpdate:
        """Move to the best tip, and let mempool and subscribers follow as far as it got."""
        try:
            return await self._advance()
        finally:
            await self._follow()
            _guarded(self.on_blocks, "looking at new blocks")

    async def _advance(self) -> ChainUpdate:
        chain, moves = self.chain, Moves(self.chain.stored)
        while (plan := chain.next_plan()) is not None:
            try:
                done = await self._run(partial(chain.execute, plan, verified=self.mempool.pool.checked))
            except InvalidBlock as found:
                await self._refuse(found)
                moves.refused.append((found.node.hash, found.error))
                continue
            chain.settle(done)
            for sums in (moves, self._unfollowed, self._untold):
                sums.add(done.disconnected, done.connected)
        if chain.wants_flush:
            await self._run(lambda: chain.store.transact(chain.flush_pending))
            chain.forget_flushed()
        return moves.update()

    async def _refuse(self, found: InvalidBlock) -> None:
        sealed = self.chain.mark_refused(found)
        try:
            await self._run(partial(self.chain.keep_refusal, found.node.hash, sealed))
        except StoreError as error:
            _log.warning("block %s is refused, until a restart only: %s", found.node.hash.hex(), error)

    async def _follow(self) -> None:
        """Bring the mempool to the chain's tip, and tell of the moves, once, even when the mempool fails."""
        if not self._unfollowed:
            return
        update, drops = self._unfollowed.update(), tuple[Drop, ...]()
        try:
            drops = await self._run(
                partial(self.mempool.on_update, connected=update.connected, disconnected=update.disconnected)
            )
            self._unfollowed = Moves(self.chain.stored)
        finally:
            news, self._untold = self._untold, Moves(self.chain.stored)
            if news:
                for listener in self._listeners:
                    _guarded(partial(listener, news.update(), drops), "following a new tip")
        await self._try_orphans(item for block in update.connected for item in block.body.statements)

    # Statements.

    async def submit(self, statements: Sequence[Statement]) -> tuple[Submission, ...]:
        """Take statements from a submitter; those that are queued in the answer are on disk.

        Raises:
            StoreError: the store failed, and nothing was acknowledged.
        """
        return await self._whole(self._submit(statements))

    async def _submit(self, statements: Sequence[Statement]) -> tuple[Submission, ...]:
        async with self._turns.of_statements():
            await self._follow()
            answers = await self._run(lambda: self.mempool.submit(statements))
            await self._try_orphans(answer.statement for answer in answers if answer.queued)
        return answers

    async def relay(self, statements: Sequence[Statement]) -> list[Relayed]:
        """Take statements from peers; each is returned with None when it is new here, or why it was refused.

        A statement that was here already is left out. One that came before another that it needs is kept
        and tried again after that one; then it is in the answer too.
        """
        return await self._whole(
            self._on_mempool(self._turns.of_statements(), lambda: self.intake.relay(statements))
        )

    async def _try_orphans(self, arrived: Iterable[Statement]) -> None:
        """Try what waited for statements that came by another way than `relay`."""
        if not len(self.intake.orphans):
            return
        results = await self._run(lambda: self._relay_after(arrived))
        if results:
            _guarded(partial(self.on_relayed, results), "relaying statements")

    def _relay_after(self, arrived: Iterable[Statement]) -> list[Relayed]:
        freed = [item for statement in arrived for item in self.intake.orphans.take_after(statement)]
        return self.intake.relay(freed) if freed else []

    async def template(self, producer: bytes, now_ms: int) -> Template:
        """Build the next block from the mempool; raises RuleViolation when the key may not seal it."""

        def build() -> Template:
            return self.chain.make_template(
                self.mempool.select(), producer=producer, now_ms=now_ms, verified=self.mempool.pool.checked
            )

        return await self._whole(self._on_mempool(self._turns.of_blocks(), build))


def _guarded(tell: Callable[[], None], what: str) -> None:
    """Tell a listener; its own fault is its own, and not that of the change it is told of."""
    try:
        tell()
    except Exception:  # noqa: BLE001 - whatever a listener does, the change is made
        _log.exception("%s failed", what)


@contextmanager
def open_tip(chain: ChainState) -> Iterator[Tip]:
    """Open the state after the tip for the mempool."""
    tip = chain.tree.tip
    with chain.view() as state:
        yield Tip(height=tip.height, hash=tip.hash, state=FixedView(state.reader))
