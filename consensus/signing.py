"""Domain-separated signatures, and the two kinds of keys that make them.

Owns the purposes and the bytes that are signed. Ledger keys (who is who on the chain) and node keys (who is
who on the wire) are different types with disjoint purposes. Key files and passphrases belong to the node.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from . import ed25519
from .hashing import HASH_BYTES

SEED_BYTES: Final = 32
"""Size of an Ed25519 private seed (RFC 8032)."""


class Purpose(StrEnum):
    """What a signature is for. The value is part of the signed bytes; none contains a slash."""

    STATEMENT = "statement"
    SEAL = "seal"
    GENESIS = "genesis"
    KEY_ROTATE = "key-rotate"
    VIEW_KEY = "view-key"
    LOCATOR = "locator"
    API = "api"
    HANDSHAKE_INITIATOR = "handshake-initiator"
    HANDSHAKE_RESPONDER = "handshake-responder"


def signed_message(purpose: Purpose, network_id: bytes, *parts: bytes) -> bytes:
    """Return "facechain/" purpose "/v1" ‖ network id (32 bytes) ‖ parts, the bytes that are signed.

    The parts are not delimited: every purpose signs parts of fixed size, or one part.
    ValueError when the network id is not 32 bytes.
    """
    if len(network_id) != HASH_BYTES:
        raise ValueError(f"network id: expected {HASH_BYTES} bytes, got {len(network_id)}")
    return b"".join((f"facechain/{purpose.value}/v1".encode("ascii"), network_id, *parts))


def verify_signature(
    public: bytes, signature: bytes, purpose: Purpose, network_id: bytes, *parts: bytes
) -> bool:
    """Return whether `signature` (64 bytes) is that of `public` (32 bytes) for exactly this use."""
    return ed25519.verify(public, signature, signed_message(purpose, network_id, *parts))


@dataclass(frozen=True, slots=True, eq=False)
class _Key:
    """An Ed25519 private key that signs for the purposes of its class only."""

    private_key: Ed25519PrivateKey = field(repr=False)
    public: bytes = field(init=False)

    purposes: ClassVar[frozenset[Purpose]] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "public", self.private_key.public_key().public_bytes_raw())

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """Return the key of a 32-byte seed; ValueError on another size."""
        if len(seed) != SEED_BYTES:
            raise ValueError(f"seed: expected {SEED_BYTES} bytes, got {len(seed)}")
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    def sign(self, purpose: Purpose, network_id: bytes, *parts: bytes) -> bytes:
        """Return the 64-byte signature; ValueError when this type of key does not sign for `purpose`."""
        if purpose not in self.purposes:
            allowed = ", ".join(sorted(self.purposes))
            raise ValueError(f"{type(self).__name__}: expected a purpose of {allowed}, got {purpose.value}")
        return self.private_key.sign(signed_message(purpose, network_id, *parts))


class LedgerKey(_Key):
    """Who somebody is on the chain: signs statements, seals, the genesis and what hangs on them."""

    __slots__ = ()

    purposes = frozenset(
        (
            Purpose.STATEMENT,
            Purpose.SEAL,
            Purpose.GENESIS,
            Purpose.KEY_ROTATE,
            Purpose.VIEW_KEY,
            Purpose.LOCATOR,
            Purpose.API,
        )
    )


class NodeKey(_Key):
    """Who a node is on the wire: signs handshakes, nothing else."""

    __slots__ = ()

    purposes = frozenset((Purpose.HANDSHAKE_INITIATOR, Purpose.HANDSHAKE_RESPONDER))
