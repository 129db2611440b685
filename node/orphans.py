"""Statements that came before something they need: an earlier one of their author, or one they name.

Owns a bounded memory of them by what they wait for, so that statements which take different ways through the
network heal by themselves. It checks nothing: the caller keeps only what is signed and may be said.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from ..consensus.statement import Statement
from .wire.limits import MAX_ORPHAN_BYTES, MAX_ORPHANS


class Orphans:
    """See the module's text. One thread at a time may change it; `get` may be called from another."""

    def __init__(self, max_count: int = MAX_ORPHANS, max_bytes: int = MAX_ORPHAN_BYTES) -> None:
        """Start empty. When there are more, the oldest are dropped first."""
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._bytes = 0
        self._waiting: OrderedDict[bytes, tuple[Statement, tuple[bytes, ...]]] = OrderedDict()
        self._by_need: dict[bytes, dict[bytes, None]] = {}

    def __len__(self) -> int:
        """Number of statements that wait."""
        return len(self._waiting)

    def get(self, leaf: bytes) -> Statement | None:
        """Return a statement that waits."""
        entry = self._waiting.get(leaf)
        return None if entry is None else entry[0]

    def keep(self, statement: Statement, named: Iterable[bytes] = ()) -> None:
        """Keep a statement until the one before it, or one of the ids ``named``, is there."""
        self._drop(statement.leaf)
        needs = (_place(statement.author, statement.sequence - 1), *named)
        self._waiting[statement.leaf] = statement, needs
        self._bytes += statement.size_bytes
        for need in needs:
            self._by_need.setdefault(need, {})[statement.leaf] = None
        while len(self._waiting) > self._max_count or self._bytes > self._max_bytes:
            self._drop(next(iter(self._waiting)))

    def take_after(self, statement: Statement) -> tuple[Statement, ...]:
        """Take out what waited for a statement that is there now."""
        leaves = [
            leaf
            for need in (_place(statement.author, statement.sequence), statement.id)
            for leaf in self._by_need.get(need, ())
        ]
        return tuple(found for leaf in dict.fromkeys(leaves) if (found := self._drop(leaf)) is not None)

    def _drop(self, leaf: bytes) -> Statement | None:
        entry = self._waiting.pop(leaf, None)
        if entry is None:
            return None
        statement, needs = entry
        self._bytes -= statement.size_bytes
        for need in needs:
            waiting = self._by_need[need]
            waiting.pop(leaf, None)
            if not waiting:
                del self._by_need[need]
        return statement


def _place(author: bytes, sequence: int) -> bytes:
    return author + (sequence % 2**64).to_bytes(8, "big")
