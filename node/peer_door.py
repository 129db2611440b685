"""Who is let in, who has to go for whom, and what misbehaviour costs: the operator's lists, bans and places.

Owns the decisions about a peer's connection as such, from address and node key. What a connection carries is the hub's
business; the rules themselves are those of `protocol.peer_bans` and `protocol.peer_eviction`.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from .config_kinds import PeerPattern
from .peer_link import PeerLink
from .protocol.peer_bans import BanList
from .protocol.peer_book import AddressBook
from .protocol.peer_counts import PeerCounts
from .protocol.peer_entry import Endpoint
from .protocol.peer_eviction import InboundPeer, choose_to_evict
from .protocol.peer_groups import canonical_host, network_group
from .wire.connection import Connection
from .wire.faults import HandshakeError, Reason
from .wire.limits import PROTOCOL_BAN_SECONDS

KEYS_MAX: Final = 1_024
"""Addresses whose node key is remembered."""

_log = logging.getLogger(__name__)

Refusal = tuple[Reason, str]
"""Why a connection is not served, and a line of text."""


class PeerDoor:
    """See the module's text."""

    def __init__(
        self,
        *,
        book: AddressBook,
        bans: BanList,
        clock_ms: Callable[[], int],
        max_inbound: int,
        allow: Sequence[PeerPattern] = (),
        deny: Sequence[PeerPattern] = (),
    ) -> None:
        """`allow`, when not empty, are the only peers to talk to, and they are never evicted; `deny` go first."""
        self.book = book
        self.bans = bans
        self.max_inbound = max_inbound
        self.counts = PeerCounts()
        self._clock_ms = clock_ms
        self._allow = tuple(allow)
        self._deny = tuple(deny)
        self._keys: OrderedDict[Endpoint, bytes] = OrderedDict()
        self.on_ban: Callable[[], None] = lambda: None
        """Called after an offence made a ban."""

    # Node keys of addresses.

    def note_key(self, endpoint: Endpoint, node_key: bytes) -> None:
        """Remember which node answered at an address."""
        self._keys[endpoint] = node_key
        self._keys.move_to_end(endpoint)
        while len(self._keys) > KEYS_MAX:
            self._keys.popitem(last=False)

    def endpoints_of(self, node_keys: Iterable[bytes]) -> set[Endpoint]:
        """Return the addresses at which these nodes answered."""
        wanted = set(node_keys)
        return {endpoint for endpoint, key in self._keys.items() if key in wanted}

    # The lists.

    def admits_host(self, host: str) -> bool:
        """Tell whether an address may connect, as far as that can be said before its node key is known."""
        if canonical_host(host) is None:
            return True  # a name: what it stands for is seen when it is connected
        if any(item.matches(host) for item in self._deny):
            return False
        only_networks = self._allow and all(item.network is not None for item in self._allow)
        if only_networks and not any(item.matches(host) for item in self._allow):
            return False
        return self.bans.find(host, None, self._clock_ms()) is None

    def may_dial(self, endpoint: Endpoint) -> bool:
        """Tell whether an address is worth a try, by its host and by the node that answered there last."""
        host, key = endpoint[0], self._keys.get(endpoint)
        if not self.admits_host(host):
            return False
        ban = None if key is None else self.bans.find("", key, self._clock_ms())
        return ban is None or (not ban.by_operator and self.book.is_manual(endpoint))

    def refusal(self, connection: Connection, dialed: Endpoint | None) -> Refusal | None:
        """Return why the lists keep a proven peer out, if they do."""
        host, key = connection.remote[0], connection.peer.node_key
        if not self._is_admitted(host, key):
            return Reason.BANNED, "this node's operator does not talk to this peer"
        ban = self.bans.find(host, key, self._clock_ms())
        if ban is not None and (ban.by_operator or not self.is_named(dialed, key)):
            return Reason.BANNED, ban.reason
        return None

    def _is_admitted(self, host: str, node_key: bytes) -> bool:
        if any(item.matches(host, node_key) for item in self._deny):
            return False
        return not self._allow or self._is_allowed(host, node_key)

    def _is_allowed(self, host: str, node_key: bytes) -> bool:
        return any(item.matches(host, node_key) for item in self._allow)

    def is_named(self, dialed: Endpoint | None, node_key: bytes) -> bool:
        """Tell whether a peer is one that the operator named: by the address dialed, or the node behind one."""
        if dialed is not None and self.book.is_manual(dialed):
            return True
        return any(key == node_key and self.book.is_manual(endpoint) for endpoint, key in self._keys.items())

    # Places.

    def is_protected(self, host: str, node_key: bytes, dialed: Endpoint | None = None) -> bool:
        """Tell whether a peer never has to go for another one."""
        return self.is_named(dialed, node_key) or self._is_allowed(host, node_key)

    def choose_victim(self, links: Iterable[PeerLink]) -> PeerLink | None:
        """Return the inbound connection that makes room for a newcomer; None when all are protected."""
        now_ms = self._clock_ms()
        candidates = {link.id: link for link in links if link.dialed is None and not link.is_ended}
        peers = [
            InboundPeer(
                id=link.id,
                group=network_group(link.connection.remote[0]),
                since=link.since,
                ping_seconds=link.connection.session.best_round_trip_seconds,
                last_block=link.last_block,
                last_statement=link.last_statement,
                is_discouraged=self.bans.is_discouraged(link.connection.remote[0], now_ms),
                is_protected=self.is_protected(link.connection.remote[0], link.node_key),
            )
            for link in candidates.values()
        ]
        victim = choose_to_evict(peers, self.book.secret)
        return None if victim is None else candidates[victim]

    # Misbehaviour.

    def on_refused(self, remote: tuple[str, int], error: HandshakeError) -> None:
        """A stranger broke the protocol before it proved who it is: its address is all there is to remember."""
        if error.misbehaviour:
            self.bans.discourage(remote[0], self._clock_ms() + PROTOCOL_BAN_SECONDS * 1_000)

    def on_offence(self, link: PeerLink, reason: str, detail: str) -> None:
        """A peer broke a rule; one that the operator named is disconnected and not banned."""
        host = link.connection.remote[0]
        _log.warning("peer %s:%d misbehaved: %s: %s", *link.connection.remote, reason, detail)
        self.counts.offences[reason] += 1
        if self.is_named(link.dialed, link.node_key):
            return
        if self.bans.on_offence(link.node_key, host, reason, detail, self._clock_ms()) is not None:
            self.counts.bans[reason] += 1
            self.on_ban()
