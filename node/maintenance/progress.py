"""How far a long job is, told to whoever shows it."""

from __future__ import annotations

from typing import Protocol

STEP_ROWS = 256
"""A job tells its progress after this many rows or blocks."""


class Progress(Protocol):
    """Told of the name of the present part, what is done of it, and how much there is."""

    def __call__(self, part: str, done: int, total: int, /) -> None:
        """Show it; called from the thread that works."""
        ...


def silent(_part: str, _done: int, _total: int, /) -> None:
    """Show nothing."""
