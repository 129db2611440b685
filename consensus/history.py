"""The growing Merkle tree over header hashes: RFC 6962's tree, kept as a Merkle mountain range.

Owns which nodes are stored and under which keys: the root of every perfect subtree, under
level u8 ‖ index u64 big-endian, where node (level, index) covers the leaves index·2^level to
(index + 1)·2^level - 1. Appending, the root and a proof cost O(log n) reads; the number of leaves is the
caller's to keep. Proofs are checked with `merkle.check_inclusion`. Leaves are never removed: a
reorganisation takes the stored nodes back through the undo data of its blocks.
"""

from __future__ import annotations

from typing import Final

from .kv import MissingNode, Nodes
from .merkle import EMPTY_ROOT, node_hash

KEY_BYTES: Final = 9
"""Size of a node's key."""

MAX_SIZE: Final = 2**64 - 1
"""Leaf numbers are written as u64."""


def node_key(level: int, index: int) -> bytes:
    """Return the key of node (level, index): u8 ‖ u64 big-endian."""
    return level.to_bytes(1, "big") + index.to_bytes(8, "big")


def _node(nodes: Nodes, level: int, index: int) -> bytes:
    found = nodes.get(node_key(level, index))
    if found is None:
        raise MissingNode(f"history node: expected level {level}, index {index} to be stored, got nothing")
    return found


def _check_size(size: int) -> None:
    if not 0 <= size <= MAX_SIZE:
        raise ValueError(f"history size: expected 0 to {MAX_SIZE}, got {size}")


def append(nodes: Nodes, size: int, leaf_hash: bytes) -> int:
    """Append a leaf hash to the tree of `size` leaves; return the new size.

    Writes the leaf and every subtree that it completes. ValueError on a bad size, MissingNode (of `kv`) when
    a left neighbour is not stored.
    """
    _check_size(size + 1)
    level, index, computed = 0, size, leaf_hash
    nodes.put(node_key(0, index), computed)
    while index & 1:
        computed = node_hash(_node(nodes, level, index - 1), computed)
        level, index = level + 1, index >> 1
        nodes.put(node_key(level, index), computed)
    return size + 1


def _peaks(size: int) -> list[tuple[int, int]]:
    """Return (level, index) of the perfect subtrees that make up the tree, widest (leftmost) first."""
    return [(level, (size >> level) - 1) for level in reversed(range(size.bit_length())) if size >> level & 1]


def _fold(nodes: Nodes, peaks: list[tuple[int, int]]) -> bytes:
    """Hash adjoining subtrees, of falling width, into one node: from the right, as RFC 6962 splits them."""
    computed = _node(nodes, *peaks[-1])
    for level, index in reversed(peaks[:-1]):
        computed = node_hash(_node(nodes, level, index), computed)
    return computed


def root(nodes: Nodes, size: int) -> bytes:
    """Return the RFC 6962 root over the first `size` leaves; an earlier size gives that earlier root."""
    _check_size(size)
    return _fold(nodes, _peaks(size)) if size else EMPTY_ROOT


def prove(nodes: Nodes, size: int, index: int) -> tuple[bytes, ...]:
    """Return the inclusion proof of leaf `index` in the tree of `size` leaves, siblings from the leaf up.

    IndexError when there is no such leaf, MissingNode when a node is not stored.
    """
    _check_size(size)
    if not 0 <= index < size:
        raise IndexError(f"history leaf: expected 0 to {size - 1}, got {index}")
    peaks = _peaks(size)
    at = next(i for i, (level, peak) in enumerate(peaks) if index >> level == peak)
    proof = [_node(nodes, level, (index >> level) ^ 1) for level in range(peaks[at][0])]
    if at + 1 < len(peaks):
        proof.append(_fold(nodes, peaks[at + 1 :]))
    proof.extend(_node(nodes, level, peak) for level, peak in reversed(peaks[:at]))
    return tuple(proof)
