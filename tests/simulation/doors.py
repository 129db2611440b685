"""What a simulated node knows of peers: the real address book, bans, door and plan of connections, with a seed.

Owns the connections that a node seeks and lets in, as `node.dialer` and `node.hub` do for a real one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple, cast

from facechain.node.dialer import STEADY_SECONDS
from facechain.node.peer_door import PeerDoor
from facechain.node.peer_link import PeerLink
from facechain.node.peer_store import SECRET_BYTES, load_memory, save_picture, take_picture
from facechain.node.protocol.actions import PeerId
from facechain.node.protocol.peer_gossip import AddressAllowance
from facechain.node.protocol.peer_outbound import Dial, DialKind, Outbound, OutboundPlan, OutboundPolicy
from facechain.node.store.port import Store
from facechain.node.wire import messages as wire
from facechain.node.wire.connection import Connection
from facechain.node.wire.session import Session

from .events import Scheduler
from .links import Endpoint, Host, Network, Side

MAX_OUTBOUND: Final = 3
MAX_INBOUND: Final = 5
"""Fewer than a node's own, so that a run fills them and connections have to make room."""


class Identity(NamedTuple):
    """What a door asks of a proven peer."""

    node_key: bytes


@dataclass(slots=True, eq=False)
class Link:
    """A connection as its node sees it: what the node's own `Connection` and `PeerLink` are to the door."""

    id: PeerId
    side: Side
    session: Session
    since: float
    heard: float
    pinged: float
    kind: DialKind = DialKind.OUTBOUND
    last_block: float = 0.0
    last_statement: float = 0.0
    has_addresses: bool = False
    is_ended: bool = False
    outbox: deque[wire.Message] = field(default_factory=deque)
    allowance: AddressAllowance = field(init=False)

    def __post_init__(self) -> None:
        """Start the peer's allowance of addresses."""
        self.allowance = AddressAllowance(self.since)

    @property
    def connection(self) -> Link:
        """A link is its own connection here."""
        return self

    @property
    def remote(self) -> Endpoint:
        """Where the other end is; hosts here connect from where they listen."""
        return self.side.other.host.endpoint

    @property
    def peer(self) -> Identity:
        """Who the other end is."""
        return Identity(self.side.other.key)

    @property
    def node_key(self) -> bytes:
        """The key of the other end."""
        return self.side.other.key

    @property
    def dialed(self) -> Endpoint | None:
        """The address that this node connected to."""
        return self.side.dialed


class Doors:
    """See the module's text. One for each life of a node."""

    def __init__(
        self,
        host: Host,
        network: Network,
        links: Mapping[PeerId, Link],
        *,
        store: Store,
        clock_ms: Callable[[], int],
        manual: Iterable[Endpoint],
    ) -> None:
        """Load what an earlier life left in the store."""
        self._host = host
        self._network = network
        self._links = links
        self._clock_ms = clock_ms
        self._store = store
        events: Scheduler = host.events
        memory = load_memory(
            store,
            random=events.random,
            new_secret=partial(events.random.randbytes, SECRET_BYTES),
        )
        self.book, self.bans = memory.book, memory.bans
        self.door = PeerDoor(book=self.book, bans=self.bans, clock_ms=clock_ms, max_inbound=MAX_INBOUND)
        policy = OutboundPolicy(connections=MAX_OUTBOUND)
        self._plan = OutboundPlan(self.book, events.random, policy, memory.anchors)
        self._busy: dict[Endpoint, DialKind] = {}
        for address in manual:
            self.book.add_manual(*address, lasting=False)

    # Whom to connect to.

    def dial(self, opened: Callable[[Side, DialKind], bool]) -> None:
        """Try what the plan says; `opened` takes a connection, or refuses it."""
        while (dial := self._next()) is not None:
            self._busy[dial.endpoint] = dial.kind
            self.book.on_tried(*dial.endpoint, self._clock_ms())
            self._network.dial(self._host, dial.endpoint, partial(self._on_dialed, dial, opened))

    def _outbound(self) -> list[Outbound]:
        links = [link for link in self._links.values() if link.dialed is not None]
        return [
            Outbound(endpoint=link.remote, kind=link.kind, since=link.since, last_block=link.last_block)
            for link in links
        ] + [Outbound(endpoint=at, kind=kind, connected=False) for at, kind in self._busy.items()]

    def _next(self) -> Dial | None:
        links = self._links.values()
        exclude = {link.remote for link in links} | {self._host.endpoint}
        exclude |= self.door.endpoints_of(link.node_key for link in links)
        exclude |= {item.endpoint for item in self.book.manual() if not self.door.may_dial(item.endpoint)}
        now_ms = self._clock_ms()
        dial = self._plan.next(self._outbound(), exclude, now_ms)
        if dial is not None and dial.kind is not DialKind.MANUAL and not self.door.may_dial(dial.endpoint):
            self.book.on_tried(*dial.endpoint, now_ms)
            self.book.on_failure(*dial.endpoint)
            return None
        return dial

    def _on_dialed(self, dial: Dial, opened: Callable[[Side, DialKind], bool], side: Side | None) -> None:
        self._busy.pop(dial.endpoint, None)
        if side is None:
            self.book.on_failure(*dial.endpoint, is_online=bool(self._links))
            return
        self.door.note_key(dial.endpoint, side.other.key)
        before = self.book.failures(*dial.endpoint)
        self.book.on_success(*dial.endpoint, self._clock_ms())
        if dial.kind is DialKind.FEELER:
            side.close()
        elif not opened(side, dial.kind):
            side.close()
            self.book.on_failure(*dial.endpoint, before=before, is_online=bool(self._links))

    def on_ended(self, link: Link) -> None:
        """A connection ended; one that did not last counts as a failed try."""
        if link.dialed is not None and self._host.events.now - link.since < STEADY_SECONDS:
            self.book.on_failure(*link.dialed, is_online=bool(self._links))

    # Who is let in.

    def refuses(self, link: Link) -> bool:
        """Tell whether the lists keep a proven peer out."""
        return self.door.refusal(cast("Connection", link), link.dialed) is not None

    def has_room(self, end: Callable[[Link], None]) -> bool:
        """Tell whether one more inbound connection gets a place; perhaps another one has to go for it."""
        inbound = [link for link in self._links.values() if link.dialed is None]
        if len(inbound) < MAX_INBOUND:
            return True
        victim = self.door.choose_victim(cast("list[PeerLink]", inbound))
        if victim is None:
            return False
        end(cast("Link", victim))
        return True

    def is_banned(self, key: bytes) -> bool:
        """Tell whether a node key is kept out now."""
        return self.bans.find("", key, self._clock_ms()) is not None

    def on_offence(self, link: Link, reason: str, detail: str) -> bool:
        """Note an offence; tell whether it made a ban."""
        before = self.is_banned(link.node_key)
        self.door.on_offence(cast("PeerLink", link), reason, detail)
        return self.is_banned(link.node_key) and not before

    # Gossip of addresses.

    def hear_of(self, link: Link) -> None:
        """Remember where an inbound peer listens."""
        host, port = link.remote
        told = wire.Address(host=host, port=port, last_seen_ms=self._clock_ms())
        self.book.add_heard([told], source_host=host, now_ms=self._clock_ms())

    def answer(self, link: Link) -> wire.Addresses:
        """Answer a question for addresses: once, and only to who connected to this node."""
        if link.dialed is not None or link.has_addresses:
            return wire.Addresses(addresses=())
        link.has_addresses = True
        return wire.Addresses(addresses=self.book.answer(link.remote[0], self._clock_ms()))

    def on_addresses(self, link: Link, message: wire.Addresses) -> None:
        """Take addresses within the peer's allowance."""
        counted = link.allowance.take(message.addresses, self._host.events.now)
        self.book.add_heard(counted, source_host=link.remote[0], now_ms=self._clock_ms())

    def save(self, *, in_order: bool) -> None:
        """Write what is known; a stop in order also keeps the anchors."""
        now_ms = self._clock_ms()
        for link in self._links.values():
            if link.dialed is not None:
                self.book.on_alive(*link.dialed, now_ms)
        anchors = self._plan.anchors(self._outbound()) if in_order else ()
        save_picture(self._store, take_picture(self.book, self.bans, now_ms, anchors))
