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
MAX_SHARED_ADDRESSES: Final = 10
MAX_HOST_BYTES: Final = 255
MAX_USER_AGENT_BYTES: Final = 64
MAX_REASON_BYTES: Final = 64
MAX_DETAIL_BYTES: Final = 256

MAX_ORPHANS: Final = 5_000
MAX_ORPHAN_BYTES: Final = 32 << 20
MAX_IN_FLIGHT: Final = 6
MAX_IN_FLIGHT_BYTES: Final = 64 << 20
MAX_ANNOUNCERS: Final = 3
MAX_HEADERS_AHEAD: Final = 200_000
MAX_PRESYNC_HEADERS: Final = 3_072
MAX_PRESYNC_BITS: Final = 1 << 20
MAX_INBOUND: Final = 64
MAX_PENDING_INBOUND: Final = 32
MAX_OUTBOUND: Final = 8
SEND_QUEUE_BYTES: Final = 8 << 20
SEND_TOTAL_BYTES: Final = 128 << 20
PACE_SHARE: Final = 0.5

MAX_PENDING_PER_SOURCE: Final = 16
MAX_MANUAL_PEERS: Final = 256
OUTBOUND_PER_GROUP: Final = 2
MAX_ANCHORS: Final = 2
MAX_BLOCK_RELAY: Final = 2
FEELER_SECONDS: Final = 120
PROTECTED_BY_GROUP_SHARE: Final = 1 / 16
PROTECTED_BY_PING_SHARE: Final = 1 / 8
PROTECTED_BY_STATEMENTS_SHARE: Final = 1 / 16
PROTECTED_BY_BLOCKS_SHARE: Final = 1 / 16
PROTECTED_BY_AGE_SHARE: Final = 0.5

NEW_ADDRESS_BUCKETS: Final = 256
ADDRESS_SOURCE_BUCKETS: Final = 16
ADDRESS_TRIED_BUCKETS: Final = 64
ADDRESS_TRIED_GROUP_BUCKETS: Final = 4
ADDRESS_SLOTS: Final = 32
MAX_TRIED_TESTS: Final = 10
ADDRESS_HORIZON_SECONDS: Final = 30 * 86_400
ADDRESSES_ANSWERED: Final = 250
ADDRESSES_ANSWERED_SHARE: Final = 0.23
ADDRESSES_PER_SECOND: Final = 0.1
ADDRESS_RELAY_PEERS: Final = 2

MAX_BANS: Final = 4096
MAX_SCORED_PEERS: Final = 4096
MAX_BAN_REASON_BYTES: Final = 256
BAN_SCORE: Final = 100
BAN_SECONDS: Final = 86_400
PROTOCOL_BAN_SECONDS: Final = 3600
OFFENCE_SECONDS: Final = 3600

MAX_EQUIVOCATORS: Final = 128
MAX_EQUIVOCATIONS_PER_KEY: Final = 32
MAX_STATEMENTS_SEEN: Final = 16_384

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
    pong_seconds: float = 120.0
    """Longest time that this node waits for frames of a peer which leaves a ping unanswered."""
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
    max_pending_per_source: int = MAX_PENDING_PER_SOURCE
    """Of these from one network group."""
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
    _protocol("body-leaves", MAX_BODY_LEAVES, "items", "leaves in one BodyChunk, AnnounceBlock or Leaves"),
    _protocol(
        "inventory", MAX_INVENTORY, "items", "leaves in Inventory, GetStatements, Statements, NotFound"
    ),
    _protocol("addresses", MAX_ADDRESSES, "items", "addresses in one Addresses"),
    _protocol("shared", MAX_SHARED_ADDRESSES, "items", "addresses in one ShareAddresses"),
    _protocol("host", MAX_HOST_BYTES, "bytes", "host text of an address"),
    _protocol("user-agent", MAX_USER_AGENT_BYTES, "bytes", "user agent text of a Hello"),
    _protocol("reason", MAX_REASON_BYTES, "bytes", "reason code of a Disconnect"),
    _protocol("detail", MAX_DETAIL_BYTES, "bytes", "detail text of a Disconnect"),
    _policy(
        "orphans", MAX_ORPHANS, "items", "statements kept that wait for another one; the oldest go first"
    ),
    _policy("orphan-bytes", MAX_ORPHAN_BYTES, "bytes", "their encodings, together"),
    _policy("in-flight", MAX_IN_FLIGHT, "items", "body requests that one peer owes an answer to"),
    _policy("in-flight-bytes", MAX_IN_FLIGHT_BYTES, "bytes", "bodies under way from all peers together"),
    _policy(
        "announcers", MAX_ANNOUNCERS, "connections", "peers that are asked to announce blocks with leaves"
    ),
    _policy("headers-ahead", MAX_HEADERS_AHEAD, "items", "headers above the tip that one peer is asked for"),
    _policy("presync-headers", MAX_PRESYNC_HEADERS, "items", "headers of little work held back for one peer"),
    _policy("presync-bits", MAX_PRESYNC_BITS, "items", "bits kept of one peer's headers of little work"),
    _policy("inbound", MAX_INBOUND, "connections", "proven inbound connections"),
    _policy("pending-inbound", MAX_PENDING_INBOUND, "connections", "inbound sockets before their proof"),
    _policy("pending-per-source", MAX_PENDING_PER_SOURCE, "connections", "of these from one network group"),
    _policy("outbound", MAX_OUTBOUND, "connections", "outbound connections that the node seeks itself"),
    _policy("outbound-per-group", OUTBOUND_PER_GROUP, "connections", "of these to one public network group"),
    _policy("manual-peers", MAX_MANUAL_PEERS, "connections", "peers that the operator names"),
    _policy("block-relay", MAX_BLOCK_RELAY, "connections", "beside these, for blocks and headers alone"),
    _policy("anchors", MAX_ANCHORS, "connections", "of the latter, tried first after a restart"),
    _policy("feeler", FEELER_SECONDS, "seconds", "between two tests of an address, on average"),
    _policy("protected-group", PROTECTED_BY_GROUP_SHARE, "share", "of inbound peers safe by network group"),
    _policy("protected-ping", PROTECTED_BY_PING_SHARE, "share", "of inbound peers safe by round-trip time"),
    _policy(
        "protected-statements", PROTECTED_BY_STATEMENTS_SHARE, "share", "of inbound peers safe by statements"
    ),
    _policy("protected-blocks", PROTECTED_BY_BLOCKS_SHARE, "share", "of inbound peers safe by blocks"),
    _policy("protected-age", PROTECTED_BY_AGE_SHARE, "share", "of the other inbound peers safe by age"),
    _policy("new-buckets", NEW_ADDRESS_BUCKETS, "items", "buckets of addresses that were heard of"),
    _policy("source-buckets", ADDRESS_SOURCE_BUCKETS, "items", "of these that one source group can fill"),
    _policy("tried-buckets", ADDRESS_TRIED_BUCKETS, "items", "buckets of addresses that worked"),
    _policy(
        "group-buckets", ADDRESS_TRIED_GROUP_BUCKETS, "items", "of these that one network group can fill"
    ),
    _policy("slots", ADDRESS_SLOTS, "items", "addresses in one bucket"),
    _policy("tests", MAX_TRIED_TESTS, "items", "addresses that wait for a test of the one in their place"),
    _policy(
        "horizon", ADDRESS_HORIZON_SECONDS, "seconds", "after which an address that nobody saw is dropped"
    ),
    _policy("answered", ADDRESSES_ANSWERED, "items", "addresses in one answer of this node"),
    _policy("answered-share", ADDRESSES_ANSWERED_SHARE, "share", "of the address book in one answer"),
    _policy("told", ADDRESSES_PER_SECOND, "items/s", "addresses that a peer may tell unasked, on average"),
    _policy("relayed-to", ADDRESS_RELAY_PEERS, "connections", "peers that hear of a new address"),
    _policy("bans", MAX_BANS, "items", "bans that are kept"),
    _policy("ban-reason", MAX_BAN_REASON_BYTES, "bytes", "text of a ban's reason"),
    _policy("ban", BAN_SECONDS, "seconds", "ban for a broken rule of the chain"),
    _policy("protocol-ban", PROTOCOL_BAN_SECONDS, "seconds", "ban for faults on the wire"),
    _policy("ban-score", BAN_SCORE, "points", "offences that make a ban"),
    _policy("offence", OFFENCE_SECONDS, "seconds", "until an offence no longer counts"),
    _policy("scored-peers", MAX_SCORED_PEERS, "items", "peers whose offences are remembered"),
    _policy("equivocators", MAX_EQUIVOCATORS, "items", "keys whose equivocations are shown"),
    _policy("equivocations", MAX_EQUIVOCATIONS_PER_KEY, "items", "places counted of one of these keys"),
    _policy("statements-seen", MAX_STATEMENTS_SEEN, "items", "statements remembered to notice a second one"),
    _policy("send-queue", SEND_QUEUE_BYTES, "bytes", "frames queued for one connection"),
    _policy("send-total", SEND_TOTAL_BYTES, "bytes", "that wait to be sent, over all connections"),
    _policy("chunk", CHUNK_BYTES, "bytes", "size up to which a BodyChunk or Statements is filled"),
    _policy("pace", PACE_SHARE, "share", "of a type's rate that a sender uses itself"),
    _policy("connect", _TIMEOUTS.connect_seconds, "seconds", "TCP, TLS and upgrade"),
    _policy("handshake", _TIMEOUTS.handshake_seconds, "seconds", "until the identity is proven"),
    _policy("ping-interval", _TIMEOUTS.ping_interval_seconds, "seconds", "between two pings"),
    _policy("pong", _TIMEOUTS.pong_seconds, "seconds", "for a ping's answer from a peer that talks"),
    _policy("idle", _TIMEOUTS.idle_seconds, "seconds", "longest silence of a peer"),
    _policy("send", _TIMEOUTS.send_seconds, "seconds", "for a frame to leave"),
    _policy("close", _TIMEOUTS.close_seconds, "seconds", "for a connection to close in order"),
    _policy("http-body", MAX_HTTP_BODY_BYTES, "bytes", "body of one API request"),
    _policy("http-line", MAX_HTTP_LINE_BYTES, "bytes", "request line on either port"),
    _policy("http-field", MAX_HTTP_FIELD_BYTES, "bytes", "one HTTP header on either port"),
    _policy("http-headers", MAX_HTTP_HEADERS, "items", "HTTP headers of one request on either port"),
)
"""All limits, for the documentation and for the tests that walk them."""
