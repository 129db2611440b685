"""Keys that said two things in one place: counted and shown, never punished.

A *block equivocation*: one key sealed two blocks on one parent. A *statement equivocation*: one author signed two
statements (two ids) with one sequence, of which each could still be sealed when the other was first seen here. A
`cancel` is no part of it, since giving up a sequence is what it is for, nor is what the pool dropped for a rule. All the
same an honest key can be counted: a miner that lost its newest block in a power cut seals another one on the same parent,
and so do two machines with one key. That is why nothing follows from it but what people make of it.

Owns the counts, the evidence (two hashes for each place, up to a number of places for a key, for the keys that did it
last), and a bounded memory of statements that were seen. What is handed over was checked: headers with work and seal,
statements with a signature that verifies.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ...consensus.chain import HeaderNode
from ...consensus.kinds import Kind
from ...consensus.statement import Statement
from ..wire.limits import MAX_EQUIVOCATIONS_PER_KEY, MAX_EQUIVOCATORS, MAX_STATEMENTS_SEEN


class EquivocationKind(StrEnum):
    """What there are two of."""

    BLOCK = "block"
    STATEMENT = "statement"


@dataclass(frozen=True, slots=True, kw_only=True)
class Equivocation:
    """Two things that one key said in one place."""

    kind: EquivocationKind
    key: bytes
    """Ledger key, 32 bytes."""
    number: int
    """Height of both blocks, or sequence of both statements."""
    parent: bytes
    """Hash of both blocks' parent; empty for statements."""
    first: bytes
    """Block hash or statement id of the one that was here before."""
    second: bytes
    at_ms: int
    """When the second one came, Unix milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EquivocationCounts:
    """Places since the node started."""

    blocks: int = 0
    statements: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EquivocationLimits:
    """Policy; what is beyond it is not looked at."""

    keys: int = MAX_EQUIVOCATORS
    """Keys whose evidence is kept; those that did it longest ago go first."""
    per_key: int = MAX_EQUIVOCATIONS_PER_KEY
    """Places that are counted of one of these keys."""
    seen: int = MAX_STATEMENTS_SEEN
    """Statements that are remembered, the oldest go first."""


DEFAULT_LIMITS = EquivocationLimits()

_Place = tuple[EquivocationKind, int, bytes]
"""Kind, height or sequence, parent."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A statement that was seen, and for which block (the one that holds it, or the next one)."""

    id: bytes
    valid_until: int
    height: int

    def stands_with(self, other: _Seen) -> bool:
        """Tell whether each could be sealed when the other was first seen."""
        return self.valid_until >= other.height and other.valid_until >= self.height


class Equivocations:
    """See the module's text."""

    def __init__(self, limits: EquivocationLimits = DEFAULT_LIMITS) -> None:
        """Start with nothing seen."""
        self._limits = limits
        self._keys: OrderedDict[bytes, dict[_Place, Equivocation]] = OrderedDict()
        """Who did it last is last."""
        self._seen: OrderedDict[tuple[bytes, int], _Seen] = OrderedDict()
        """By author and sequence."""
        self.counts = EquivocationCounts()
        self.on_found: Callable[[Equivocation], None] = lambda _found: None
        """Told of each place, once."""

    def __len__(self) -> int:
        """Return how many keys there is evidence of."""
        return len(self._keys)

    def of(self, key: bytes) -> Sequence[Equivocation]:
        """Return the evidence of one key, oldest first."""
        return tuple(self._keys.get(key, {}).values())

    def all(self) -> Sequence[tuple[bytes, Sequence[Equivocation]]]:
        """Return the evidence of all keys, those that did it last first."""
        return [(key, tuple(found.values())) for key, found in reversed(self._keys.items())]

    # Blocks.

    def on_header(self, node: HeaderNode, now_ms: int) -> Equivocation | None:
        """Look at a header of the tree, whose older siblings came before it."""
        other = node.older_sibling
        while other is not None and other.producer != node.producer:
            other = other.older_sibling
        if other is None or node.parent is None:
            return None
        return self._note(
            Equivocation(
                kind=EquivocationKind.BLOCK,
                key=node.producer,
                number=node.height,
                parent=node.parent.hash,
                first=other.hash,
                second=node.hash,
                at_ms=now_ms,
            )
        )

    # Statements.

    def is_suspect(self, statement: Statement, height: int) -> bool:
        """Tell whether a statement whose signature nobody checked would be a new equivocation if that verifies.

        `height`: of the block that holds it, or of the next block.
        """
        held = self._conflict(statement, height)
        return held is not None and self._has_room(statement.author, _place(statement))

    def on_statement(self, statement: Statement, *, height: int, now_ms: int) -> Equivocation | None:
        """Take a statement whose signature verifies; `height` as in :meth:`is_suspect`."""
        if self.knows(statement) or statement.header.kind is Kind.CANCEL:
            return None
        held = self._conflict(statement, height)
        if held is None:
            self._remember(statement, height)
            return None
        return self._note(
            Equivocation(
                kind=EquivocationKind.STATEMENT,
                key=statement.author,
                number=statement.sequence,
                parent=b"",
                first=held.id,
                second=statement.id,
                at_ms=now_ms,
            )
        )

    def knows(self, statement: Statement) -> bool:
        """Tell whether this very statement is the one that is remembered for its place."""
        seen = self._seen.get((statement.author, statement.sequence))
        return seen is not None and seen.id == statement.id

    def forget(self, places: Iterable[tuple[bytes, int, bytes]]) -> None:
        """Let go of statements (author, sequence, id) that no block can hold any more: another may take their place."""
        for author, sequence, statement_id in places:
            seen = self._seen.get((author, sequence))
            if seen is not None and seen.id == statement_id:
                del self._seen[author, sequence]

    def _conflict(self, statement: Statement, height: int) -> _Seen | None:
        """Return the other statement that is remembered for the same place, if both can stand."""
        if statement.header.kind is Kind.CANCEL:
            return None
        seen = self._seen.get((statement.author, statement.sequence))
        if seen is None or seen.id == statement.id:
            return None
        return seen if seen.stands_with(_seen(statement, height)) else None

    def _remember(self, statement: Statement, height: int) -> None:
        key = (statement.author, statement.sequence)
        old, new = self._seen.get(key), _seen(statement, height)
        if old is not None and (old.id == new.id or old.valid_until > new.valid_until):
            return  # the one that can be sealed for longer is the one to compare with
        self._seen[key] = new
        self._seen.move_to_end(key)
        while len(self._seen) > self._limits.seen:
            self._seen.popitem(last=False)

    # Inside.

    def _has_room(self, key: bytes, place: _Place) -> bool:
        found = self._keys.get(key, {})
        return place not in found and len(found) < self._limits.per_key

    def _note(self, found: Equivocation) -> Equivocation | None:
        place = (found.kind, found.number, found.parent)
        if not self._has_room(found.key, place):
            return None
        self._keys.setdefault(found.key, {})[place] = found
        self._keys.move_to_end(found.key)
        while len(self._keys) > self._limits.keys:
            self._keys.popitem(last=False)
        is_block = found.kind is EquivocationKind.BLOCK
        self.counts = EquivocationCounts(
            blocks=self.counts.blocks + is_block, statements=self.counts.statements + (not is_block)
        )
        self.on_found(found)
        return found


def _seen(statement: Statement, height: int) -> _Seen:
    return _Seen(statement.id, statement.header.valid_until_height, height)


def _place(statement: Statement) -> _Place:
    return EquivocationKind.STATEMENT, statement.sequence, b""
