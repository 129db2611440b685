"""Sockets whose peer did not prove who it is yet: how many, and whose make room.

Owns the count by source. One source group holds a part of the places at most; when all are taken, the oldest
socket of the most crowded group makes room for one of a less crowded group, so that whoever opens sockets
and says nothing keeps nobody out.
"""

from __future__ import annotations

from collections import Counter

from .peer_groups import network_group


class PendingSockets:
    """See the module's text. Tickets are numbers in the order of arrival."""

    def __init__(self, *, total: int, per_source: int) -> None:
        """At most `total` places, of which one source group has `per_source` at most."""
        self._total = total
        self._per_source = per_source
        self._groups: dict[int, str] = {}
        self._next = 0

    def __len__(self) -> int:
        """Number of sockets."""
        return len(self._groups)

    def admit(self, host: str) -> tuple[int | None, int | None]:
        """Return a ticket for a socket from `host`, or None, and the ticket of one that must go for it, or None."""
        group = network_group(host)
        counts = Counter(self._groups.values())
        if counts[group] >= self._per_source:
            return None, None
        victim = None
        if len(self._groups) >= self._total:
            crowd, size = max(counts.items(), key=lambda item: item[1], default=("", 0))
            if size <= counts[group] + 1:
                return None, None
            victim = next(ticket for ticket, owner in self._groups.items() if owner == crowd)
            del self._groups[victim]
        self._next += 1
        self._groups[self._next] = group
        return self._next, victim

    def release(self, ticket: int) -> None:
        """Give a place back; a ticket that was taken away already is fine."""
        self._groups.pop(ticket, None)
