"""Payloads: what a statement of each kind says.

Owns the byte form of every payload and the checks that need nothing but the payload itself. It
knows nothing of the chain: whether a named statement exists is decided in ``apply``.

Source: ``docs/protocol.md``, section "Payloads".
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, Self, TypeAlias, TypeVar

from . import merkle
from .encoding import (
    U8,
    U32,
    U64,
    Value,
    as_array,
    as_bytes,
    as_list,
    as_text,
    as_uint,
    pack,
    split_fixed,
    unpack,
)
from .errors import DecodeError
from .kinds import Kind, Role, RoleAction, StageType
from .perceptual import HASH_BYTES as PERCEPTUAL_BYTES
from .records import RECORD_BYTES, Records

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_PAYLOAD_BYTES = 16 * 2**20
"""Bound for decoding; the network's own ``max_statement_bytes`` is usually far lower."""

MAX_STAGE_INPUTS = 16
MAX_STAGE_DETAILS = 64
MAX_NAME_BYTES = 128
MAX_KEY_BYTES = 64
MAX_VALUE_BYTES = 1_024
MAX_NOTE_BYTES = 512
MAX_WRAPPED_KEY_BYTES = 512
MAX_BATCH_RECORDS = 2**20

HASH_BYTES = 32
SIGNATURE_BYTES = 64

_E = TypeVar("_E", bound=IntEnum)


class Payload(Protocol):
    """What all payloads have in common."""

    def encode(self) -> bytes:
        """Return the canonical bytes that the header's payload hash covers."""

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read canonical bytes; raises DecodeError."""


def _fields(data: bytes, name: str, size: int) -> list[Value]:
    return as_array(unpack(data, max_bytes=MAX_PAYLOAD_BYTES), name, size)


def _enum(kind: type[_E], value: Value, name: str) -> _E:
    number = as_uint(value, name, U8)
    try:
        return kind(number)
    except ValueError:
        known = ", ".join(f"{item.value} ({item.name.lower()})" for item in kind)
        raise DecodeError(name, expected=f"one of {known}", got=str(number)) from None


def _hash(value: Value, name: str) -> bytes:
    return as_bytes(value, name, size=HASH_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageBatch:
    """The records of a batch, travelling detached from the signed header."""

    records: Records
    """1 to ``MAX_BATCH_RECORDS`` records."""
    perceptual: bytes | None
    """32 bytes for each record, or None for a batch that is not public."""
    seed: bytes | None
    """The opened batch seed (32 bytes), or None."""

    def encode(self) -> bytes:
        """See :class:`Payload`."""
        return pack([self.records.packed, self.perceptual, self.seed])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """See :class:`Payload`."""
        records, perceptual, seed = _fields(data, "image-batch", 3)
        packed = as_bytes(records, "records", max_size=RECORD_BYTES * MAX_BATCH_RECORDS)
        if not packed:
            raise DecodeError("records", expected="at least one record", got="none")
        batch = cls(
            records=Records(packed),
            perceptual=None if perceptual is None else as_bytes(perceptual, "perceptual column"),
            seed=None if seed is None else _hash(seed, "seed"),
        )
        wanted = len(batch.records) * PERCEPTUAL_BYTES
        if batch.perceptual is not None and len(batch.perceptual) != wanted:
            raise DecodeError(
                "perceptual column", expected=f"{wanted} bytes", got=f"{len(batch.perceptual)} bytes"
            )
        return batch

    def perceptual_root(self) -> bytes | None:
        """RFC 6962 root over the 32-byte perceptual hashes, or None without the column."""
        if self.perceptual is None:
            return None
        column = split_fixed(
            self.perceptual, "perceptual column", size=PERCEPTUAL_BYTES, max_items=MAX_BATCH_RECORDS
        )
        return merkle.root([merkle.leaf_hash(item) for item in column])


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step of a producer's pipeline, linked to the steps that it used."""

    stage_type: StageType
    artifact: bytes
    """SHA-256 of what the step made (checkpoint, data set listing, centroids); zeros for none."""
    inputs: tuple[bytes, ...]
    """Statement ids of the steps (or batches) it used."""
    name: str
    details: tuple[tuple[str, str], ...]
    """Facts as (key, value), keys strictly ascending by their UTF-8 bytes."""

    def encode(self) -> bytes:
        """See :class:`Payload`."""
        return pack([self.stage_type, self.artifact, self.inputs, self.name, self.details])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """See :class:`Payload`."""
        stage_type, artifact, inputs, name, details = _fields(data, "stage", 5)
        stage = cls(
            stage_type=_enum(StageType, stage_type, "stage type"),
            artifact=_hash(artifact, "artifact"),
            inputs=tuple(
                _hash(item, "input") for item in as_list(inputs, "inputs", max_items=MAX_STAGE_INPUTS)
            ),
            name=as_text(name, "name", max_bytes=MAX_NAME_BYTES),
            details=tuple(_detail(item) for item in as_list(details, "details", max_items=MAX_STAGE_DETAILS)),
        )
        keys = [key.encode() for key, _ in stage.details]
        if any(left >= right for left, right in itertools.pairwise(keys)):
            raise DecodeError(
                "details", expected="keys in strictly ascending order", got="unordered or repeated keys"
            )
        return stage


def _detail(item: Value) -> tuple[str, str]:
    key, value = as_array(item, "detail", 2)
    return (
        as_text(key, "detail key", max_bytes=MAX_KEY_BYTES),
        as_text(value, "detail value", max_bytes=MAX_VALUE_BYTES),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleProposal:
    """Ask to grant or revoke a role; counts as its author's approval."""

    action: RoleAction
    role: Role
    subject: bytes
    """Ledger key that gains or loses the role."""
    encryption_key: bytes | None
    """X25519 public key; with viewer grants only, and always there."""
    suspect_since: int | None
    """With a revocation: the height from which the key's statements are disputed."""
    note: str

    def encode(self) -> bytes:
        """See :class:`Payload`."""
        return pack(
            [self.action, self.role, self.subject, self.encryption_key, self.suspect_since, self.note]
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """See :class:`Payload`."""
        action, role, subject, encryption_key, suspect_since, note = _fields(data, "role-proposal", 6)
        proposal = cls(
            action=_enum(RoleAction, action, "action"),
            role=_enum(Role, role, "role"),
            subject=_hash(subject, "subject"),
            encryption_key=None if encryption_key is None else _hash(encryption_key, "encryption key"),
            suspect_since=None if suspect_since is None else as_uint(suspect_since, "suspect since", U64),
            note=as_text(note, "note", max_bytes=MAX_NOTE_BYTES),
        )
        wants_key = proposal.action is RoleAction.GRANT and proposal.role is Role.VIEWER
        if wants_key != (proposal.encryption_key is not None):
            raise DecodeError(
                "encryption key",
                expected="one with a viewer grant, none otherwise",
                got=proposal.action.label,
            )
        if proposal.suspect_since is not None and proposal.action is not RoleAction.REVOKE:
            raise DecodeError("suspect since", expected="none with a grant", got=str(proposal.suspect_since))
        return proposal


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleApproval:
    """An administrator's approval of a proposal."""

    proposal: bytes
    """Statement id of the role proposal."""

    def encode(self) -> bytes:
        """See :class:`Payload`."""
        return pack([self.proposal])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """See :class:`Payload`."""
        (proposal,) = _fields(data, "role-approval", 1)
        return cls(proposal=_hash(proposal, "proposal"))


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRotate:
    """Hand all roles of the author's key to a new key, which signs its consent."""

    new_key: bytes
    consent: bytes
    """Signature by the new key, purpose ``key-rotate``, over the old key."""

    def encode(self) -> bytes:
        """See :class:`Payload`."""
        return pack([self.new_key, self.consent])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """See :class:`Payload`."""
        new_key, consent = _fields(data, "key-rotate", 2)
        return cls(
            new_key=_hash(new_key, "new key"), consent=as_bytes(consent, "consent", size=SIGNATURE_BYTES)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewGrant:
    """The content key of an encrypted batch, wrapped for one viewer (RFC 9180, HPKE)."""

    batch: bytes
    viewer: bytes
    wrapped_key: bytes

    def encode(self) -> bytes:
        """See :class:`Payload`."""
        return pack([self.batch, self.viewer, self.wrapped_key])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """See :class:`Payload`."""
        batch, viewer, wrapped_key = _fields(data, "view-grant", 3)
        return cls(
            batch=_hash(batch, "batch"),
            viewer=_hash(viewer, "viewer"),
            wrapped_key=as_bytes(wrapped_key, "wrapped key", max_size=MAX_WRAPPED_KEY_BYTES),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Retract:
    """Withdraw a batch, a stage, or one record of a batch. Nothing is removed from the chain."""

    target: bytes
    record: int | None
    reason: str

    def encode(self) -> bytes:
        """See :class:`Payload`."""
        return pack([self.target, self.record, self.reason])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """See :class:`Payload`."""
        target, record, reason = _fields(data, "retract", 3)
        return cls(
            target=_hash(target, "target"),
            record=None if record is None else as_uint(record, "record", U32),
            reason=as_text(reason, "reason", max_bytes=MAX_NOTE_BYTES),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """An auditor says that it rendered this record again and got the same pixels."""

    batch: bytes
    record: int
    pixel_hash: bytes
    note: str

    def encode(self) -> bytes:
        """See :class:`Payload`."""
        return pack([self.batch, self.record, self.pixel_hash, self.note])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """See :class:`Payload`."""
        batch, record, pixel_hash, note = _fields(data, "attestation", 4)
        return cls(
            batch=_hash(batch, "batch"),
            record=as_uint(record, "record", U32),
            pixel_hash=_hash(pixel_hash, "pixel hash"),
            note=as_text(note, "note", max_bytes=MAX_NOTE_BYTES),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """An administrator vouches for the block at a height; binding once m of them did."""

    height: int
    block_hash: bytes

    def encode(self) -> bytes:
        """See :class:`Payload`."""
        return pack([self.height, self.block_hash])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """See :class:`Payload`."""
        height, block_hash = _fields(data, "checkpoint", 2)
        return cls(height=as_uint(height, "height", U64), block_hash=_hash(block_hash, "block hash"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Use up a sequence number without saying anything."""

    note: str

    def encode(self) -> bytes:
        """See :class:`Payload`."""
        return pack([self.note])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """See :class:`Payload`."""
        (note,) = _fields(data, "cancel", 1)
        return cls(note=as_text(note, "note", max_bytes=MAX_NOTE_BYTES))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolUpgrade:
    """An administrator asks for protocol ``version`` from ``activation_height`` on."""

    version: int
    activation_height: int

    def encode(self) -> bytes:
        """See :class:`Payload`."""
        return pack([self.version, self.activation_height])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """See :class:`Payload`."""
        version, activation_height = _fields(data, "protocol-upgrade", 2)
        return cls(
            version=as_uint(version, "version", U32),
            activation_height=as_uint(activation_height, "activation height", U64),
        )


AnyPayload: TypeAlias = (
    ImageBatch
    | Stage
    | RoleProposal
    | RoleApproval
    | KeyRotate
    | ViewGrant
    | Retract
    | Attestation
    | Checkpoint
    | Cancel
    | ProtocolUpgrade
)

PAYLOADS: Mapping[Kind, type[AnyPayload]] = MappingProxyType(
    {
        Kind.IMAGE_BATCH: ImageBatch,
        Kind.STAGE: Stage,
        Kind.ROLE_PROPOSAL: RoleProposal,
        Kind.ROLE_APPROVAL: RoleApproval,
        Kind.KEY_ROTATE: KeyRotate,
        Kind.VIEW_GRANT: ViewGrant,
        Kind.RETRACT: Retract,
        Kind.ATTESTATION: Attestation,
        Kind.CHECKPOINT: Checkpoint,
        Kind.CANCEL: Cancel,
        Kind.PROTOCOL_UPGRADE: ProtocolUpgrade,
    }
)
"""The payload type of every kind."""


def decode_payload(kind: Kind, data: bytes) -> AnyPayload:
    """Read the payload of a statement of ``kind``; raises DecodeError."""
    return PAYLOADS[kind].decode(data)
