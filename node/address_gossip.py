"""Addresses and clocks between this node and its peers.

Owns what is said of addresses on each connection: the question and its answer, this node's own address, and new
addresses that are passed on. What is believed and kept is the address book's decision.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from .peer_link import PeerLink
from .protocol.actions import Action, PeerId, Send
from .protocol.peer_book import AddressBook
from .protocol.peer_clock import ClockOffsets
from .protocol.peer_entry import Endpoint
from .protocol.peer_gossip import relay_targets
from .protocol.peer_groups import may_tell
from .wire.messages import BY_TYPE, Address, Addresses, Clock, GetAddresses, ShareAddresses

CLOCK_SAY_MS: Final = 600_000
"""The operator is told of a wrong clock this often."""

_CLOCK_VERSION: Final = BY_TYPE[Clock].since
_SHARING_VERSION: Final = BY_TYPE[ShareAddresses].since

_log = logging.getLogger(__name__)


class AddressGossip:
    """See the module's text. Every `on_` returns what is to be sent."""

    def __init__(
        self,
        *,
        book: AddressBook,
        clocks: ClockOffsets,
        links: Mapping[PeerId, PeerLink],
        clock_ms: Callable[[], int],
        own_address: Endpoint | None,
    ) -> None:
        """`own_address`: a numeric address at which others reach this node, when the operator said one."""
        self._book = book
        self._clocks = clocks
        self._links = links
        self._clock_ms = clock_ms
        self._own_address = own_address
        self._said_ms: int | None = None

    def on_connected(self, link: PeerLink) -> Sequence[Action]:
        """Say the time and this node's address; ask a peer that this node chose for addresses; note where it listens."""
        actions: list[Action] = []
        if link.connection.peer.version >= _CLOCK_VERSION:
            actions.append(Send(link.id, Clock(time_ms=self._clock_ms())))
        if link.blocks_only:
            return actions
        if self._shares(link):
            actions += self._own_news(link)
        if link.dialed is not None:
            link.allowance.on_asked()
            return [*actions, Send(link.id, GetAddresses())]
        return [*actions, *self._note_listener(link)]

    def _own_news(self, link: PeerLink) -> Sequence[Action]:
        if self._own_address is None:
            return []
        host, port = self._own_address
        if not may_tell(link.connection.remote[0], host):
            return []  # he is further away than this address reaches
        address = Address(host=host, port=port, last_seen_ms=self._clock_ms())
        return [Send(link.id, ShareAddresses(addresses=(address,)))]

    def _note_listener(self, link: PeerLink) -> Sequence[Action]:
        """Remember where an inbound peer says that it listens, and pass it on when it is new."""
        port = link.connection.peer.listen_port
        if not port:
            return []
        host, now_ms = link.connection.remote[0], self._clock_ms()
        told = Address(host=host, port=port, last_seen_ms=now_ms)
        added = self._book.add_heard([told], source_host=host, now_ms=now_ms)
        return self._pass_on(added, link)

    def on_get_addresses(self, link: PeerLink, _message: GetAddresses) -> Sequence[Action]:
        """Answer a peer that connected to this node, once; a later answer is empty, so that none can collect them."""
        if link.dialed is not None or link.has_addresses or link.blocks_only:
            return [Send(link.id, Addresses(addresses=()))]
        link.has_addresses = True
        answer = self._book.answer(link.connection.remote[0], self._clock_ms())
        return [Send(link.id, Addresses(addresses=answer))]

    def on_addresses(self, link: PeerLink, message: Addresses) -> Sequence[Action]:
        """Take the answer to a question."""
        if not link.blocks_only:
            self._hear(link, message.addresses)
        return []

    def on_share_addresses(self, link: PeerLink, message: ShareAddresses) -> Sequence[Action]:
        """Take addresses that nobody asked for, and pass on those that are new."""
        return [] if link.blocks_only else self._pass_on(self._hear(link, message.addresses), link)

    def on_clock(self, link: PeerLink, message: Clock) -> Sequence[Action]:
        """Compare a peer's clock with this node's, if this node chose the peer."""
        if link.dialed is None:
            return []
        now_ms = self._clock_ms()
        self._clocks.add(link.node_key, message.time_ms, now_ms)
        warning = self._clocks.warning()
        if warning is not None and (self._said_ms is None or now_ms - self._said_ms >= CLOCK_SAY_MS):
            self._said_ms = now_ms
            _log.warning("%s", warning)
        return []

    def _hear(self, link: PeerLink, addresses: Sequence[Address]) -> Sequence[Address]:
        counted = link.allowance.take(addresses, time.monotonic())
        return self._book.add_heard(counted, source_host=link.connection.remote[0], now_ms=self._clock_ms())

    def _pass_on(self, addresses: Sequence[Address], source: PeerLink) -> Sequence[Action]:
        peers = {
            link.id: link.connection.remote[0]
            for link in self._links.values()
            if link.id != source.id and self._shares(link)
        }
        return [
            Send(peer, ShareAddresses(addresses=(address,)))
            for address in addresses
            for peer in relay_targets(address, list(peers), self._book.secret, self._clock_ms())
            if may_tell(peers[peer], address.host)
        ]

    @staticmethod
    def _shares(link: PeerLink) -> bool:
        return not link.blocks_only and link.connection.peer.version >= _SHARING_VERSION
