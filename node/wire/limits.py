"""Every limit of the wire and of the node's ports, by name, and `LIMITS`, the one table of them.

Owns numbers only. Limits that both ends must agree on are part of the protocol draft (`scope` "protocol");
the others are this node's policy and may differ from node to node. Sizes and rates per message type are in
`messages.MESSAGES`, next to the types they belong to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HASH_BYTES: Final = 32
NODE_KEY_BYTES: Final = 32
NONCE_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
CHAINWORK_BYTES: Final = 32
SEALED_HEADER_BYTES: Final = 224

MAX_STATEMENT_BYTES: Final = 1 << 20
MAX_FRAME_BYTES: Final = (2 << 20) + (1 << 18)
CHUNK_BYTES: Final = (1 << 20) + (1 << 18)
MAX_HEADERS: Final = 2000
MAX_LOCATOR_HASHES: Final = 101
MAX_BODY_LEAVES: Final = 65_536
MAX_INVENTORY: Final = 5000
MAX_ADDRESSES: Final = 1000
MAX_HOST_BYTES: Final = 255
MAX_USER_AGENT_BYTES: Final = 64
MAX_REASON_BYTES: Final = 64
MAX_DETAIL_BYTES: Final = 256

MAX_ORPHANS: Final = 100
MAX_IN_FLIGHT: Final = 6
MAX_INBOUND: Final = 64
MAX_PENDING_INBOUND: Final = 32
MAX_OUTBOUND: Final = 8
SEND_QUEUE_BYTES: Final = 8 << 20
PACE_SHARE: Final = 0.5

MAX_HTTP_BODY_BYTES: Final = 24 << 20
MAX_HTTP_LINE_BYTES: Final = 4096
MAX_HTTP_FIELD_BYTES: Final = 4096
MAX_HTTP_HEADERS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long a connection may take over each step, in seconds."""

    connect_seconds: float = 10.0
    """TCP, TLS and the WebSocket upgrade of an outbound connection, together."""
    handshake_seconds: float = 10.0
    """From an accepted socket (or a finished upgrade) to a proven identity."""
    ping_interval_seconds: float = 30.0
    """Between two pings; no new one is sent while one is unanswered."""
    idle_seconds: float = 90.0
    """Longest silence of a peer while this node is reading."""
    send_seconds: float = 60.0
    """Longest time for one frame to leave, or for room in the send queue to appear."""
    close_seconds: float = 2.0
    """For the last queued frames and the closing handshake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """How many connections a node holds and how much one of them may queue."""

    max_inbound: int = MAX_INBOUND
    max_pending_inbound: int = MAX_PENDING_INBOUND
    """Accepted sockets whose identity is not proven yet, beside the `max_inbound` proven ones."""
    send_queue_bytes: int = SEND_QUEUE_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One row of the table."""

    name: str
    value: float
    unit: str
    scope: str
    meaning: str


def _protocol(name: str, value: float, unit: str, meaning: str) -> Limit:
    return Limit(name=name, value=value, unit=unit, scope="protocol", meaning=meaning)


def _policy(name: str, value: float, unit: str, meaning: str) -> Limit:
    return Limit(name=name, value=value, unit=unit, scope="policy", meaning=meaning)


_TIMEOUTS: Final = Timeouts()

LIMITS: Final[tuple[Limit, ...]] = (
    _protocol("frame", MAX_FRAME_BYTES, "bytes", "largest WebSocket message of any type"),
    _protocol("statement", MAX_STATEMENT_BYTES, "bytes", "one encoded statement"),
    _protocol("headers", MAX_HEADERS, "items", "sealed headers in one Headers"),
    _protocol("locator", MAX_LOCATOR_HASHES, "items", "block hashes in one GetHeaders"),
    _protocol("body-leaves", MAX_BODY_LEAVES, "items", "leaves in one BodyChunk or AnnounceBlock"),
    _protocol(
        "inventory", MAX_INVENTORY, "items", "leaves in Inventory, GetStatements, Statements, NotFound"
    ),
    _protocol("addresses", MAX_ADDRESSES, "items", "addresses in one Addresses"),
    _protocol("host", MAX_HOST_BYTES, "bytes", "host text of an address"),
    _protocol("user-agent", MAX_USER_AGENT_BYTES, "bytes", "user agent text of a Hello"),
    _protocol("reason", MAX_REASON_BYTES, "bytes", "reason code of a Disconnect"),
    _protocol("detail", MAX_DETAIL_BYTES, "bytes", "detail text of a Disconnect"),
    _policy("orphans", MAX_ORPHANS, "items", "blocks kept whose parent is not known yet"),
    _policy("in-flight", MAX_IN_FLIGHT, "items", "body requests that one peer owes an answer to"),
    _policy("inbound", MAX_INBOUND, "connections", "proven inbound connections"),
    _policy("pending-inbound", MAX_PENDING_INBOUND, "connections", "inbound sockets before their proof"),
    _policy("outbound", MAX_OUTBOUND, "connections", "outbound connections that the node seeks itself"),
    _policy("send-queue", SEND_QUEUE_BYTES, "bytes", "frames queued for one connection"),
    _policy("chunk", CHUNK_BYTES, "bytes", "size up to which a BodyChunk or Statements is filled"),
    _policy("pace", PACE_SHARE, "share", "of a type's rate that a sender uses itself"),
    _policy("connect", _TIMEOUTS.connect_seconds, "seconds", "TCP, TLS and upgrade"),
    _policy("handshake", _TIMEOUTS.handshake_seconds, "seconds", "until the identity is proven"),
    _policy("ping-interval", _TIMEOUTS.ping_interval_seconds, "seconds", "between two pings"),
    _policy("idle", _TIMEOUTS.idle_seconds, "seconds", "longest silence of a peer"),
    _policy("send", _TIMEOUTS.send_seconds, "seconds", "for a frame to leave"),
    _policy("close", _TIMEOUTS.close_seconds, "seconds", "for a connection to close in order"),
    _policy("http-body", MAX_HTTP_BODY_BYTES, "bytes", "body of one API request"),
    _policy("http-line", MAX_HTTP_LINE_BYTES, "bytes", "request line on either port"),
    _policy("http-field", MAX_HTTP_FIELD_BYTES, "bytes", "one HTTP header on either port"),
    _policy("http-headers", MAX_HTTP_HEADERS, "items", "HTTP headers of one request on either port"),
)
"""All limits, for the documentation and for the tests that walk them."""
