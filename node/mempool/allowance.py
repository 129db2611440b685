"""How many submitted statements may wait: about as many as the chain seals in a few seconds.

Owns the measure of what blocks took lately, and who may still hand something in. It is about what this node's
submitters bring; what other nodes took comes by relay and is bounded by the pool's own limits.

Room that a block makes is seen by every node at once. If each filled it, the network would take many times what it
seals. So a node goes by the part of the blocks that it brought itself: its submitters may have waiting what of it is
sealed in a few seconds, and a little more. Whoever asks for more than others lets all wait longer, so that all
nodes' parts fall, and the little more brings the smaller ones up: in the end all that ask have the same part.

The same holds for the authors of one node: when its room is used up, those with fewer statements than the others may
still hand in, so that one busy author keeps nobody else out.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Container
from dataclasses import dataclass
from math import ceil
from typing import Final

BACKLOG_SECONDS: Final = 2.5
"""What waits is sealed in about this time, or in `BACKLOG_SPACINGS` block times where those are longer."""
BACKLOG_SPACINGS: Final = 2
OWN_MIN: Final = 32
"""Statements that the submitters of a node may have waiting, and as many more as the rest of this table says."""
IDLE_STATEMENTS: Final = 256
"""Statements that a network takes at once in which little was sealed lately, in `IDLE_SECONDS`."""
IDLE_SECONDS: Final = 10.0
CROWD: Final = 4.0
"""When this many times what should wait is waiting, whoever brought it, nothing more is taken from submitters."""
RESERVE: Final = 0.5
"""Room, as a share of a node's own, that only authors with few statements may use."""
RATE_BLOCKS: Final = 6
"""Blocks from which rates are measured."""
RATE_SECONDS_MIN: Final = 1.0
"""Blocks of a catch-up come in no time and tell no rate."""
RETRY_SECONDS_MAX: Final = 60


@dataclass(frozen=True, slots=True)
class _Sealed:
    """Statements that left the pool with a block, and those of them that this node's submitters brought."""

    at: float
    all: int
    own: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much may wait at some moment."""

    own: int
    """Of what this node's submitters bring."""
    all: int
    """Whoever brought it, before this node's submitters may bring more."""
    retry_seconds: int
    """Until there is room for more, if blocks go on as they do."""


class Allowance:
    """See the module's text. Times are those of one monotonic clock, in seconds."""

    def __init__(self, *, spacing_ms: int) -> None:
        """For blocks about `spacing_ms` apart."""
        self._seconds = max(BACKLOG_SECONDS, BACKLOG_SPACINGS * spacing_ms / 1_000)
        self._blocks: deque[_Sealed] = deque(maxlen=RATE_BLOCKS + 1)
        self._own: dict[bytes, bytes] = {}
        """Leaf -> author of what this node's submitters brought and what waits."""
        self._authors: Counter[bytes] = Counter()
        self._own_left = 0

    def on_taken(self, leaf: bytes, author: bytes) -> None:
        """A submitter's statement is in the pool."""
        if leaf not in self._own:
            self._own[leaf] = author
            self._authors[author] += 1

    def on_left(self, leaf: bytes) -> None:
        """A statement is not in the pool any more."""
        author = self._own.pop(leaf, None)
        if author is None:
            return
        self._own_left += 1
        self._authors[author] -= 1
        if not self._authors[author]:
            del self._authors[author]

    def on_block(self, statements: int, now: float) -> None:
        """Note what was sealed; that which was this node's own has left the pool."""
        self._blocks.append(_Sealed(now, statements, self._own_left))
        self._own_left = 0

    def keep(self, leaves: Container[bytes]) -> None:
        """Let go of what is not among `leaves`: the pool was made anew."""
        for leaf in [leaf for leaf in self._own if leaf not in leaves]:
            self.on_left(leaf)

    def rates(self, now: float) -> tuple[float, float]:
        """Return how many statements the last blocks took per second, and how many of this node's own."""
        if not self._blocks:
            return 0.0, 0.0
        seconds = max(now - self._blocks[0].at, RATE_SECONDS_MIN)
        later = list(self._blocks)[1:]
        return sum(block.all for block in later) / seconds, sum(block.own for block in later) / seconds

    def limits(self, waiting: int, now: float) -> Limits:
        """Return how much may wait at this moment, when `waiting` statements are in the pool."""
        every, own = self.rates(now)
        # Copied at once: the chain's thread appends while a handler's reads.
        blocks = list(self._blocks)
        lately = sum(block.all for block in blocks if now - block.at < IDLE_SECONDS)
        others = max(0, waiting - len(self._own))
        idle = max(0, IDLE_STATEMENTS - lately - others)
        limit = OWN_MIN + idle + int(self._seconds * own)
        excess = max(0, len(self._own) - limit)
        return Limits(
            own=limit,
            all=int(CROWD * max(IDLE_STATEMENTS, self._seconds * every)),
            retry_seconds=min(ceil(1 + (excess / own if own else 0)), RETRY_SECONDS_MAX),
        )

    def room(self, author: bytes | None, limits: Limits, *, coming: int = 0) -> int:
        """Return how many statements an author (None: whoever has most room) may hand in, 0 or less for none.

        `coming`: others of this node's own that are on their way.
        """
        own = len(self._own) + coming
        reserve = int(limits.own * (1 + RESERVE)) - own
        if author is not None:
            reserve = min(reserve, limits.own // max(1, len(self._authors)) - self._authors[author])
        return max(limits.own - own, reserve)
