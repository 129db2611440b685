"""Which of two connections between the same two nodes stays, without I/O: both ends say the same."""

from __future__ import annotations

CROSSING_SECONDS = 5.0
"""Time within which both ends see two connections that cross. Beyond it they may not agree which one is newer, end both,
and connect again."""


def newer_stays(*, older_seconds: float, same_way: bool, opener: bytes, other: bytes) -> bool:
    """Tell whether a new connection replaces one that has been open for `older_seconds`.

    It does: who opened it may have lost the older one long before the other end hears of it. But of two that
    crossed each other, opened by both ends at about the same time, the one that the smaller key opened stays.
    `same_way`: one node opened both; `opener` is the key of the node that opened the new one, `other` the other's.
    """
    return older_seconds > CROSSING_SECONDS or same_way or opener < other
