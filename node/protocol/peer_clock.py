"""What the clocks of peers say about this node's clock: without I/O.

Owns a few time differences, one for each peer that this node chose to connect to: whoever connects by himself is not
asked, since he could come often. This node's time is never changed by them; the operator is told.
"""

from __future__ import annotations

from collections import OrderedDict
from statistics import median

CLOCK_PEERS_MIN = 3
"""Peers that must have told their time before anything is concluded."""

CLOCK_PEERS_MAX = 32
"""Peers whose time is remembered, the latest."""


class ClockOffsets:
    """Differences to the clocks of peers, in milliseconds; positive when theirs are ahead."""

    def __init__(self, warn_ms: int) -> None:
        """`warn_ms`: a median difference from which on the operator is told."""
        self._warn_ms = warn_ms
        self._offsets: OrderedDict[bytes, int] = OrderedDict()

    def add(self, node_key: bytes, their_ms: int, now_ms: int) -> None:
        """Take what a peer said was the time when it arrived here."""
        self._offsets.pop(node_key, None)
        self._offsets[node_key] = their_ms - now_ms
        while len(self._offsets) > CLOCK_PEERS_MAX:
            self._offsets.popitem(last=False)

    def median_ms(self) -> int | None:
        """Return the median difference; None while too few peers said theirs."""
        if len(self._offsets) < CLOCK_PEERS_MIN:
            return None
        return int(median(self._offsets.values()))

    def warning(self) -> str | None:
        """Return what to tell the operator, if this node's clock seems wrong."""
        offset = self.median_ms()
        if offset is None or abs(offset) <= self._warn_ms:
            return None
        way = "behind" if offset > 0 else "ahead of"
        return (
            f"clock: expected at most {self._warn_ms / 1_000:g} s from the clocks of peers, got {abs(offset) / 1_000:g} s "
            f"{way} the median of {len(self._offsets)}; compare this machine's clock with the right time"
        )
