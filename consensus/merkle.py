"""Merkle trees over a list of leaves, and proofs in them, exactly as transparency logs have them.

Owns the hashing of leaves and nodes. Trees are given by their leaf hashes and are computed from scratch;
the tree that grows with the chain and keeps its nodes is in `history`.

Source: RFC 6962 section 2.1 (trees), RFC 9162 section 2.1 (the same trees; algorithms for checking).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from .errors import ProofError

LEAF_PREFIX: Final = b"\x00"
NODE_PREFIX: Final = b"\x01"

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
"""Root of the tree without leaves."""


def leaf_hash(data: bytes) -> bytes:
    """Return SHA-256(0x00 ‖ data), the hash of one leaf."""
    return hashlib.sha256(LEAF_PREFIX + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return SHA-256(0x01 ‖ left ‖ right) of two 32-byte hashes."""
    return hashlib.sha256(NODE_PREFIX + left + right).digest()


def _parents(level: Sequence[bytes]) -> list[bytes]:
    """Return the level above: pairs are hashed, a last one without a partner moves up as it is."""
    above = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    if len(level) % 2:
        above.append(level[-1])
    return above


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """Return the root over the leaf hashes in order: MTH of RFC 6962, computed level by level."""
    if not leaf_hashes:
        return EMPTY_ROOT
    level = leaf_hashes
    while len(level) > 1:
        level = _parents(level)
    return level[0]


def inclusion_proof(leaf_hashes: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Return PATH(index) of RFC 6962: the siblings from the leaf up. IndexError outside the list."""
    if not 0 <= index < len(leaf_hashes):
        raise IndexError(f"leaf index: expected 0 to {len(leaf_hashes) - 1}, got {index}")
    proof = []
    level = leaf_hashes
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            proof.append(level[sibling])
        level = _parents(level)
        index >>= 1
    return tuple(proof)


def consistency_proof(leaf_hashes: Sequence[bytes], old_size: int) -> tuple[bytes, ...]:
    """Return PROOF(old_size) of RFC 6962: the tree over the first `old_size` leaves is a prefix of this one.

    Empty when nothing needs showing (old size 0, or the same size). ValueError when it is out of range.
    """
    size = len(leaf_hashes)
    if not 0 <= old_size <= size:
        raise ValueError(f"old size: expected 0 to {size}, got {old_size}")
    if old_size == 0:
        return ()
    return tuple(_subproof(leaf_hashes, old_size, whole=True))


def _subproof(leaves: Sequence[bytes], old_size: int, *, whole: bool) -> list[bytes]:
    """SUBPROOF of RFC 6962; `whole`: the old subtree is the whole old tree, whose root the checker has."""
    size = len(leaves)
    if old_size == size:
        return [] if whole else [root(leaves)]
    split = 1 << ((size - 1).bit_length() - 1)
    if old_size <= split:
        return [*_subproof(leaves[:split], old_size, whole=whole), root(leaves[split:])]
    return [*_subproof(leaves[split:], old_size - split, whole=False), root(leaves[:split])]


def check_inclusion(*, leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Raise ProofError unless the leaf hash `leaf` is at `index` of the tree of `size` leaves under `root`.

    The checker computes `leaf` itself, with `leaf_hash`. Algorithm of RFC 9162, 2.1.3.2.
    """
    if not 0 <= index < size:
        raise ProofError("inclusion proof index", expected=f"0 to {size - 1}", got=index)
    position, last = index, size - 1
    computed = leaf
    for sibling in proof:
        if last == 0:
            raise ProofError(
                "inclusion proof length", expected="no more siblings at the root", got=len(proof)
            )
        if position & 1 or position == last:
            computed = node_hash(sibling, computed)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            computed = node_hash(computed, sibling)
        position >>= 1
        last >>= 1
    if last:
        raise ProofError("inclusion proof length", expected="siblings up to the root", got=len(proof))
    if computed != root:
        raise ProofError("inclusion proof", expected=f"root {root.hex()}", got=computed.hex())


def check_consistency(
    *, old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Raise ProofError unless the old tree is a prefix of the new one. Algorithm of RFC 9162, 2.1.4.2.

    From size 0 and between equal sizes the proof is empty, and the roots speak for themselves.
    """
    if not 0 <= old_size <= new_size:
        raise ProofError("consistency proof sizes", expected=f"old size 0 to {new_size}", got=old_size)
    if old_size in (0, new_size):
        expected_root = EMPTY_ROOT if old_size == 0 else new_root
        if proof:
            raise ProofError("consistency proof length", expected=0, got=len(proof))
        if old_root != expected_root:
            raise ProofError("consistency proof", expected=expected_root.hex(), got=old_root.hex())
        return
    old_computed, new_computed = _fold_consistency(old_size, new_size, old_root, proof)
    if old_computed != old_root:
        raise ProofError("consistency proof", expected=f"old root {old_root.hex()}", got=old_computed.hex())
    if new_computed != new_root:
        raise ProofError("consistency proof", expected=f"new root {new_root.hex()}", got=new_computed.hex())


def _fold_consistency(
    old_size: int, new_size: int, old_root: bytes, proof: Sequence[bytes]
) -> tuple[bytes, bytes]:
    """Return the old and the new root that the proof leads to, for 0 < old size < new size."""
    # An old tree that is perfect is itself the first node of the path, so the proof leaves it out.
    path = list(proof) if old_size & (old_size - 1) else [old_root, *proof]
    if not path:
        raise ProofError("consistency proof length", expected="at least 1", got=0)
    position, last = old_size - 1, new_size - 1
    while position & 1:
        position >>= 1
        last >>= 1
    old_computed = new_computed = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise ProofError("consistency proof length", expected="no more nodes at the root", got=len(proof))
        if position & 1 or position == last:
            old_computed = node_hash(sibling, old_computed)
            new_computed = node_hash(sibling, new_computed)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            new_computed = node_hash(new_computed, sibling)
        position >>= 1
        last >>= 1
    if last:
        raise ProofError("consistency proof length", expected="nodes up to the root", got=len(proof))
    return old_computed, new_computed
