"""Blocks: the 160-byte header, its seal, and the body.

Owns the byte layouts and the body root. The block hash covers the header alone: a bad seal or a
body that does not fit says nothing about the header's hash, so neither is ever cached against it.
The nonce is the last field and lies, with the padding, entirely in the final SHA-256 block: with
the midstate of the first 152 bytes at hand, one nonce costs one compression.

Source: ``docs/protocol.md``, section "Blocks".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace

from . import merkle
from .encoding import as_array, as_bytes, as_list, pack, unpack
from .errors import DecodeError
from .hashing import sha256, tagged_hash
from .signing import LedgerKey, Purpose, verify_signature
from .statement import MAX_STATEMENT_BYTES, Statement

HEADER_BYTES = 160
SEAL_BYTES = 64
SEALED_HEADER_BYTES = HEADER_BYTES + SEAL_BYTES
NONCE_OFFSET = 152
NO_SEAL = bytes(SEAL_BYTES)
"""Seal of block 0, the only block that nobody sealed."""

HEADER_VERSION = 1
BODY_TAG = "facechain/body/v1"
MAX_BODY_STATEMENTS = 2**20
"""Bound for decoding; the network's own ``max_statements`` is lower."""

_LAYOUT = struct.Struct(">IQ32s32s32sQI32sQ")


def unpack_header(data: bytes) -> tuple[int, int, bytes, bytes, bytes, int, int, bytes, int]:
    """Return the fields of a :class:`Header` in their order, without making one.

    Raises:
        DecodeError: not 160 bytes.
    """
    if len(data) != HEADER_BYTES:
        raise DecodeError("header", expected=f"{HEADER_BYTES} bytes", got=f"{len(data)} bytes")
    version, height, previous, body_root, state_root, time_ms, bits, producer, nonce = _LAYOUT.unpack(data)
    return version, height, previous, body_root, state_root, time_ms, bits, producer, nonce


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The hashed part of a block; all integers big-endian."""

    version: int
    """u32."""
    height: int
    """u64; the paper's index."""
    previous: bytes
    """Hash of the parent header; of block 0, the network id."""
    body_root: bytes
    """See :meth:`Body.root`."""
    state_root: bytes
    """Root of the state after this block."""
    time_ms: int
    """u64, Unix time."""
    bits: int
    """u32, compact target."""
    producer: bytes
    """Ledger key that seals the block."""
    nonce: int
    """u64."""
    hash: bytes = field(init=False, compare=False)
    """SHA-256 of the 160 bytes."""

    def __post_init__(self) -> None:
        """Compute the hash once."""
        object.__setattr__(self, "hash", sha256(self.encode()))

    def encode(self) -> bytes:
        """Return the 160 bytes."""
        return _LAYOUT.pack(
            self.version,
            self.height,
            self.previous,
            self.body_root,
            self.state_root,
            self.time_ms,
            self.bits,
            self.producer,
            self.nonce,
        )

    @classmethod
    def decode(cls, data: bytes) -> Header:
        """Read 160 bytes; every bit pattern is a header.

        Raises:
            DecodeError: not 160 bytes.
        """
        version, height, previous, body_root, state_root, time_ms, bits, producer, nonce = unpack_header(data)
        return cls(
            version=version,
            height=height,
            previous=previous,
            body_root=body_root,
            state_root=state_root,
            time_ms=time_ms,
            bits=bits,
            producer=producer,
            nonce=nonce,
        )

    def with_nonce(self, nonce: int) -> Header:
        """Return the same header with another nonce."""
        return replace(self, nonce=nonce)

    def midstate_prefix(self) -> bytes:
        """Return the 152 bytes before the nonce, for a miner."""
        return self.encode()[:NONCE_OFFSET]


@dataclass(frozen=True, slots=True)
class SealedHeader:
    """A header with its producer's signature: what travels and what is stored (224 bytes)."""

    header: Header
    seal: bytes

    @property
    def hash(self) -> bytes:
        """The block hash; it does not cover the seal."""
        return self.header.hash

    @property
    def height(self) -> int:
        """The block's height."""
        return self.header.height

    def encode(self) -> bytes:
        """Return header followed by seal."""
        return self.header.encode() + self.seal

    @classmethod
    def decode(cls, data: bytes) -> SealedHeader:
        """Read 224 bytes.

        Raises:
            DecodeError: not 224 bytes.
        """
        if len(data) != SEALED_HEADER_BYTES:
            raise DecodeError(
                "sealed header", expected=f"{SEALED_HEADER_BYTES} bytes", got=f"{len(data)} bytes"
            )
        return cls(Header.decode(data[:HEADER_BYTES]), data[HEADER_BYTES:])

    def has_valid_seal(self, network_id: bytes) -> bool:
        """Tell whether the header's producer key sealed it for this network."""
        return verify_signature(self.header.producer, self.seal, Purpose.SEAL, network_id, self.header.hash)


def seal_header(key: LedgerKey, network_id: bytes, header: Header) -> SealedHeader:
    """Sign a mined header; ``key`` must be the header's producer."""
    return SealedHeader(header, key.sign(Purpose.SEAL, network_id, header.hash))


@dataclass(frozen=True, slots=True)
class Body:
    """The statements of a block, in order."""

    statements: tuple[Statement, ...]

    def leaves(self) -> tuple[bytes, ...]:
        """Return each statement's leaf, H(header || signature)."""
        return tuple(statement.leaf for statement in self.statements)

    def byte_count(self) -> int:
        """Return the summed length of the encoded statements."""
        return sum(statement.size_bytes for statement in self.statements)

    def root(self) -> bytes:
        """Return the body root that the header commits to."""
        return body_root(self.leaves(), self.byte_count())

    def encode(self) -> bytes:
        """Return the stored form: array of encoded statements."""
        return pack([[statement.encode() for statement in self.statements]])

    @classmethod
    def decode(cls, data: bytes, *, max_bytes: int) -> Body:
        """Read the stored form; raises DecodeError."""
        (items,) = as_array(
            unpack(data, max_bytes=max_bytes, max_items=MAX_BODY_STATEMENTS, max_depth=2), "body", 1
        )
        return cls(
            tuple(
                Statement.decode(as_bytes(item, "statement", max_size=MAX_STATEMENT_BYTES))
                for item in as_list(items, "statements", max_items=MAX_BODY_STATEMENTS)
            )
        )


EMPTY_BODY = Body(())


def body_root(leaves: tuple[bytes, ...], byte_count: int) -> bytes:
    """Commit to statement count, byte count and the RFC 6962 root over the leaves."""
    tree = merkle.root([merkle.leaf_hash(leaf) for leaf in leaves])
    return tagged_hash(BODY_TAG, struct.pack(">QQ", len(leaves), byte_count), tree)


@dataclass(frozen=True, slots=True)
class Block:
    """A sealed header together with its body."""

    sealed: SealedHeader
    body: Body

    @property
    def header(self) -> Header:
        """The block's header."""
        return self.sealed.header

    @property
    def hash(self) -> bytes:
        """The block hash."""
        return self.sealed.header.hash
