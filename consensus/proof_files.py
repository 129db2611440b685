"""Files of proofs that travel: what a key's role was, and a chain of headers with the authority of their seals.

Owns their bytes, and the walk through a role file. A file comes from anybody; nothing in it is believed.

Source: ``docs/protocol.md``, sections "State proofs" and "Light clients".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Self

from .apply import genesis_block
from .block import SealedHeader
from .encoding import as_array, as_bytes, pack, unpack
from .errors import DecodeError, ProofError
from .light import MAX_PROVEN_HEADER_BYTES, LightClient, ProvenHeader
from .params import MAX_GENESIS_BYTES, Genesis
from .proofs import check_bits, check_sealed, confirm
from .state import RoleEntry
from .state_proof import MAX_ROLE_PROOF_BYTES, RoleProof
from .work import meets_target

ROLE_MAGIC: Final = b"FCROLE\x00\x00"
HEADERS_MAGIC: Final = b"FCHEADS\x00"
FILE_VERSION: Final = 1
"""Version of both formats, u16 big-endian after the magic bytes."""

MAX_ROLE_FILE_BYTES: Final = 160 * 1024
"""The longest genesis and the longest role proof stay below this."""

_PREFIX_BYTES: Final = 10
_LENGTH_BYTES: Final = 4


def _strip_prefix(data: bytes, magic: bytes, what: str) -> bytes:
    if not data.startswith(magic) or len(data) < _PREFIX_BYTES:
        raise DecodeError(what, expected=f"a facechain {what}", got="other content")
    version = int.from_bytes(data[len(magic) : _PREFIX_BYTES], "big")
    if version != FILE_VERSION:
        raise DecodeError(f"{what} version", expected=FILE_VERSION, got=version)
    return data[_PREFIX_BYTES:]


def _prefix(magic: bytes) -> bytes:
    return magic + FILE_VERSION.to_bytes(2, "big")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleFile:
    """A role proof and the genesis of its network."""

    genesis: bytes
    proof: RoleProof

    def encode(self) -> bytes:
        """Return magic, version, canonical MessagePack."""
        return _prefix(ROLE_MAGIC) + pack([self.genesis, self.proof.encode()])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a role file; raises DecodeError."""
        if len(data) > MAX_ROLE_FILE_BYTES:
            raise DecodeError(
                "role proof file", expected=f"at most {MAX_ROLE_FILE_BYTES} bytes", got=len(data)
            )
        content = _strip_prefix(data, ROLE_MAGIC, "role proof file")
        genesis, proof = as_array(unpack(content, max_bytes=MAX_ROLE_FILE_BYTES), "role proof file", 2)
        return cls(
            genesis=as_bytes(genesis, "genesis", max_size=MAX_GENESIS_BYTES),
            proof=RoleProof.decode(as_bytes(proof, "role proof", max_size=MAX_ROLE_PROOF_BYTES)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleVerdict:
    """What a role file proves."""

    network_name: str
    network_id: bytes
    entry: RoleEntry
    confirmations: int | None
    """Of the anchor, on the caller's own chain of headers; None when it was not compared with one."""


def verify_role_file(
    file: RoleFile, *, network_id: bytes | None = None, headers: LightClient | None = None
) -> RoleVerdict:
    """Check all of a role file.

    ``network_id`` is the network that the caller trusts. Without ``headers`` the anchor is a header that somebody
    worked for and sealed, and no more.

    Raises:
        ProofError, DecodeError: what does not hold.
    """
    genesis, anchor = Genesis.decode(file.genesis), file.proof.anchor
    if network_id is not None and genesis.network_id != network_id:
        raise ProofError("network", expected=network_id.hex(), got=genesis.network_id.hex())
    _check_anchor_alone(anchor, genesis)
    entry = file.proof.check()
    return RoleVerdict(
        network_name=genesis.name,
        network_id=genesis.network_id,
        entry=entry,
        confirmations=None if headers is None else confirm(headers, genesis, anchor),
    )


def _check_anchor_alone(anchor: SealedHeader, genesis: Genesis) -> None:
    """Check what one header shows of itself: seal and work, or that it is block 0."""
    if anchor.height == 0:
        first, _ = genesis_block(genesis)
        if anchor.hash != first.hash:
            raise ProofError("block 0", expected=first.hash.hex(), got=anchor.hash.hex())
        return
    check_sealed(anchor, genesis.network_id)
    check_bits(anchor.header, genesis.params)
    if not meets_target(anchor.hash, anchor.header.bits):
        raise ProofError(
            "work", expected=f"below the target of {anchor.header.bits:#010x}", got=anchor.hash.hex()
        )


# Chains of headers.


def encode_frames(items: Iterable[ProvenHeader]) -> bytes:
    """Return proven headers one after the other, each behind its length as u32."""
    parts = []
    for item in items:
        data = item.encode()
        parts += [len(data).to_bytes(_LENGTH_BYTES, "big"), data]
    return b"".join(parts)


def decode_frames(data: bytes) -> Iterator[ProvenHeader]:
    """Yield what :func:`encode_frames` wrote; raises DecodeError."""
    position = 0
    while position < len(data):
        item, position = _frame(data, position, MAX_PROVEN_HEADER_BYTES)
        yield ProvenHeader.decode(item)


def _frame(data: bytes, position: int, limit: int) -> tuple[bytes, int]:
    start = position + _LENGTH_BYTES
    length = int.from_bytes(data[position:start], "big")
    if start > len(data) or length > limit or start + length > len(data):
        raise DecodeError(
            "frame",
            expected=f"a length up to {limit} and that many bytes",
            got=f"{len(data) - position} bytes",
        )
    return data[start : start + length], start + length


def encode_headers_file(genesis: Genesis, items: Iterable[ProvenHeader]) -> bytes:
    """Return a headers file: magic, version, the genesis and the headers from block 1 on, each behind its length."""
    encoded = genesis.encode()
    return (
        _prefix(HEADERS_MAGIC) + len(encoded).to_bytes(_LENGTH_BYTES, "big") + encoded + encode_frames(items)
    )


def decode_headers_file(data: bytes) -> tuple[Genesis, Iterator[ProvenHeader]]:
    """Read a headers file; the headers are read as they are taken. Raises DecodeError, there too."""
    content = _strip_prefix(data, HEADERS_MAGIC, "headers file")
    encoded, position = _frame(content, 0, MAX_GENESIS_BYTES)
    return Genesis.decode(encoded), decode_frames(content[position:])
