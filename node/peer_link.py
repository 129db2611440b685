"""One open connection to a peer, and what waits to be sent over it.

Owns the outbox and its bounds. It sends in order and knows nothing of what the messages mean.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field

from .protocol.actions import PeerId
from .protocol.peer_entry import Endpoint
from .protocol.peer_gossip import AddressAllowance
from .protocol.peer_outbound import DialKind
from .wire.connection import Connection
from .wire.faults import WireError
from .wire.messages import (
    AnnounceBlock,
    BodyChunk,
    GetStatements,
    Headers,
    Inventory,
    Leaves,
    Message,
    NotFound,
    Service,
    Statements,
)

OUTBOX_MESSAGES_MAX = 4_096
"""Messages that wait for one peer; a peer that lets more pile up is too slow."""

OUTBOX_PAUSE_MESSAGES = 64
"""Messages waiting for a peer from which on its own requests are not read."""

OUTBOX_PAUSE_BYTES = 4 * 2**20
"""The same, for the bytes of statements, headers and leaves that wait."""

OUTBOX_BUSY_MESSAGES = 16
"""Messages waiting from which on inventory is gathered, so that more statements go into one."""

DIRECT_BYTES_MAX = 64 * 2**10
"""A message up to this size is not queued here when nothing else is: it goes to the connection at once."""

INBOUND = "inbound"
"""Kind of a connection that the peer opened."""

_log = logging.getLogger(__name__)


def payload_bytes(message: Message) -> int:
    """Return the bytes of what makes a message large."""
    match message:
        case BodyChunk():
            return sum(map(len, message.statements)) + sum(map(len, message.leaves))
        case Statements():
            return sum(map(len, message.statements))
        case AnnounceBlock() | Leaves() | Inventory() | GetStatements():
            return sum(map(len, message.leaves))
        case Headers():
            return sum(map(len, message.sealed_headers))
        case NotFound():
            return sum(map(len, message.hashes))
    return 0


@dataclass(slots=True, eq=False)
class PeerLink:
    """See the module's text. `write` runs as a task for as long as the link is served."""

    id: PeerId
    connection: Connection
    since: float
    dialed: Endpoint | None
    """The address that this node connected to; None for an inbound connection."""
    kind: DialKind = DialKind.OUTBOUND
    """Why this node connected to it; of no meaning for an inbound connection."""
    claimed_height: int = 0
    last_block: float = 0.0
    """When it last brought a block that is on the chain; monotonic seconds, 0: never."""
    last_statement: float = 0.0
    """When it last brought a statement that was new."""
    probe: asyncio.Task[None] | None = None
    """Finds out whether it is alive."""
    has_addresses: bool = False
    """Whether it got its answer to GetAddresses."""
    allowance: AddressAllowance = field(init=False)
    _outbox: deque[Message] = field(default_factory=deque)
    _outbox_bytes: int = 0
    _has_work: asyncio.Event = field(default_factory=asyncio.Event)
    _has_room: asyncio.Event = field(default_factory=asyncio.Event)
    _ended: bool = False
    _is_idle: bool = False
    """Everything that was queued is sent, and `write` waits for more."""

    def __post_init__(self) -> None:
        """Start the peer's allowance of addresses."""
        self.allowance = AddressAllowance(self.since)

    @property
    def is_ended(self) -> bool:
        """Whether the connection is being closed."""
        return self._ended

    @property
    def blocks_only(self) -> bool:
        """Whether neither statements nor addresses pass: this node dialed for that, or the peer did and said so."""
        if self.dialed is not None:
            return self.kind.is_block_relay
        return Service.RELAY not in self.connection.peer.services

    @property
    def kind_name(self) -> str:
        """Why there is this connection, in one word."""
        return INBOUND if self.dialed is None else str(self.kind)

    @property
    def node_key(self) -> bytes:
        """The peer's proven identity."""
        return self.connection.peer.node_key

    @property
    def endpoint(self) -> Endpoint:
        """Where the peer listens: the address that was dialed, or the one that an inbound peer claims."""
        return self.dialed or (self.connection.remote[0], self.connection.peer.listen_port)

    @property
    def is_busy(self) -> bool:
        """Whether more inventory should wait."""
        return len(self._outbox) >= OUTBOX_BUSY_MESSAGES

    @property
    def is_full(self) -> bool:
        """Whether the peer's own requests should wait."""
        return len(self._outbox) > OUTBOX_PAUSE_MESSAGES or self._outbox_bytes > OUTBOX_PAUSE_BYTES

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait to be sent."""
        return self._outbox_bytes + self.connection.queued_bytes

    def queue(self, message: Message) -> bool:
        """Queue a message; False when too much waits already. Nothing is queued on a link that ended."""
        if self._ended:
            return True
        weight = payload_bytes(message)
        if (
            self._is_idle
            and not self._outbox
            and weight <= DIRECT_BYTES_MAX
            and self.connection.offer(message)
        ):
            return True
        if len(self._outbox) >= OUTBOX_MESSAGES_MAX:
            return False
        self._outbox.append(message)
        self._outbox_bytes += weight
        self._has_work.set()
        return True

    def end(self) -> None:
        """Drop what waits, and wake up whoever waits for room."""
        self._ended = True
        self._outbox.clear()
        self._outbox_bytes = 0
        self._has_room.set()
        if self.probe is not None:
            self.probe.cancel()

    def give_up(self) -> None:
        """Drop what waits, and the connection at once."""
        self.end()
        self.connection.give_up()

    async def room(self) -> None:
        """Wait until the outbox is short again, or the link ended."""
        while self.is_full and not self._ended:
            self._has_room.clear()
            await self._has_room.wait()

    async def write(self) -> None:
        """Send what is queued until the connection breaks; then `end`."""
        try:
            while True:
                while self._outbox:
                    message = self._outbox.popleft()
                    self._outbox_bytes -= payload_bytes(message)
                    self._has_room.set()
                    await self.connection.send(message)
                self._has_work.clear()
                self._is_idle = True
                await self._has_work.wait()
                self._is_idle = False
        except WireError as error:
            _log.debug("nothing more is sent to %s:%d: %s", *self.connection.remote, error)
        finally:
            self.end()
