"""What the operator does about peers while the node runs: name and forget them, ban and pardon them.

Owns the effects on open connections, and that what was done is on disk before it is acknowledged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from .config_kinds import PeerPattern
from .peer_door import PeerDoor
from .peer_link import PeerLink
from .protocol.actions import PeerId
from .protocol.peer_bans import Ban
from .protocol.peer_counts import BY_OPERATOR, PeerCounts
from .protocol.peer_entry import Endpoint
from .wire.faults import Reason


class TooManyPeers(Exception):
    """The operator named as many peers as a node takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedPeer:
    """A peer that the operator named, in the configuration or while the node ran."""

    endpoint: Endpoint
    connected: bool
    failures: int
    """Tries that failed since the last one that did not."""
    last_success_ms: int
    """Unix milliseconds; 0: never."""


class PeerAdmin:
    """See the module's text."""

    def __init__(
        self,
        *,
        door: PeerDoor,
        links: Mapping[PeerId, PeerLink],
        end: Callable[[PeerLink, str, str], None],
        clock_ms: Callable[[], int],
        save: Callable[[], Awaitable[None]],
    ) -> None:
        """`links` are the open connections, which `end` closes; `save` writes what is known, or raises StoreError."""
        self._door = door
        self._links = links
        self._end = end
        self._clock_ms = clock_ms
        self._save = save

    @property
    def address_counts(self) -> tuple[int, int]:
        """How many addresses the node has heard of, and how many of them worked."""
        new, tried = self._door.book.counts
        return new + tried, tried

    @property
    def counts(self) -> PeerCounts:
        """What became of peers since the node started."""
        return self._door.counts

    def connections(self) -> Counter[str]:
        """Return how many connections there are of each kind: `inbound`, or why this node dialed."""
        return Counter(link.kind_name for link in self._links.values())

    def named(self) -> Sequence[NamedPeer]:
        """Return the peers that the operator named."""
        connected = {link.endpoint for link in self._links.values()}
        connected |= self._door.endpoints_of(link.node_key for link in self._links.values())
        return [
            NamedPeer(
                endpoint=entry.endpoint,
                connected=entry.endpoint in connected,
                failures=entry.failures,
                last_success_ms=entry.last_success_ms,
            )
            for entry in sorted(self._door.book.manual(), key=lambda entry: entry.endpoint)
        ]

    async def add(self, host: str, port: int) -> bool:
        """Name a peer: the node stays connected to it, now and after a restart; tell whether it is new as such.

        Raises:
            TooManyPeers: as many are named already as a node takes.
            StoreError: it could not be saved.
        """
        book = self._door.book
        most = book.policy.manual
        if not book.is_manual((host, port)) and len(book.manual()) >= most:
            raise TooManyPeers(f"expected at most {most} named peers, got one more; remove one first")
        is_new = book.add_manual(host, port)
        await self._save()
        return is_new

    async def remove(self, host: str, port: int) -> bool:
        """Forget a named peer and end the connection to an address; tell whether there was either."""
        was_named = self._door.book.remove_manual(host, port)
        meant = [link for link in self._links.values() if link.endpoint == (host, port)]
        for link in meant:
            self._end(link, Reason.DONE, "this node's operator ended the connection")
        await self._save()
        return was_named or bool(meant)

    def bans(self) -> Mapping[PeerPattern, Ban]:
        """Return the bans in force."""
        return self._door.bans.active(self._clock_ms())

    async def ban(self, pattern: PeerPattern, reason: str, seconds: int) -> Ban:
        """Keep a node key, an address or a network out, and end its connections; raises StoreError."""
        ban = self._door.bans.ban(
            pattern, reason, now_ms=self._clock_ms(), ban_ms=seconds * 1_000, by_operator=True
        )
        self._door.counts.bans[BY_OPERATOR] += 1
        for link in list(self._links.values()):
            if pattern.matches(link.connection.remote[0], link.node_key):
                self._end(link, Reason.BANNED, ban.reason)
        await self._save()
        return ban

    async def unban(self, pattern: PeerPattern) -> bool:
        """End a ban; tell whether there was one. Raises StoreError."""
        was_banned = self._door.bans.unban(pattern)
        await self._save()
        return was_banned
