"""One author's waiting statements, in sequence and without a gap.

Owns the order within an author and its byte count. It checks no rule.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from ...consensus.apply import Checked
from ...consensus.statement import Statement
from .trial import Key


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entry:
    """One pooled statement."""

    checked: Checked
    size_bytes: int
    arrival: int
    """Counts up with every statement taken in."""
    keys: tuple[Key, ...]
    """What it would change, for `trial.Pending.forget`."""

    @property
    def statement(self) -> Statement:
        """The statement itself."""
        return self.checked.statement


class AuthorQueue:
    """Entries of one author; sequences are consecutive."""

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque()
        self.size_bytes = 0
        self.protected = 0
        """Sequences below this were acknowledged, or stand before one that was."""

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def following(self) -> int:
        """Sequence after the last entry; only for a queue that is not empty."""
        return self.entries[-1].statement.sequence + 1

    def append(self, entry: Entry) -> None:
        """Add the statement with the next sequence."""
        self.entries.append(entry)
        self.size_bytes += entry.size_bytes

    def pop_first(self) -> Entry:
        """Remove the lowest sequence."""
        entry = self.entries.popleft()
        self.size_bytes -= entry.size_bytes
        return entry

    def pop_last(self) -> Entry:
        """Remove the highest sequence."""
        entry = self.entries.pop()
        self.size_bytes -= entry.size_bytes
        return entry

    def evictable(self) -> Iterator[Entry]:
        """Yield what nobody was promised, highest sequence first."""
        for entry in reversed(self.entries):
            if entry.statement.sequence < self.protected:
                return
            yield entry

    def up_to(self, sequence: int) -> tuple[Entry, ...]:
        """Return the entries up to and including a sequence."""
        if not self.entries:
            return ()
        count = sequence + 1 - self.entries[0].statement.sequence
        return tuple(islice(self.entries, max(0, count)))
