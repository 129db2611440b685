"""The mempool itself: bounded, sequence-aware, without any I/O.

Every author's statements wait in sequence order without a gap, starting at the sequence that the chain
expects next. What comes in was checked in full: signature and payload, authority and expiry in the next
block, sequence, and its effect on top of everything that waits already.

When the pool is full, a newcomer may displace statements that nobody was promised: always the highest
sequence first, from the author that fills the most bytes, and only while that author would still fill at
least as much as the newcomer's author. What was acknowledged (`acknowledge`) is never displaced; a pool full
of it answers `MempoolFull` with the seconds to wait, and takes statements again as blocks confirm. Statements
that a reorganisation returns, or that are reloaded from the store, have reserved room.

One thread at a time may change it; the inventory (`leaves`, `get`, `get_by_id`, iteration) may be read from
another meanwhile. Every method that needs the state is given the tip.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

from ...consensus.apply import Checked
from ...consensus.block import Block
from ...consensus.errors import RuleViolation
from ...consensus.kinds import PERMISSIONS
from ...consensus.params import Params
from ...consensus.statement import Statement
from ...consensus.validation import check_statement
from ..chain_index import references
from .allowance import Allowance, Limits
from .limits import (
    DEFAULT_LIMITS,
    Admitted,
    Drop,
    MempoolFull,
    MempoolLimits,
    MempoolRefusal,
    SequenceGap,
    SequenceTaken,
)
from .queue import AuthorQueue, Entry
from .selection import BlockRoom, select_statements
from .trial import Pending, Tip

FIXABLE = frozenset({"unknown-reference", "unknown-proposal"})
"""Rules that another statement, still on its way, can satisfy."""


class Mempool:
    """Statements that wait for a block."""

    def __init__(self, params: Params, network_id: bytes, limits: MempoolLimits = DEFAULT_LIMITS) -> None:
        """Start empty. ValueError when one statement of the network's largest size would not fit."""
        if min(limits.bytes, limits.author_bytes) < params.max_statement_bytes:
            raise ValueError(
                f"mempool bytes: expected at least {params.max_statement_bytes} for the pool and an author, "
                f"got {limits.bytes} and {limits.author_bytes}"
            )
        self.params = params
        self.limits = limits
        self.allowance = Allowance(spacing_ms=params.spacing_ms)
        """How many submitted statements may wait."""
        self.size_bytes = 0
        self.retry_after_seconds = max(1, -(-params.spacing_ms // 1_000))
        self._network_id = network_id
        self._entries: dict[bytes, Entry] = {}
        self.checked: dict[bytes, Checked] = {}
        """What is known of every statement that is here, by leaf; only read elsewhere."""
        self._by_id: dict[bytes, Entry] = {}
        self._authors: dict[bytes, AuthorQueue] = {}
        self._pending = Pending(params)
        self._arrivals = 0
        self._tip_hash: bytes | None = None
        self._stalled: dict[bytes, int] = {}
        """Leaf of an author's next statement -> height at which it was first found unusable."""
        self._drops: dict[bytes, Drop] = {}

    # What is here

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, leaf: object) -> bool:
        return leaf in self._entries

    def __iter__(self) -> Iterator[Statement]:
        """Yield all statements in the order of arrival."""
        return (entry.statement for entry in tuple(self._entries.values()))

    def leaves(self) -> tuple[bytes, ...]:
        """Return the inventory in the order of arrival."""
        return tuple(self._entries)

    def get(self, leaf: bytes) -> Statement | None:
        """Return a statement by leaf, H(header ‖ signature)."""
        entry = self._entries.get(leaf)
        return None if entry is None else entry.statement

    def get_by_id(self, statement_id: bytes) -> Statement | None:
        """Return a statement by id, H(header)."""
        entry = self._by_id.get(statement_id)
        return None if entry is None else entry.statement

    def dropped(self, statement_id: bytes) -> Drop | None:
        """Return why a statement left without being confirmed, as long as that is remembered."""
        return self._drops.get(statement_id)

    def next_sequence(self, author: bytes, tip: Tip) -> int:
        """Return the sequence that the author's next statement must carry to be taken in."""
        queue = self._authors.get(author)
        return queue.following if queue else tip.state.next_sequence(author)

    # Taking in

    def backpressure(self, author: bytes | None, limits: Limits, *, coming: int = 0) -> MempoolFull | None:
        """Return what a submitter is answered who has to wait, whatever it brings; None when it may hand in.

        `author`: whose statement it is, None when nobody knows yet; `limits`: what `room` told; `coming`: statements
        of submitters that are on their way here.
        """
        crowded = len(self._entries) >= limits.all
        if not crowded and self.allowance.room(author, limits, coming=coming) > 0:
            return None
        return self.wait(limits)

    def wait(self, limits: Limits) -> MempoolFull:
        """Return what a submitter is answered who has to wait."""
        crowded = len(self._entries) >= limits.all
        return MempoolFull(
            what="statements" if crowded else "submitted statements",
            limit=limits.all if crowded else limits.own,
            retry_after_seconds=max(self.retry_after_seconds, limits.retry_seconds),
        )

    def room(self, now: float) -> Limits:
        """Return how much submitters may have waiting at this moment, in monotonic seconds."""
        return self.allowance.limits(len(self._entries), now)

    def add(self, item: Statement | Checked, tip: Tip) -> Admitted:
        """Take in one statement; a known id is answered the same way again.

        Raises:
            RuleViolation: the statement breaks a rule of the network in the next block.
            SequenceGap: earlier statements are missing here.
            SequenceTaken: the sequence is held by another statement.
            MempoolFull: no room now.
        """
        self._check_tip(tip)
        statement = item.statement if isinstance(item, Checked) else item
        known = self._by_id.get(statement.id)
        if known is not None:
            return Admitted(statement=known.statement, known=True)
        return self._take(item, tip, lambda size: self._room_for(statement.author, size))

    def _take(
        self, item: Statement | Checked, tip: Tip, room: Callable[[int], tuple[Entry, ...]]
    ) -> Admitted:
        """Check everything, cheapest first, then evict what `room` names and add."""
        statement = item.statement if isinstance(item, Checked) else item
        self._check_sequence(statement, tip)
        transition = self._pending.begin(tip)
        transition.check_standing(statement)
        size = statement.size_bytes
        victims = room(size)
        checked = item if isinstance(item, Checked) else check_statement(item, self.params, self._network_id)
        transition.add(checked)
        evicted = tuple(self._evict(entry, tip) for entry in victims)
        self._arrivals += 1
        entry = Entry(
            checked=checked,
            size_bytes=size,
            arrival=self._arrivals,
            keys=self._pending.keep(statement.leaf, transition),
        )
        self._entries[statement.leaf] = self._by_id[statement.id] = entry
        self.checked[statement.leaf] = checked
        self._authors.setdefault(statement.author, AuthorQueue()).append(entry)
        self.size_bytes += size
        self._drops.pop(statement.id, None)
        return Admitted(statement=statement, known=False, evicted=evicted)

    def _check_tip(self, tip: Tip) -> None:
        if self._tip_hash is None:
            self._tip_hash = tip.hash
        if tip.hash != self._tip_hash:
            raise ValueError(
                f"mempool tip: expected {self._tip_hash.hex()}, got {tip.hash.hex()}; call on_update first"
            )

    def _check_sequence(self, statement: Statement, tip: Tip) -> None:
        following = self.next_sequence(statement.author, tip)
        if statement.sequence > following:
            raise SequenceGap(expected=following, got=statement.sequence)
        queue = self._authors.get(statement.author)
        if queue and statement.sequence < following:
            index = statement.sequence - queue.entries[0].statement.sequence
            if index >= 0:
                held = queue.entries[index].statement.id
                raise SequenceTaken(sequence=statement.sequence, held=held, following=following)
        if statement.sequence < following:
            raise RuleViolation(
                "bad-sequence", expected=f"sequence {following}", got=f"sequence {statement.sequence}"
            )

    def _room_for(self, author: bytes, size: int) -> tuple[Entry, ...]:
        """Return what must leave for `size` bytes of `author`; MempoolFull when nothing may."""
        limits = self.limits
        queue = self._authors.get(author, AuthorQueue())
        if len(queue) >= limits.author_statements:
            raise self._full("statements of one author", limits.author_statements)
        if queue.size_bytes + size > limits.author_bytes:
            raise self._full("bytes of one author", limits.author_bytes)
        spare_bytes = limits.bytes - self.size_bytes
        spare_count = limits.statements - len(self._entries)
        if spare_bytes >= size and spare_count >= 1:
            return ()
        victims: list[Entry] = []
        tails = {key: other.evictable() for key, other in self._authors.items() if key != author}
        held = {key: self._authors[key].size_bytes for key in tails}
        while spare_bytes < size or spare_count < 1:
            heaviest = max(held, key=lambda key: held[key], default=None)
            if heaviest is None or held[heaviest] < queue.size_bytes + size:
                what, limit = (
                    ("bytes", limits.bytes) if spare_bytes < size else ("statements", limits.statements)
                )
                raise self._full(what, limit)
            entry = next(tails[heaviest], None)
            if entry is None:
                del held[heaviest]
                continue
            victims.append(entry)
            held[heaviest] -= entry.size_bytes
            spare_bytes += entry.size_bytes
            spare_count += 1
        return tuple(victims)

    def full(self) -> MempoolFull:
        """Return the answer to whoever has to wait until blocks make room."""
        return self._full("statements", self.limits.statements)

    def _full(self, what: str, limit: int) -> MempoolFull:
        return MempoolFull(what=what, limit=limit, retry_after_seconds=self.retry_after_seconds)

    def _reserved_room(self, size: int) -> tuple[Entry, ...]:
        """Room for returned and reloaded statements: nothing leaves for them, the reserve is theirs."""
        limits = self.limits
        if self.size_bytes + size > limits.bytes + limits.returned_bytes:
            raise self._full("bytes", limits.bytes + limits.returned_bytes)
        if len(self._entries) >= limits.statements + limits.returned_statements:
            raise self._full("statements", limits.statements + limits.returned_statements)
        return ()

    # Promises

    def acknowledged_with(self, leaves: Iterable[bytes]) -> tuple[Statement, ...]:
        """Return what must be durable before `leaves` are acknowledged.

        That is the statements themselves and the same author's earlier ones, without which they would be
        of no use after a restart.
        """
        highest: dict[bytes, int] = {}
        for leaf in leaves:
            entry = self._entries.get(leaf)
            if entry is not None:
                author, sequence = entry.statement.author, entry.statement.sequence
                highest[author] = max(highest.get(author, 0), sequence)
        return tuple(
            entry.statement
            for author, sequence in highest.items()
            for entry in self._authors[author].up_to(sequence)
        )

    def acknowledge(self, leaves: Iterable[bytes]) -> None:
        """Promise that these are kept until they are confirmed or become invalid."""
        for leaf in leaves:
            entry = self._entries.get(leaf)
            if entry is not None:
                queue = self._authors[entry.statement.author]
                queue.protected = max(queue.protected, entry.statement.sequence + 1)

    def restore(self, statements: Iterable[Statement], tip: Tip) -> tuple[Drop, ...]:
        """Take in again what was kept in the store, an author's in sequence; return what does not fit."""
        self._check_tip(tip)
        return self._retake(statements, tip)

    # Following the chain

    def on_update(
        self,
        *,
        connected: Iterable[Block],
        disconnected: Iterable[Block],
        tip: Tip,
        now: float | None = None,
    ) -> tuple[Drop, ...]:
        """Move to another tip: confirmed statements leave, disconnected ones return, invalid ones drop.

        `tip` is the new tip; the blocks may come in any order; `now`: monotonic seconds, for the allowance. Returns
        what was dropped, with reasons.
        """
        self._tip_hash = tip.hash
        drops: list[Drop] = []
        confirmed = {item.id for block in connected for item in block.body.statements}
        gone = sorted(disconnected, key=lambda block: block.header.height)
        returned, lost = self._returned(gone, confirmed, tip)
        drops += lost
        for queue in self._authors.values():
            drops += self._settle(queue, confirmed, tip)
        if now is not None:
            self.allowance.on_block(len(confirmed), now)
        self._forget_empty()
        if gone:
            drops += self._rebuild(returned, tip)
        for queue in self._authors.values():
            drops += self._check_standing(queue, tip)
        self._forget_empty()
        alive = {queue.entries[0].statement.leaf for queue in self._authors.values()}
        self._stalled = {leaf: height for leaf, height in self._stalled.items() if leaf in alive}
        return tuple(drops)

    def _returned(
        self, gone: Iterable[Block], confirmed: Collection[bytes], tip: Tip
    ) -> tuple[list[Statement], list[Drop]]:
        """Return the statements of disconnected blocks, in order, as far as a pool can hold them at all."""
        limits = self.limits
        bytes_left = limits.bytes + limits.returned_bytes
        count_left = limits.statements + limits.returned_statements
        returned: list[Statement] = []
        lost: list[Drop] = []
        for item in (item for block in gone for item in block.body.statements):
            if item.id in confirmed:
                continue
            if item.size_bytes > bytes_left or not count_left:
                count_left = 0  # what follows may build on this one
                full = self._full("bytes", limits.bytes + limits.returned_bytes)
                lost.append(self._drop(item, tip, full.code, full.message))
                continue
            bytes_left -= item.size_bytes
            count_left -= 1
            returned.append(item)
        return returned, lost

    def _settle(self, queue: AuthorQueue, confirmed: set[bytes], tip: Tip) -> Iterator[Drop]:
        """Let go of sequences that the chain has used."""
        base = tip.state.next_sequence(queue.entries[0].statement.author)
        while queue.entries and queue.entries[0].statement.sequence < base:
            entry = queue.pop_first()
            self._forget(entry)
            if entry.statement.id not in confirmed:
                yield self._drop(entry.statement, tip, "sequence-taken", "a block holds another statement")

    def _rebuild(self, returned: list[Statement], tip: Tip) -> tuple[Drop, ...]:
        """Put returned statements before those that waited: they have the lower sequences."""
        waiting = [entry.checked for entry in sorted(self._entries.values(), key=lambda item: item.arrival)]
        promised = {author: queue.protected for author, queue in self._authors.items()}
        self._entries.clear()
        self.checked.clear()
        self._by_id.clear()
        self._authors.clear()
        self._pending.clear()
        self.size_bytes = 0
        drops = self._retake([*returned, *waiting], tip)
        self.allowance.keep(self._entries)
        for author, queue in self._authors.items():
            queue.protected = min(promised.get(author, 0), queue.following)
        return drops

    def _retake(self, items: Iterable[Statement | Checked], tip: Tip) -> tuple[Drop, ...]:
        """Take in what was here before; what another one must come before is tried again after it."""
        drops: list[Drop] = []
        waiting = list(items)
        while True:
            again: list[tuple[Statement | Checked, RuleViolation | MempoolRefusal]] = []
            for item in waiting:
                statement = item.statement if isinstance(item, Checked) else item
                if statement.id in self._by_id:
                    continue
                try:
                    self._take(item, tip, self._reserved_room)
                except (RuleViolation, MempoolRefusal) as error:
                    if error.code in FIXABLE or isinstance(error, SequenceGap):
                        again.append((item, error))
                    else:
                        drops.append(self._drop(statement, tip, error.code, error.message))
            if not again or len(again) == len(waiting):
                break
            waiting = [item for item, _ in again]
        for item, reason in again:
            statement = item.statement if isinstance(item, Checked) else item
            drops.append(self._drop(statement, tip, reason.code, reason.message))
        return tuple(drops)

    def _check_standing(self, queue: AuthorQueue, tip: Tip) -> tuple[Drop, ...]:
        """Drop from the first statement on that can no longer enter the next block or one after it."""
        first = queue.entries[0].statement
        held = tip.state.roles_at(first.author, tip.height + 1)
        for index, entry in enumerate(queue.entries):
            header = entry.statement.header
            if header.valid_until_height <= tip.height:
                message = f"expected a block up to height {header.valid_until_height}, got none"
                return self._cut(queue, index, tip, "expired-statement", message)
            if not held & PERMISSIONS[header.kind]:
                message = f"expected a role for {header.kind.label} at height {tip.height + 1}, got none"
                return self._cut(queue, index, tip, "unauthorized-author", message)
        try:
            Pending(self.params).apply(tip, queue.entries[0].checked)
        except RuleViolation as error:
            return self._on_unusable(queue, tip, error)
        self._stalled.pop(first.leaf, None)
        return ()

    def _on_unusable(self, queue: AuthorQueue, tip: Tip, error: RuleViolation) -> tuple[Drop, ...]:
        """An author's next statement breaks a rule of its kind: wait for what it names, but not for ever."""
        entry = queue.entries[0]
        if error.code in FIXABLE:
            if any(item in self._by_id for item in references(entry.checked)):
                return ()
            since = self._stalled.setdefault(entry.statement.leaf, tip.height)
            if tip.height - since < self.limits.stalled_blocks:
                return ()
        return self._cut(queue, 0, tip, error.code, error.message)

    def _cut(self, queue: AuthorQueue, index: int, tip: Tip, code: str, message: str) -> tuple[Drop, ...]:
        """Drop an author's statements from `index` on: without that one the others have a gap."""
        cause = queue.entries[index].statement
        drops = []
        while len(queue) > index:
            entry = queue.pop_last()
            self._forget(entry)
            if entry.statement is cause:
                drops.append(self._drop(cause, tip, code, message))
            else:
                why = f"statement {cause.id.hex()} before it was dropped ({code})"
                drops.append(self._drop(entry.statement, tip, "follows-dropped", why))
        return tuple(reversed(drops))

    def _evict(self, entry: Entry, tip: Tip) -> Drop:
        author = entry.statement.author
        self._authors[author].pop_last()
        self._forget(entry)
        if not self._authors[author]:
            del self._authors[author]
        return self._drop(entry.statement, tip, "evicted", "the pool was full; it was not acknowledged here")

    def _forget(self, entry: Entry) -> None:
        """Remove an entry that left its author's queue from everything else."""
        del self._entries[entry.statement.leaf], self.checked[entry.statement.leaf]
        del self._by_id[entry.statement.id]
        self._pending.forget(entry.statement.leaf, entry.keys)
        self.allowance.on_left(entry.statement.leaf)
        self.size_bytes -= entry.size_bytes

    def _forget_empty(self) -> None:
        for author in [author for author, queue in self._authors.items() if not queue]:
            del self._authors[author]

    def _drop(self, statement: Statement, tip: Tip, code: str, message: str) -> Drop:
        drop = Drop(
            id=statement.id,
            leaf=statement.leaf,
            author=statement.author,
            sequence=statement.sequence,
            code=code,
            message=message,
            height=tip.height,
        )
        self._drops.pop(statement.id, None)
        self._drops[statement.id] = drop
        while len(self._drops) > self.limits.drops:
            del self._drops[next(iter(self._drops))]
        return drop

    # For the miner

    def select(
        self,
        tip: Tip,
        *,
        max_bytes: int | None = None,
        max_statements: int | None = None,
        max_author_bytes: int | None = None,
    ) -> tuple[Statement, ...]:
        """Return statements that the next block can hold in this order; limits default to the network's."""
        self._check_tip(tip)
        params = self.params
        room = BlockRoom(
            max_bytes=params.max_body_bytes if max_bytes is None else max_bytes,
            max_statements=params.max_statements if max_statements is None else max_statements,
            max_author_bytes=params.max_author_bytes if max_author_bytes is None else max_author_bytes,
        )
        return select_statements(self._authors.values(), Pending(params), tip, room)
