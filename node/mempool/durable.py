"""The mempool of a node with a store: what was acknowledged survives a crash.

Owns the rows of `Table.MEMPOOL` (leaf -> statement) and their agreement with the pool. A statement is
`queued` only after its row, and the rows of its author's earlier statements, were committed. A row stays
until `KEEP_ROWS_BLOCKS` blocks lie on the one that confirmed its statement, or after which the chain had no
place for it: what a chain refuses, the branch that comes back may take, and a crash in the middle of a
reorganisation finds it at the next start, where every row is checked again. Only an expired statement's row
goes at once. A row whose statement could be used once something before it arrives is parked: tried again with
every new tip, the others after a reorganisation.

A reorganisation deeper than that returns statements that have no row any more: they get one again. The chain
state marks in the reorganisation's own transaction which tip was left (`left_tip`); the mark goes when the rows
are there, so a crash in between returns them at the next start.

Every call opens the tip's state itself, and writes after it let go of it (the store's port wants that). One
thread at a time may call, the one that writes the chain state: then the tip cannot move in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import takewhile
from typing import Final, Self

from ...consensus.block import Block
from ...consensus.errors import DecodeError, RuleViolation
from ...consensus.params import Params
from ...consensus.statement import Statement
from ..block_store import stored_block
from ..chain_index import ChainReader
from ..store.port import Reader, Store, Writer
from ..store.schema import LEFT_TIP_KEY, Table
from ..stored_block import ReadBlock, StoredBlock
from .allowance import Limits
from .limits import DEFAULT_LIMITS, KEEP_ROWS_BLOCKS, Drop, MempoolFull, MempoolLimits, MempoolRefusal
from .pool import FIXABLE, Mempool
from .trial import Tip

PARKED: Final = FIXABLE | {"mempool-full", "sequence-gap", "follows-dropped"}
"""Reasons that can pass; a row dropped for one of these stays."""
CONFIRMED: Final = "bad-sequence"
"""Code of a stored statement whose sequence the chain has used: most likely it is confirmed."""
EXPIRED: Final = "expired-statement"
"""The one reason that a reorganisation does not undo: it does not lead to a lower height."""


OpenTip = Callable[[], AbstractContextManager[Tip]]
"""Opens the state after the chain's tip for reading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """The answer to one statement of a submission."""

    statement: Statement
    """The one that is held, when `queued`; else the one that was sent."""
    queued: bool
    """It is durable here: acknowledged."""
    known: bool = False
    refusal: RuleViolation | MempoolRefusal | None = None


class DurableMempool:
    """A pool and the store in which its promises are kept."""

    def __init__(self, pool: Mempool, store: Store, open_tip: OpenTip) -> None:
        self.pool = pool
        self._store = store
        self.open_tip = open_tip
        self._rows: set[bytes] = set()
        """Leaves that have a row."""
        self._live: set[bytes] = set()
        """Of these, what was in the pool when it was looked at last."""
        self._buried: dict[bytes, int] = {}
        """Leaf -> height of the tip when the chain was found to have used its sequence, or to refuse it."""
        self._parked: dict[bytes, int] = {}
        """Leaf -> height of the tip when it was parked."""

    @classmethod
    def open(
        cls,
        store: Store,
        params: Params,
        network_id: bytes,
        open_tip: OpenTip,
        limits: MempoolLimits = DEFAULT_LIMITS,
    ) -> Self:
        """Reload what was acknowledged; what is no longer valid is dropped with its reason."""
        durable = cls(Mempool(params, network_id, limits), store, open_tip)
        durable._reload()
        return durable

    def submit(self, statements: Sequence[Statement]) -> tuple[Submission, ...]:
        """Take in statements for a submitter; those that are `queued` in the answer are on disk.

        Answers are in the order of `statements`. All rows are written in one transaction. When that fails,
        the store's error is raised and nothing was acknowledged.
        """
        with self.open_tip() as tip:
            answers = self._admit_all(statements, tip)
        # A later statement of the submission may have displaced an earlier one of another author.
        answers = [self._still_held(answer) for answer in answers]
        self._protect([answer.statement.leaf for answer in answers if answer.queued])
        return tuple(answers)

    def select(self) -> tuple[Statement, ...]:
        """Return statements that the next block can hold, in this order."""
        with self.open_tip() as tip:
            return self.pool.select(tip)

    def next_sequence(self, author: bytes) -> int:
        """Return the sequence that the author's next statement must carry."""
        with self.open_tip() as tip:
            return self.pool.next_sequence(author, tip)

    def on_update(self, *, connected: Iterable[Block], disconnected: Iterable[Block]) -> tuple[Drop, ...]:
        """Follow the chain to its present tip (see `Mempool.on_update`) and bring the rows up to date."""
        gone = tuple(disconnected)
        # What the chain had refused, or another statement displaced, may be free again on another branch.
        buried = set(self._buried) if gone else set()
        waiting = self._read({*self._parked, *buried})
        deep = len(gone) > KEEP_ROWS_BLOCKS
        before = set(self.pool.leaves()) if deep else set()
        with self.open_tip() as tip:
            drops = self.pool.on_update(connected=connected, disconnected=gone, tip=tip, now=time.monotonic())
            back = [statement for statement in waiting if statement.leaf not in self.pool]
            tried = self.pool.restore(back, tip)
            height = tip.height
        self._settle_rows((*drops, *tried), height, everything=bool(gone))
        returned = self._rows if gone else [statement.leaf for statement in back]
        self._protect([leaf for leaf in returned if leaf in self.pool])
        if deep:
            self._protect([leaf for leaf in self.pool.leaves() if leaf not in before])
        if gone:
            self._forget_left_tip()
        return drops + tuple(drop for drop in tried if drop.leaf not in buried)

    def _admit_all(self, statements: Sequence[Statement], tip: Tip) -> list[Submission]:
        """Admit in order. Whoever is told to wait is told so of all that follows, not that it has a gap."""
        limits = self.pool.room(time.monotonic())
        told: dict[bytes, MempoolFull] = {}
        answers: list[Submission] = []
        for statement in statements:
            answer = self._admit(statement, tip, limits, told.get(statement.author))
            if isinstance(answer.refusal, MempoolFull):
                told[statement.author] = answer.refusal
            answers.append(answer)
        return answers

    def _admit(self, statement: Statement, tip: Tip, limits: Limits, full: MempoolFull | None) -> Submission:
        pool = self.pool
        if pool.get_by_id(statement.id) is None:
            full = full or pool.backpressure(statement.author, limits)
            if full is not None:
                return Submission(statement=statement, queued=False, refusal=full)
        try:
            admitted = pool.add(statement, tip)
        except (RuleViolation, MempoolRefusal) as error:
            return Submission(statement=statement, queued=False, refusal=error)
        pool.allowance.on_taken(admitted.statement.leaf, statement.author)
        return Submission(statement=admitted.statement, queued=True, known=admitted.known)

    def _still_held(self, answer: Submission) -> Submission:
        if not answer.queued or answer.statement.leaf in self.pool:
            return answer
        return Submission(statement=answer.statement, queued=False, refusal=self.pool.full())

    def _protect(self, leaves: Sequence[bytes]) -> None:
        """Write the rows that make `leaves` durable, then acknowledge them."""
        rows = {
            item.leaf: item.encode()
            for item in self.pool.acknowledged_with(leaves)
            if item.leaf not in self._rows
        }
        if rows:
            self._store.transact(lambda writer: writer.put_many(Table.MEMPOOL, sorted(rows.items())))
            self._rows.update(rows)
            self._live.update(rows)
        self.pool.acknowledge(leaves)

    def _settle_rows(self, drops: Iterable[Drop], height: int, *, everything: bool) -> None:
        """Bury, park or delete the rows of statements that left the pool.

        What is buried comes back with a reorganisation only; `everything` has it looked at, too.
        """
        reasons = {drop.leaf: drop.code for drop in drops if drop.leaf in self._rows}
        gone = set()
        for leaf in set(self._rows) if everything else {*self._live, *self._parked}:
            if leaf in self.pool:
                self._buried.pop(leaf, None)
                self._parked.pop(leaf, None)
                self._live.add(leaf)
                continue
            self._live.discard(leaf)
            code = reasons.get(leaf, CONFIRMED)
            if code in PARKED:
                self._buried.pop(leaf, None)
                self._parked.setdefault(leaf, height)
            else:
                self._parked.pop(leaf, None)
                self._buried.setdefault(leaf, height)
            if code == EXPIRED:
                gone.add(leaf)
        self._delete(gone | self._due(height))

    def _due(self, height: int) -> set[bytes]:
        """Return what was buried or parked long enough; each in order of its height, but for reorganisations."""
        return {
            leaf
            for table in (self._buried, self._parked)
            for leaf, _ in takewhile(lambda row: row[1] + KEEP_ROWS_BLOCKS <= height, table.items())
        }

    def _delete(self, leaves: set[bytes]) -> None:
        def remove(writer: Writer) -> None:
            for leaf in leaves:
                writer.delete(Table.MEMPOOL, leaf)

        if leaves:
            self._store.transact(remove)
            self._rows -= leaves
            self._live -= leaves
            for leaf in leaves:
                self._buried.pop(leaf, None)
                self._parked.pop(leaf, None)

    def _read(self, leaves: Iterable[bytes]) -> list[Statement]:
        """Return stored statements, an author's in sequence."""
        with self._store.read() as reader:
            values = [value for leaf in leaves if (value := reader.get(Table.MEMPOOL, leaf)) is not None]
        return sorted((Statement.decode(value) for value in values), key=lambda item: item.sequence)

    def _reload(self) -> None:
        with self._store.read() as reader:
            rows = list(reader.scan(Table.MEMPOOL))
            left = _left_branch(reader, self._read_block)
        statements = []
        damaged = set()
        for leaf, value in rows:
            try:
                statements.append(Statement.decode(value))
            except DecodeError:
                damaged.add(leaf)
        self._rows = {leaf for leaf, _ in rows}
        self._delete(damaged)
        statements.sort(key=lambda item: item.sequence)
        with self.open_tip() as tip:
            drops = self.pool.on_update(connected=(), disconnected=left, tip=tip)
            drops += self.pool.restore(statements, tip)
            height = tip.height
        self._settle_rows(drops, height, everything=True)
        self._protect(self.pool.leaves())
        self._forget_left_tip()

    def _forget_left_tip(self) -> None:
        """Remove the mark of a deep reorganisation, once its statements have rows."""
        with self._store.read() as reader:
            marked = reader.get(Table.META, LEFT_TIP_KEY) is not None
        if marked:
            self._store.transact(lambda writer: writer.delete(Table.META, LEFT_TIP_KEY))

    def _read_block(self, block_hash: bytes) -> Block:
        with self._store.read() as reader:
            return stored_block(reader, block_hash)


def _left_branch(reader: Reader, read: ReadBlock) -> tuple[Block, ...]:
    """Return the blocks that a deep reorganisation took off before the pool could follow."""
    chain, found = ChainReader(reader), list[Block]()
    block_hash = reader.get(Table.META, LEFT_TIP_KEY)
    while block_hash is not None and reader.get(Table.BODIES, block_hash) is not None:
        sealed = chain.sealed_header(block_hash)
        if sealed is None or chain.block_hash(sealed.height) == block_hash:
            break
        found.append(StoredBlock(sealed, read))
        block_hash = sealed.header.previous
    return tuple(found)
