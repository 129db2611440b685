"""Statements: the signed unit of everything that is said on the chain.

A statement is a *header* (the signed part), a signature and a payload. The payload travels
detached: the header commits to its hash, so proofs carry headers only. ``id`` = H(header) is for
sequences and deduplication; ``leaf`` = H(header || signature) is for inventory and the body tree,
so the same id with another valid signature is another leaf.

Source: ``docs/protocol.md``, section "Statements".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .encoding import (
    U16,
    U32,
    U64,
    Value,
    as_array,
    as_bool,
    as_bytes,
    as_uint,
    pack,
    packed_bytes_size,
    unpack,
)
from .errors import DecodeError
from .hashing import sha256, tagged_hash
from .kinds import Kind
from .payloads import MAX_PAYLOAD_BYTES, AnyPayload, decode_payload
from .signing import LedgerKey, Purpose, verify_signature

if TYPE_CHECKING:
    from collections.abc import Iterable

HASH_BYTES = 32
SIGNATURE_BYTES = 64
MAX_HEADER_BYTES = 1_024
"""A batch header with all its fields takes at most 420 bytes."""

MAX_STATEMENT_BYTES = MAX_PAYLOAD_BYTES + MAX_HEADER_BYTES + SIGNATURE_BYTES + 16
NEVER_EXPIRES = 2**64 - 1
ABSENT = bytes(HASH_BYTES)
"""Thirty-two zero bytes: a reference or commitment that is not given."""

SEED_TAG = "facechain/seed/v1"
GROUP_TAG = "facechain/batch-group/v1"


def seed_commitment(seed: bytes) -> bytes:
    """Commit to a 32-byte batch seed without showing it."""
    return tagged_hash(SEED_TAG, seed)


def group_id(records_roots: Iterable[bytes]) -> bytes:
    """Name a batch by the records roots of all its parts, in order."""
    return tagged_hash(GROUP_TAG, *records_roots)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchHeader:
    """What the signed header of an ``image-batch`` says about the batch."""

    record_count: int
    """u32, at least 1."""
    records_root: bytes
    """RFC 6962 root over the 70-byte records."""
    perceptual_root: bytes
    """RFC 6962 root over the perceptual column; zeros without it."""
    width: int
    """u16, pixels; the same for every image of the batch."""
    height: int
    """u16, pixels."""
    public: bool
    """True: seed and perceptual column may be opened; False: they must not be."""
    model: bytes
    """Statement id of the ``training`` stage; zeros when not stated."""
    clustering: bytes
    """Statement id of the ``clustering`` stage; zeros when not clustered."""
    filter: bytes
    """Statement id of the ``filter`` stage; zeros mean ``filter: none``."""
    seed_commitment: bytes
    """See :func:`seed_commitment`; zeros when not generated from a seed."""
    micro_batch: int
    """u32, images per generator call; 0 when not stated."""
    manifest_hash: bytes
    """SHA-256 of the manifest (object names, sizes, media types); zeros for none."""
    group: bytes
    """See :func:`group_id`."""
    part_index: int
    """u32, this part, from 0."""
    part_count: int
    """u32, parts of the group, at least 1."""

    def values(self) -> list[object]:
        """Return the fields in wire order."""
        return [
            self.record_count,
            self.records_root,
            self.perceptual_root,
            self.width,
            self.height,
            self.public,
            self.model,
            self.clustering,
            self.filter,
            self.seed_commitment,
            self.micro_batch,
            self.manifest_hash,
            self.group,
            self.part_index,
            self.part_count,
        ]

    @classmethod
    def of(cls, value: Value) -> BatchHeader:
        """Read the array of fields; raises DecodeError."""
        fields = as_array(value, "batch header", 15)
        batch = cls(
            record_count=as_uint(fields[0], "record count", U32),
            records_root=as_bytes(fields[1], "records root", size=HASH_BYTES),
            perceptual_root=as_bytes(fields[2], "perceptual root", size=HASH_BYTES),
            width=as_uint(fields[3], "width", U16),
            height=as_uint(fields[4], "height", U16),
            public=as_bool(fields[5], "public"),
            model=as_bytes(fields[6], "model", size=HASH_BYTES),
            clustering=as_bytes(fields[7], "clustering", size=HASH_BYTES),
            filter=as_bytes(fields[8], "filter", size=HASH_BYTES),
            seed_commitment=as_bytes(fields[9], "seed commitment", size=HASH_BYTES),
            micro_batch=as_uint(fields[10], "micro-batch", U32),
            manifest_hash=as_bytes(fields[11], "manifest hash", size=HASH_BYTES),
            group=as_bytes(fields[12], "batch group", size=HASH_BYTES),
            part_index=as_uint(fields[13], "part index", U32),
            part_count=as_uint(fields[14], "part count", U32),
        )
        if not batch.part_index < batch.part_count:
            raise DecodeError(
                "part index", expected=f"below the part count {batch.part_count}", got=str(batch.part_index)
            )
        return batch


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementHeader:
    """The signed part of a statement."""

    kind: Kind
    author: bytes
    """Ledger key (Ed25519, 32 bytes)."""
    sequence: int
    """u64; an author's statements count 0, 1, 2, ..., without a gap."""
    claimed_time_ms: int
    """u64, Unix time; informative, no rule reads it."""
    valid_until_height: int
    """u64; the last block height that may hold the statement."""
    payload_hash: bytes
    """SHA-256 of the payload's bytes."""
    batch: BatchHeader | None = None
    """There with kind ``image-batch`` and with no other."""

    def encode(self) -> bytes:
        """Return the canonical bytes that are hashed and signed."""
        return pack(
            [
                self.kind,
                self.author,
                self.sequence,
                self.claimed_time_ms,
                self.valid_until_height,
                self.payload_hash,
                None if self.batch is None else self.batch.values(),
            ]
        )

    @classmethod
    def decode(cls, data: bytes) -> StatementHeader:
        """Read canonical bytes.

        Raises:
            DecodeError: malformed, a kind outside the table, or batch fields that do not fit it.
        """
        fields = as_array(unpack(data, max_bytes=MAX_HEADER_BYTES), "statement header", 7)
        number = as_uint(fields[0], "kind", 8)
        if number not in Kind.__members__.values():
            raise DecodeError("kind", expected=f"1 to {max(Kind)}", got=str(number))
        kind = Kind(number)
        if (kind is Kind.IMAGE_BATCH) != (fields[6] is not None):
            raise DecodeError(
                "batch header", expected="one with an image-batch, none otherwise", got=kind.label
            )
        return cls(
            kind=kind,
            author=as_bytes(fields[1], "author", size=HASH_BYTES),
            sequence=as_uint(fields[2], "sequence", U64),
            claimed_time_ms=as_uint(fields[3], "claimed time", U64),
            valid_until_height=as_uint(fields[4], "valid until height", U64),
            payload_hash=as_bytes(fields[5], "payload hash", size=HASH_BYTES),
            batch=None if fields[6] is None else BatchHeader.of(fields[6]),
        )


@dataclass(frozen=True, slots=True)
class Statement:
    """A signed statement as it travels; immutable, so its hashes are computed once."""

    header_bytes: bytes
    signature: bytes
    payload: bytes
    header: StatementHeader = field(init=False, compare=False, repr=False)
    id: bytes = field(init=False, compare=False)
    leaf: bytes = field(init=False, compare=False, repr=False)
    size_bytes: int = field(init=False, compare=False, repr=False)
    """Length of :meth:`encode`."""

    def __post_init__(self) -> None:
        """Decode the header and compute ``id``, ``leaf`` and size; raises DecodeError."""
        as_bytes(self.signature, "signature", size=SIGNATURE_BYTES)
        object.__setattr__(self, "header", StatementHeader.decode(self.header_bytes))
        object.__setattr__(self, "id", sha256(self.header_bytes))
        object.__setattr__(self, "leaf", sha256(self.header_bytes + self.signature))
        parts = (self.header_bytes, self.signature, self.payload)
        object.__setattr__(self, "size_bytes", 1 + sum([packed_bytes_size(len(part)) for part in parts]))

    @property
    def kind(self) -> Kind:
        """The statement's kind."""
        return self.header.kind

    @property
    def author(self) -> bytes:
        """The author's ledger key, 32 bytes."""
        return self.header.author

    @property
    def sequence(self) -> int:
        """The author's sequence number."""
        return self.header.sequence

    def encode(self) -> bytes:
        """Return the wire form: array of header, signature and payload byte strings."""
        return pack([self.header_bytes, self.signature, self.payload])

    @classmethod
    def decode(cls, data: bytes, *, max_bytes: int = MAX_STATEMENT_BYTES) -> Statement:
        """Read the wire form; the payload is not looked into.

        Raises:
            DecodeError: malformed, or longer than ``max_bytes``.
        """
        header, signature, payload = as_array(unpack(data, max_bytes=max_bytes), "statement", 3)
        return cls(
            as_bytes(header, "statement header", max_size=MAX_HEADER_BYTES),
            as_bytes(signature, "signature", size=SIGNATURE_BYTES),
            as_bytes(payload, "payload", max_size=MAX_PAYLOAD_BYTES),
        )

    def decode_payload(self) -> AnyPayload:
        """Return the typed payload; raises DecodeError."""
        return decode_payload(self.header.kind, self.payload)

    def has_valid_signature(self, network_id: bytes) -> bool:
        """Tell whether the author signed this header for this network."""
        return verify_signature(self.header.author, self.signature, Purpose.STATEMENT, network_id, self.id)


def sign_statement(
    key: LedgerKey,
    network_id: bytes,
    *,
    payload: AnyPayload,
    kind: Kind,
    sequence: int,
    claimed_time_ms: int,
    valid_until_height: int = NEVER_EXPIRES,
    batch: BatchHeader | None = None,
) -> Statement:
    """Build and sign a statement of ``kind`` that says ``payload``."""
    encoded = payload.encode()
    header = StatementHeader(
        kind=kind,
        author=key.public,
        sequence=sequence,
        claimed_time_ms=claimed_time_ms,
        valid_until_height=valid_until_height,
        payload_hash=sha256(encoded),
        batch=batch,
    ).encode()
    signature = key.sign(Purpose.STATEMENT, network_id, sha256(header))
    return Statement(header, signature, encoded)
