"""Choosing the statements of the next block: fair between authors, in sequence within each.

Owns the order and the size limits. Every choice is tried on the state that the earlier ones leave, so the
list as a whole is one that a block can hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ...consensus.errors import RuleViolation
from ...consensus.statement import Statement
from .queue import AuthorQueue, Entry
from .trial import Pending, Tip


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRoom:
    """What a block may hold."""

    max_bytes: int
    max_statements: int
    max_author_bytes: int


class _Line:
    """One author's statements that are not chosen yet."""

    def __init__(self, queue: AuthorQueue, quota_bytes: int) -> None:
        self._rest: Iterator[Entry] = iter(queue.entries)
        self.head = next(self._rest, None)
        self.quota_bytes = quota_bytes

    def advance(self, size: int) -> None:
        """Step to the next statement after one of `size` bytes was chosen."""
        self.quota_bytes -= size
        self.head = next(self._rest, None)


def select_statements(
    queues: Iterable[AuthorQueue], pending: Pending, tip: Tip, room: BlockRoom
) -> tuple[Statement, ...]:
    """Take one statement of each author in turn, the author that waits longest first.

    A statement that the state does not allow yet (it may name one that another author sends in this very
    block) is tried again after the others; an author whose next statement does not fit is done.
    """
    chosen: list[Statement] = []
    left_bytes = room.max_bytes
    ordered = sorted(queues, key=lambda queue: queue.entries[0].arrival)
    lines = [_Line(queue, room.max_author_bytes) for queue in ordered]
    while lines:
        refused: list[_Line] = []
        before = len(chosen)
        while lines:
            following = []
            for line in lines:
                entry = line.head
                if entry is None or entry.size_bytes > min(left_bytes, line.quota_bytes):
                    continue
                if len(chosen) == room.max_statements:
                    return tuple(chosen)
                if not _fits(pending, tip, entry):
                    refused.append(line)
                    continue
                chosen.append(entry.statement)
                left_bytes -= entry.size_bytes
                line.advance(entry.size_bytes)
                following.append(line)
            lines = following
        lines = refused if len(chosen) > before else []
    return tuple(chosen)


def _fits(pending: Pending, tip: Tip, entry: Entry) -> bool:
    try:
        pending.apply(tip, entry.checked)
    except RuleViolation:
        return False
    return True
