"""The message set of the wire, and `MESSAGES`: number, size limit, rate and replies of every type.

Owns the values and the table. Packing is `codec`'s, order and authority are the handshake's and the protocol
machines'. Headers, leaves and statements are opaque bytes here: the layers above decode and check them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag, StrEnum
from types import MappingProxyType
from typing import Annotated, Final

from ...consensus.errors import DecodeError
from . import limits
from .fields import U16, U32, U64, Blobs, Choice, Fixed, Flag, Hash, Packed, Rows, Text, array_bytes


class HandshakeRole(IntEnum):
    """Who opened the connection."""

    INITIATOR = 0
    RESPONDER = 1


class Service(IntFlag):
    """What a node offers. Unknown bits are kept and ignored."""

    NONE = 0
    BODIES = 1
    """Serves the body of every block from its announced `pruned_below` on."""
    RELAY = 2
    """Relays statements and blocks."""


class Missing(IntEnum):
    """What a `NotFound` is about."""

    BODY = 0
    STATEMENT = 1
    LEAVES = 2
    """From version 3 on, since nobody is asked for leaves alone before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """First frame of both sides. Its layout stays the same in every version, so that versions can be compared."""

    version_min: U16
    version_max: U16
    network_id: Hash
    node_key: Annotated[bytes, Fixed(limits.NODE_KEY_BYTES)]
    nonce: Annotated[bytes, Fixed(limits.NONCE_BYTES)]
    role: Annotated[HandshakeRole, Choice(HandshakeRole)]
    listen_port: U16
    """0: takes no connections."""
    services: U64
    user_agent: Annotated[str, Text(limits.MAX_USER_AGENT_BYTES)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Second frame of both sides: the server certificate that this side saw, and its signature over everything."""

    certificate_hash: Hash
    signature: Annotated[bytes, Fixed(limits.SIGNATURE_BYTES)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnect:
    """Last frame before a close: a reason code (`faults.Reason`, others are shown as they are) and a line of text."""

    reason: Annotated[str, Text(limits.MAX_REASON_BYTES)]
    detail: Annotated[str, Text(limits.MAX_DETAIL_BYTES)] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """Are you there?"""

    nonce: U64


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong:
    """Answer to the Ping with this nonce."""

    nonce: U64


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What this node's best chain is; sent after the handshake and when it changes much."""

    tip_hash: Hash
    height: U64
    chainwork: Annotated[bytes, Fixed(limits.CHAINWORK_BYTES)]
    """Big-endian 256-bit sum of work."""
    pruned_below: U64
    """Bodies below this height are not served; 0: all are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendAnnouncements:
    """How the sender wants to hear of new blocks.

    With `high_bandwidth` at once and with the leaves; without it with an empty leaves field.
    """

    high_bandwidth: Annotated[bool, Flag()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """What time it is at the sender; its first message after the handshake. From version 2 on."""

    time_ms: U64


@dataclass(frozen=True, slots=True, kw_only=True)
class GetHeaders:
    """Ask for the headers after the first hash of `locator` that is on the receiver's best chain.

    `locator` goes from the tip backwards in growing steps; `stop_hash` is the last header wanted, or zeros.
    """

    locator: Annotated[tuple[bytes, ...], Packed(limits.HASH_BYTES, limits.MAX_LOCATOR_HASHES)]
    stop_hash: Hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Headers:
    """Sealed headers (224 bytes each) in ascending order; fewer than the limit means there are no more."""

    sealed_headers: Annotated[tuple[bytes, ...], Packed(limits.SEALED_HEADER_BYTES, limits.MAX_HEADERS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class GetBody:
    """Ask for the statements of a block from index `start` on; answered by one BodyChunk or one NotFound.

    `with_leaves` asks for the leaves of the whole body too: once per block, unless its announcement had them.
    """

    block_hash: Hash
    start: U32
    with_leaves: Annotated[bool, Flag()]


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyChunk:
    """Some consecutive statements of a block's body, from index `start` on.

    The leaves, when asked for, are those of the whole body: they and `byte_count` can be checked against the body
    root, and each statement of this and later chunks against its leaf. A chunk without leaves holds at least one
    statement; with them it may hold none, when they fill the frame.
    """

    block_hash: Hash
    leaves: Annotated[tuple[bytes, ...], Packed(limits.HASH_BYTES, limits.MAX_BODY_LEAVES)]
    byte_count: U64
    start: U32
    statements: Annotated[tuple[bytes, ...], Blobs(limits.MAX_STATEMENT_BYTES, limits.MAX_BODY_LEAVES)]

    def __post_init__(self) -> None:
        if self.leaves and self.start + len(self.statements) > len(self.leaves):
            raise DecodeError(
                "BodyChunk.statements",
                expected=f"an end of at most {len(self.leaves)}",
                got=self.start + len(self.statements),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnounceBlock:
    """A new block: sealed header, byte count of its body and its leaves, for rebuilding it from the mempool.

    `leaves` is empty for a body without statements (`byte_count` 0), towards a peer that did not ask for
    high bandwidth, and for a body of more leaves than fit: then the body is fetched with GetBody.
    """

    sealed_header: Annotated[bytes, Fixed(limits.SEALED_HEADER_BYTES)]
    byte_count: U64
    leaves: Annotated[tuple[bytes, ...], Packed(limits.HASH_BYTES, limits.MAX_BODY_LEAVES)]


@dataclass(frozen=True, slots=True, kw_only=True)
class GetLeaves:
    """Ask for the leaves of a block's body without its statements; answered by one Leaves or one NotFound.

    For a block that was announced by its header alone, whose statements are likely to be here. From version 3 on.
    """

    block_hash: Hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaves:
    """All leaves of a block's body; they and `byte_count` can be checked against the body root."""

    block_hash: Hash
    byte_count: U64
    leaves: Annotated[tuple[bytes, ...], Packed(limits.HASH_BYTES, limits.MAX_BODY_LEAVES)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Leaves of statements that the sender holds and would hand over."""

    leaves: Annotated[tuple[bytes, ...], Packed(limits.HASH_BYTES, limits.MAX_INVENTORY)]


@dataclass(frozen=True, slots=True, kw_only=True)
class GetStatements:
    """Ask for statements by leaf; answered by one Statements with those that fit, or one NotFound."""

    leaves: Annotated[tuple[bytes, ...], Packed(limits.HASH_BYTES, limits.MAX_INVENTORY)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statements:
    """Encoded statements: the found ones of a GetStatements, in its order, as many as one frame holds."""

    statements: Annotated[tuple[bytes, ...], Blobs(limits.MAX_STATEMENT_BYTES, limits.MAX_INVENTORY)]


@dataclass(frozen=True, slots=True, kw_only=True)
class NotFound:
    """None of what was asked for is here."""

    missing: Annotated[Missing, Choice(Missing)]
    hashes: Annotated[tuple[bytes, ...], Packed(limits.HASH_BYTES, limits.MAX_INVENTORY)]


@dataclass(frozen=True, slots=True, kw_only=True)
class GetAddresses:
    """Ask for addresses of nodes that take connections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a node can be reached (an address or a name), and when it was last seen."""

    host: Annotated[str, Text(limits.MAX_HOST_BYTES)]
    port: U16
    last_seen_ms: U64


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Answer to GetAddresses."""

    addresses: Annotated[tuple[Address, ...], Rows(Address, limits.MAX_ADDRESSES)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareAddresses:
    """Addresses that nobody asked for: the sender's own, or new ones that it heard of. From version 2 on."""

    addresses: Annotated[tuple[Address, ...], Rows(Address, limits.MAX_SHARED_ADDRESSES)]


Message = (
    Hello
    | Proof
    | Disconnect
    | Ping
    | Pong
    | Status
    | SendAnnouncements
    | Clock
    | GetHeaders
    | Headers
    | GetBody
    | BodyChunk
    | AnnounceBlock
    | GetLeaves
    | Leaves
    | Inventory
    | GetStatements
    | Statements
    | NotFound
    | GetAddresses
    | Addresses
    | ShareAddresses
)


class Phase(StrEnum):
    """When a message may be sent."""

    HANDSHAKE = "handshake"
    SESSION = "session"
    BOTH = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSpec:
    """One row of `MESSAGES`."""

    number: int
    message: type[Message]
    max_bytes: int
    """Of the whole frame, type byte included."""
    per_minute: int
    """Accepted per minute and connection; as many may come at once."""
    replies: tuple[type[Message], ...]
    """Which messages answer this one: exactly one of them, once."""
    phase: Phase
    since: int
    """Lowest version of the wire protocol that has it."""

    @property
    def name(self) -> str:
        """Name of the message type."""
        return self.message.__name__


def _row(
    number: int,
    message: type[Message],
    per_minute: int,
    replies: tuple[type[Message], ...] = (),
    phase: Phase = Phase.SESSION,
    *,
    since: int = 1,
) -> MessageSpec:
    return MessageSpec(
        number=number,
        message=message,
        max_bytes=min(1 + array_bytes(message), limits.MAX_FRAME_BYTES),
        per_minute=per_minute,
        replies=replies,
        phase=phase,
        since=since,
    )


MESSAGES: Final[tuple[MessageSpec, ...]] = (
    _row(0x01, Hello, 1, (), Phase.HANDSHAKE),
    _row(0x02, Proof, 1, (), Phase.HANDSHAKE),
    _row(0x03, Disconnect, 1, (), Phase.BOTH),
    _row(0x10, Ping, 60, (Pong,)),
    _row(0x11, Pong, 60),
    _row(0x12, Status, 6000),
    _row(0x13, SendAnnouncements, 60),
    _row(0x14, Clock, 2, since=2),
    _row(0x20, GetHeaders, 1200, (Headers,)),
    _row(0x21, Headers, 1200),
    _row(0x22, GetBody, 24_000, (BodyChunk, NotFound)),
    _row(0x23, BodyChunk, 24_000),
    _row(0x24, AnnounceBlock, 12_000),
    _row(0x25, GetLeaves, 12_000, (Leaves, NotFound), since=3),
    _row(0x26, Leaves, 12_000, since=3),
    _row(0x30, Inventory, 12_000),
    _row(0x31, GetStatements, 24_000, (Statements, NotFound)),
    _row(0x32, Statements, 24_000),
    _row(0x33, NotFound, 60_000),
    _row(0x40, GetAddresses, 12, (Addresses,)),
    _row(0x41, Addresses, 12),
    _row(0x42, ShareAddresses, 60, since=2),
)
"""The final message set of this draft: one row per type."""

BY_NUMBER: Final[Mapping[int, MessageSpec]] = MappingProxyType({row.number: row for row in MESSAGES})
BY_TYPE: Final[Mapping[type[Message], MessageSpec]] = MappingProxyType({row.message: row for row in MESSAGES})
REPLIES: Final[frozenset[type[Message]]] = frozenset(reply for row in MESSAGES for reply in row.replies)
"""Types that are only valid as an answer."""
