"""Proofs under a state root: what the state holds under a key, and which headers came before it.

Owns the checks that lead from a header's state root down to one entry of a mapped part, or to the place of an
ancestor in the history, and the values and bytes of the proofs that stand alone. They prove what the header's
maker committed to. Whether that header counts is another question, and :mod:`.light` is the answer to it.

Source: ``docs/protocol.md``, section "State proofs".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from . import merkle, sparse
from .block import HEADER_BYTES, SEALED_HEADER_BYTES, Header, SealedHeader
from .encoding import U8, Value, as_array, as_bytes, as_uint, pack, split_fixed, unpack
from .errors import DecodeError, ProofError
from .hashing import HASH_BYTES
from .kinds import Role
from .kv import Bucket, StateReader
from .sparse import MAX_PROOF_BYTES, SparseProof
from .state import (
    MAX_ENTRY_BYTES,
    SUB_ROOTS,
    TREES,
    RoleEntry,
    prove_entry,
    prove_history,
    role_key,
    state_root,
    sub_roots,
    tree_key,
)

MAX_PATH_HASHES: Final = 64
"""Siblings of an RFC 6962 path: enough for 2**64 leaves."""

SUB_ROOTS_BYTES: Final = HASH_BYTES * len(SUB_ROOTS)

MAX_ROLE_PROOF_BYTES: Final = 81_920
"""A header, the sub-roots, the longest entry and the longest sparse proof stay below this."""

MAX_HEADER_PROOF_BYTES: Final = 4_096

_SUB_ROOT_OF: Final = {bucket: SUB_ROOTS.index(bucket.value) for bucket in TREES}
_HISTORY: Final = SUB_ROOTS.index("history")
ROLES_ROOT: Final = _SUB_ROOT_OF[Bucket.ROLES]
"""Place of the roles among the sub-roots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryProof:
    """What a state holds under one key of a mapped part, or that it holds nothing there."""

    value: bytes | None
    """The entry's bytes; None proves absence."""
    proof: SparseProof

    def values(self) -> list[object]:
        """Return the fields in wire order."""
        return [self.value, self.proof.encode()]

    @classmethod
    def of(cls, value: Value) -> EntryProof:
        """Read the array of fields; raises DecodeError."""
        entry, proof = as_array(value, "entry proof", 2)
        return cls(
            value=None if entry is None else as_bytes(entry, "entry", max_size=MAX_ENTRY_BYTES),
            proof=SparseProof.decode(as_bytes(proof, "sparse proof", max_size=MAX_PROOF_BYTES)),
        )


def prove_role_entry(reader: StateReader, role: Role, key: bytes) -> EntryProof:
    """Prove what a state knows of (role, key)."""
    at = role_key(role, key)
    return EntryProof(value=reader.get(Bucket.ROLES, at), proof=prove_entry(reader, Bucket.ROLES, at))


def check_sub_roots(root: bytes, roots: tuple[bytes, ...], what: str = "the anchor") -> None:
    """Check that these are the parts of the state root of ``what``; raises ProofError."""
    if state_root(roots) != root:
        raise ProofError(f"state root of {what}", expected=root.hex(), got="another")


def check_entry(roots: tuple[bytes, ...], bucket: Bucket, key: bytes, proof: EntryProof) -> bytes | None:
    """Return what a state with these sub-roots holds under a key, None for nothing; raises ProofError."""
    root = roots[_SUB_ROOT_OF[bucket]]
    if proof.value is None:
        sparse.check_absence(root, tree_key(key), proof.proof)
    else:
        sparse.check_membership(root, tree_key(key), proof.value, proof.proof)
    return proof.value


def check_role_entry(roots: tuple[bytes, ...], role: Role, key: bytes, proof: EntryProof) -> RoleEntry:
    """Return what a state with these sub-roots knows of (role, key); raises ProofError, DecodeError."""
    value = check_entry(roots, Bucket.ROLES, role_key(role, key), proof)
    return RoleEntry(intervals=()) if value is None else RoleEntry.decode(value)


def check_ancestor(
    roots: tuple[bytes, ...], *, below: int, height: int, block_hash: bytes, path: tuple[bytes, ...]
) -> None:
    """Check that a block is the ancestor, at its height, of block number ``below`` with these sub-roots.

    Raises:
        ProofError: another block stands there, or the height is not under ``below``.
    """
    merkle.check_inclusion(
        leaf=merkle.leaf_hash(block_hash), index=height, size=below, proof=path, root=roots[_HISTORY]
    )


def read_path(value: Value, name: str) -> tuple[bytes, ...]:
    """Read concatenated hashes of a path; raises DecodeError."""
    return split_fixed(as_bytes(value, name), name, size=HASH_BYTES, max_items=MAX_PATH_HASHES)


def read_sub_roots(value: Value) -> tuple[bytes, ...]:
    """Read the six sub-roots; raises DecodeError."""
    packed = as_bytes(value, "sub-roots", size=SUB_ROOTS_BYTES)
    return split_fixed(packed, "sub-roots", size=HASH_BYTES, max_items=len(SUB_ROOTS))


def read_role(value: Value) -> Role:
    """Read a role number; raises DecodeError."""
    number = as_uint(value, "role", U8)
    if number not in Role.__members__.values():
        raise DecodeError("role", expected=f"1 to {max(Role)}", got=str(number))
    return Role(number)


def _read_sealed(value: Value) -> SealedHeader:
    return SealedHeader.decode(as_bytes(value, "sealed header", size=SEALED_HEADER_BYTES))


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleProof:
    """That a key had a role, or had not, at any height up to one above a header's."""

    anchor: SealedHeader
    """The header whose state is asked."""
    sub_roots: tuple[bytes, ...]
    role: Role
    key: bytes
    entry: EntryProof

    @classmethod
    def make(cls, reader: StateReader, anchor: SealedHeader, role: Role, key: bytes) -> Self:
        """Prove from the state after ``anchor``."""
        return cls(
            anchor=anchor,
            sub_roots=sub_roots(reader),
            role=role,
            key=key,
            entry=prove_role_entry(reader, role, key),
        )

    def check(self) -> RoleEntry:
        """Return what the anchor's state knows of the key in this role; raises ProofError, DecodeError."""
        check_sub_roots(self.anchor.header.state_root, self.sub_roots)
        return check_role_entry(self.sub_roots, self.role, self.key, self.entry)

    def held_at(self, height: int) -> bool:
        """Tell whether the key had the role for block ``height``.

        Raises:
            ProofError, DecodeError: as :meth:`check`, or the height is more than one above the anchor's, which
                nobody can know yet.
        """
        known = self.anchor.height + 1
        if not 0 <= height <= known:
            raise ProofError("height", expected=f"0 to {known}, as far as the proof reaches", got=height)
        return self.check().holds_at(height)

    def encode(self) -> bytes:
        """Return canonical MessagePack."""
        values = [self.anchor.encode(), b"".join(self.sub_roots), self.role, self.key, self.entry.values()]
        return pack(values)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read what `encode` wrote; raises DecodeError."""
        fields = as_array(unpack(data, max_bytes=MAX_ROLE_PROOF_BYTES), "role proof", 5)
        return cls(
            anchor=_read_sealed(fields[0]),
            sub_roots=read_sub_roots(fields[1]),
            role=read_role(fields[2]),
            key=as_bytes(fields[3], "key", size=HASH_BYTES),
            entry=EntryProof.of(fields[4]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderProof:
    """That a header is an ancestor of another one: log n hashes under the newer header's history."""

    anchor: SealedHeader
    """The newer header."""
    sub_roots: tuple[bytes, ...]
    header: Header
    """The older one."""
    path: tuple[bytes, ...]

    @classmethod
    def make(cls, reader: StateReader, anchor: SealedHeader, header: Header) -> Self:
        """Prove from the state after ``anchor``, which ``header`` is below; DecodeError when it is not."""
        path = prove_history(reader, header.height)
        return cls(anchor=anchor, sub_roots=sub_roots(reader), header=header, path=path)

    def check(self) -> None:
        """Check that the anchor's state names the older header at its height; raises ProofError."""
        check_sub_roots(self.anchor.header.state_root, self.sub_roots)
        check_ancestor(
            self.sub_roots,
            below=self.anchor.height,
            height=self.header.height,
            block_hash=self.header.hash,
            path=self.path,
        )

    def encode(self) -> bytes:
        """Return canonical MessagePack."""
        roots, path = b"".join(self.sub_roots), b"".join(self.path)
        return pack([self.anchor.encode(), roots, self.header.encode(), path])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read what `encode` wrote; raises DecodeError."""
        fields = as_array(unpack(data, max_bytes=MAX_HEADER_PROOF_BYTES), "header proof", 4)
        return cls(
            anchor=_read_sealed(fields[0]),
            sub_roots=read_sub_roots(fields[1]),
            header=Header.decode(as_bytes(fields[2], "header", size=HEADER_BYTES)),
            path=read_path(fields[3], "history path"),
        )
