"""Consensus parameters and the genesis: what a network is.

Owns every limit that is part of validity, with its default, and the network id that commits to
all of them. Two nodes with one network id agree on every rule. Node configuration (peers, pinned
checkpoints, minimum work, ``max_reorg``) is not here: it is each operator's own.

Source: ``docs/protocol.md``, section "Genesis and parameters".
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, fields
from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from .ed25519 import check_public_key
from .encoding import U8, U32, U64, as_array, as_bytes, as_list, as_text, as_uint, pack, unpack
from .errors import DecodeError
from .hashing import sha256
from .kinds import Role
from .signing import LedgerKey, Purpose, verify_signature
from .work import bits_to_target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROTOCOL_DRAFT = 2
"""Number of this draft; part of the network id and of the handshake."""

GENESIS_TAG = "facechain/genesis/v1"
MAX_GENESIS_BYTES = 65_536
MAX_ADMINISTRATORS = 64
MAX_GRANTS = 1_024
MAX_NETWORK_NAME_BYTES = 64
GRANTED_ROLES = frozenset({Role.PRODUCER, Role.SUBMITTER})
"""Roles that a genesis may grant besides ``admin``; a viewer needs an encryption key, so a proposal."""

MEDIAN_TIME_SPAN = 11
"""Headers whose median time is the floor for the next header's time (as in Bitcoin)."""

MAX_FIXED_DIGITS = 16
HASH_BYTES = 32
SIGNATURE_BYTES = 64

MIB = 2**20


class Retarget(IntEnum):
    """How the bits of a block follow from its ancestors (u8 on the wire)."""

    ASERT = 1
    FIXED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """The consensus parameters, in wire order."""

    retarget: Retarget = Retarget.ASERT
    spacing_ms: int = 10_000
    """Ideal time between blocks."""
    half_life_ms: int = 3_600_000
    """ASERT: schedule error that halves or doubles the difficulty."""
    pow_limit_bits: int = 0x1F010000
    """Easiest target (default 2**240, 65,536 hashes expected); the first block's under ASERT."""
    fixed_digits: int = 4
    """``fixed``: leading zero hex digits of every hash, the paper's difficulty."""
    heartbeat_ms: int = 9_000
    """An empty block must be at least this much later than its parent. Below the spacing, so that an
    idle network's target has a fixed point instead of a drift."""
    future_limit_ms: int = 60_000
    """How far a header's time may be ahead of the node's clock; at most half-life / 8."""
    max_statement_bytes: int = MIB
    max_body_bytes: int = 16 * MIB
    max_statements: int = 65_536
    """Statements per body."""
    max_author_bytes: int = 16 * MIB
    """Bytes of statements of one author per body."""
    producer_share: int = 0
    """A key may seal at most this many of the last ``producer_window`` blocks; 0 switches it off."""
    producer_window: int = 0
    quorum: int = 1
    """m: distinct administrators that a role change, checkpoint or upgrade needs."""

    def values(self) -> list[int]:
        """Return the fields in wire order."""
        return [int(getattr(self, item.name)) for item in fields(self)]


_WIDTHS: Mapping[str, int] = MappingProxyType(
    {
        "retarget": U8,
        "spacing_ms": U64,
        "half_life_ms": U64,
        "pow_limit_bits": U32,
        "fixed_digits": U8,
        "heartbeat_ms": U64,
        "future_limit_ms": U64,
        "max_statement_bytes": U32,
        "max_body_bytes": U32,
        "max_statements": U32,
        "max_author_bytes": U32,
        "producer_share": U32,
        "producer_window": U32,
        "quorum": U8,
    }
)

_RANGES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "retarget": (1, 2),
        "spacing_ms": (100, 86_400_000),
        "half_life_ms": (1_000, 30 * 86_400_000),
        "fixed_digits": (1, MAX_FIXED_DIGITS),
        "heartbeat_ms": (0, 86_400_000),
        "future_limit_ms": (100, 7_200_000),
        "max_statement_bytes": (4_096, MIB),
        "max_body_bytes": (4_096, 64 * MIB),
        "max_statements": (1, 65_536),
        "max_author_bytes": (4_096, 64 * MIB),
        "producer_share": (0, 1_024),
        "producer_window": (0, 1_024),
        "quorum": (1, MAX_ADMINISTRATORS),
    }
)


def check_params(params: Params) -> None:
    """Refuse parameters under which a network could not work.

    Raises:
        DecodeError: names the parameter, what is expected and what came.
    """
    for name, (least, most) in _RANGES.items():
        value = int(getattr(params, name))
        if not least <= value <= most:
            raise DecodeError(name, expected=f"{least} to {most}", got=str(value))
    bits_to_target(params.pow_limit_bits)
    if params.retarget is Retarget.ASERT and params.future_limit_ms > params.half_life_ms // 8:
        raise DecodeError(
            "future_limit_ms",
            expected=f"at most half_life_ms / 8 = {params.half_life_ms // 8}",
            got=str(params.future_limit_ms),
        )
    if params.heartbeat_ms >= params.spacing_ms:
        raise DecodeError(
            "heartbeat_ms", expected=f"below spacing_ms = {params.spacing_ms}", got=str(params.heartbeat_ms)
        )
    if params.max_statement_bytes > params.max_body_bytes:
        raise DecodeError(
            "max_statement_bytes",
            expected=f"at most max_body_bytes = {params.max_body_bytes}",
            got=str(params.max_statement_bytes),
        )
    if params.producer_share > params.producer_window:
        raise DecodeError(
            "producer_share",
            expected=f"at most producer_window = {params.producer_window}",
            got=str(params.producer_share),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A role that a key holds from block 1 on."""

    role: Role
    subject: bytes
    """Ledger key, 32 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Genesis:
    """What block 0 is made from. Its hash is the network id."""

    name: str
    """Name of the network, for people."""
    params: Params
    time_ms: int
    """Unix time of block 0."""
    administrators: tuple[bytes, ...]
    """Ledger keys, strictly ascending."""
    grants: tuple[Grant, ...]
    """Further roles, strictly ascending by (role, key); never ``admin``."""
    signatures: tuple[bytes, ...] = field(default=(), compare=False)
    """One for each administrator, in their order, purpose ``genesis``; outside the network id."""

    def unsigned_bytes(self) -> bytes:
        """Return the canonical bytes that the network id hashes."""
        return pack(
            [
                GENESIS_TAG,
                PROTOCOL_DRAFT,
                self.name,
                self.params.values(),
                self.time_ms,
                self.administrators,
                [[grant.role, grant.subject] for grant in self.grants],
            ]
        )

    @property
    def network_id(self) -> bytes:
        """SHA-256 of :meth:`unsigned_bytes`."""
        return sha256(self.unsigned_bytes())

    def encode(self) -> bytes:
        """Return the stored form: array of unsigned bytes and signatures."""
        return pack([self.unsigned_bytes(), self.signatures])

    @classmethod
    def decode(cls, data: bytes) -> Genesis:
        """Read and check the stored form, signatures included.

        Raises:
            DecodeError: malformed, or parameters out of range, or a signature that does not verify.
        """
        unsigned, signatures = as_array(unpack(data, max_bytes=MAX_GENESIS_BYTES), "genesis", 2)
        genesis = _read_unsigned(
            as_bytes(unsigned, "genesis", max_size=MAX_GENESIS_BYTES),
            tuple(
                as_bytes(item, "signature", size=SIGNATURE_BYTES)
                for item in as_list(signatures, "signatures", max_items=MAX_ADMINISTRATORS)
            ),
        )
        check_genesis(genesis)
        return genesis

    def signed_by(self, *keys: LedgerKey) -> Genesis:
        """Return the genesis with the administrators' signatures.

        Raises:
            DecodeError: the keys are not exactly the administrators'.
        """
        by_public = {key.public: key for key in keys}
        if tuple(sorted(by_public)) != self.administrators:
            raise DecodeError(
                "signatures", expected="the key of every administrator", got=f"{len(by_public)} keys"
            )
        signatures = tuple(
            by_public[public].sign(Purpose.GENESIS, self.network_id) for public in self.administrators
        )
        return Genesis(
            name=self.name,
            params=self.params,
            time_ms=self.time_ms,
            administrators=self.administrators,
            grants=self.grants,
            signatures=signatures,
        )


def _read_unsigned(data: bytes, signatures: tuple[bytes, ...]) -> Genesis:
    limit = MAX_GRANTS
    parts = as_array(unpack(data, max_bytes=MAX_GENESIS_BYTES, max_items=limit), "genesis", 7)
    if parts[0] != GENESIS_TAG:
        raise DecodeError("genesis", expected=GENESIS_TAG, got=repr(parts[0])[:80])
    draft = as_uint(parts[1], "protocol draft", U32)
    if draft != PROTOCOL_DRAFT:
        raise DecodeError("protocol draft", expected=str(PROTOCOL_DRAFT), got=str(draft))
    administrators = as_list(parts[5], "administrators", max_items=MAX_ADMINISTRATORS, min_items=1)
    return Genesis(
        name=as_text(parts[2], "network name", max_bytes=MAX_NETWORK_NAME_BYTES),
        params=_read_params(as_array(parts[3], "parameters", len(_WIDTHS))),
        time_ms=as_uint(parts[4], "time", U64),
        administrators=tuple(as_bytes(item, "administrator", size=HASH_BYTES) for item in administrators),
        grants=tuple(_read_grant(item) for item in as_list(parts[6], "grants", max_items=limit)),
        signatures=signatures,
    )


def _read_params(values: Sequence[object]) -> Params:
    numbers = {
        name: as_uint(value, name, width)
        for (name, width), value in zip(_WIDTHS.items(), values, strict=True)
    }
    retarget = numbers.pop("retarget")
    if retarget not in Retarget.__members__.values():
        raise DecodeError("retarget", expected="1 (asert) or 2 (fixed)", got=str(retarget))
    return Params(retarget=Retarget(retarget), **numbers)


def _read_grant(item: object) -> Grant:
    number, subject = as_array(item, "grant", 2)
    role = as_uint(number, "role", U8)
    if role not in GRANTED_ROLES:
        raise DecodeError("granted role", expected="2 (producer) or 3 (submitter)", got=str(role))
    return Grant(role=Role(role), subject=as_bytes(subject, "subject", size=HASH_BYTES))


def check_genesis(genesis: Genesis) -> None:
    """Refuse a genesis that is not in canonical order, not signed, or unworkable.

    Raises:
        DecodeError: names the part, what is expected and what came.
    """
    check_params(genesis.params)
    administrators = genesis.administrators
    _check_ascending("administrators", administrators)
    _check_ascending("grants", tuple((grant.role, grant.subject) for grant in genesis.grants))
    for grant in genesis.grants:
        if grant.role not in GRANTED_ROLES:
            raise DecodeError(
                "granted role", expected="2 (producer) or 3 (submitter)", got=str(int(grant.role))
            )
        check_public_key(grant.subject)
    if len(administrators) < genesis.params.quorum:
        raise DecodeError(
            "quorum", expected=f"at most {len(administrators)} administrators", got=str(genesis.params.quorum)
        )
    if len(genesis.signatures) != len(administrators):
        raise DecodeError("signatures", expected=f"{len(administrators)}", got=f"{len(genesis.signatures)}")
    network_id = genesis.network_id
    for public, signature in zip(administrators, genesis.signatures, strict=True):
        if not verify_signature(public, signature, Purpose.GENESIS, network_id):
            raise DecodeError(
                "signature", expected=f"one of administrator {public.hex()}", got="one that does not verify"
            )


def _check_ascending(name: str, items: tuple[object, ...]) -> None:
    if any(not left < right for left, right in itertools.pairwise(items)):  # type: ignore[operator]
        raise DecodeError(name, expected="strictly ascending order", got="unordered or repeated items")
