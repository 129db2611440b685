"""Compact sparse Merkle tree: one root over a set of (32-byte key, value), with proofs of absence.

Owns the shape of the tree, its stored nodes and its proofs. The values themselves stay with the caller: the
tree knows their hashes. The root depends on the contents only, never on the order of changes.

Shape: a subtree of depth d holds the keys that share their first d bits. The empty subtree is 32 zero bytes;
one with a single key is that key's leaf, at whatever depth; any other is SHA-256(0x01 ‖ left ‖ right),
left being the keys whose bit d is 0. A leaf is SHA-256(0x00 ‖ key ‖ SHA-256(value)). The prefixes keep leaves
and inner nodes apart, and the leaf holds its whole key, so neither passes for the other.

Stored: under depth u16 big-endian ‖ the first `depth` bits of the path, left-aligned in as few bytes as hold
them: 0x01 ‖ left ‖ right for an inner node, 0x00 ‖ key ‖ value hash for a leaf, nothing for an empty subtree.
With uniformly spread keys (hashes, public keys) one change costs O(log n) reads and writes; a batch shares the
upper nodes.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from .encoding import as_array, as_bytes, pack, split_fixed, unpack
from .errors import ProofError
from .hashing import HASH_BYTES, ZERO_HASH, sha256
from .kv import MissingNode, Nodes
from .merkle import LEAF_PREFIX, NODE_PREFIX, leaf_hash, node_hash

KEY_BITS: Final = 256
"""Bits of a key, and the greatest depth."""

EMPTY: Final = ZERO_HASH
"""Hash of an empty subtree, and root of the empty tree."""

MAX_PROOF_BYTES: Final = KEY_BITS * HASH_BYTES + 2 * HASH_BYTES + 16
"""Longest encoded proof: all siblings, a terminal leaf and MessagePack's own bytes."""

_NODE_BYTES: Final = 1 + 2 * HASH_BYTES
_TERMINAL_BYTES: Final = 2 * HASH_BYTES
_DEPTH_BYTES: Final = tuple(depth.to_bytes(2, "big") for depth in range(KEY_BITS + 1))
_PATH_BYTES: Final = tuple((depth + 7) // 8 for depth in range(KEY_BITS + 1))
_BIT: Final = tuple(1 << (KEY_BITS - 1 - depth) for depth in range(KEY_BITS))


class _Subtree(NamedTuple):
    """What became of a subtree: its hash, and its (key ‖ value hash) when it is a single leaf.

    An inner node has been stored already; a leaf has not, because it may still move up.
    """

    hash: bytes
    leaf: bytes | None


_EMPTY_SUBTREE: Final = _Subtree(EMPTY, None)


def node_key(depth: int, path: int) -> bytes:
    """Return the store's key of the node at `depth`; `path` is a 256-bit number, zero after its first bits."""
    return _DEPTH_BYTES[depth] + path.to_bytes(HASH_BYTES, "big")[: _PATH_BYTES[depth]]


def _leaf(key_and_value_hash: bytes) -> _Subtree:
    return _Subtree(leaf_hash(key_and_value_hash), key_and_value_hash)


def _load(nodes: Nodes, depth: int, path: int) -> bytes | None:
    node = nodes.get(node_key(depth, path))
    if node is not None and (len(node) != _NODE_BYTES or node[:1] not in (LEAF_PREFIX, NODE_PREFIX)):
        raise MissingNode(f"sparse node: expected {_NODE_BYTES} bytes of a node, got {node[:8].hex()}…")
    return node


def _require(nodes: Nodes, depth: int, path: int) -> bytes:
    node = _load(nodes, depth, path)
    if node is None:
        raise MissingNode(f"sparse node: expected one at depth {depth}, path {path:064x}, got nothing")
    return node


def _node_root(node: bytes | None) -> bytes:
    # A stored node is exactly what its hash is taken of.
    return EMPTY if node is None else sha256(node)


def root(nodes: Nodes) -> bytes:
    """Return the 32-byte root of the stored tree. MissingNode (of `kv`) when the node is damaged."""
    return _node_root(_load(nodes, 0, 0))


def update(nodes: Nodes, changes: Mapping[bytes, bytes | None]) -> bytes:
    """Set (value) or remove (None) every key of `changes` in the stored tree and return the new root.

    Removing a key that is not there changes nothing. ValueError when a key is not 32 bytes; MissingNode
    when the stored tree is damaged.
    """
    for key in changes:
        if len(key) != HASH_BYTES:
            raise ValueError(f"sparse tree key: expected {HASH_BYTES} bytes, got {len(key)}")
    if not changes:
        return root(nodes)
    batch = _Batch(nodes, {key: None if value is None else sha256(value) for key, value in changes.items()})
    result = batch.change(0, 0, 0, len(changes))
    if result.leaf is not None:
        nodes.put(node_key(0, 0), LEAF_PREFIX + result.leaf)
    elif result.hash == EMPTY:
        nodes.delete(node_key(0, 0))
    return result.hash


class _Batch:
    """One set of changes on its way down the stored tree, as keys in ascending order."""

    def __init__(self, nodes: Nodes, value_hashes: Mapping[bytes, bytes | None]) -> None:
        self.nodes = nodes
        self.keys = sorted(value_hashes)
        self.numbers = [int.from_bytes(key, "big") for key in self.keys]
        self.value_hashes = value_hashes

    def change(self, depth: int, path: int, low: int, high: int, *, stored: bool = False) -> _Subtree:
        """Apply the changes low..high to the subtree at (depth, path) and return what became of it.

        Whatever is stored at (depth, path) itself is left to the caller unless the result is an inner node.
        `stored`: whether the node above says that there is something.
        """
        node = _require(self.nodes, depth, path) if stored else _load(self.nodes, depth, path)
        if node is None or node[:1] == LEAF_PREFIX:
            return self._rebuild(depth, path, low, high, None if node is None else node[1:])
        bit = _BIT[depth]
        middle = bisect_left(self.numbers, path | bit, low, high)
        old_left, old_right = node[1 : 1 + HASH_BYTES], node[1 + HASH_BYTES :]
        left, right = _Subtree(old_left, None), _Subtree(old_right, None)
        if low < middle:
            left = self.change(depth + 1, path, low, middle, stored=old_left != EMPTY)
        if middle < high:
            right = self.change(depth + 1, path | bit, middle, high, stored=old_right != EMPTY)
        if left.hash == old_left and right.hash == old_right:
            return _Subtree(sha256(node), None)
        if EMPTY not in (left.hash, right.hash):
            return self._join(depth, path, left, right)
        return self._collapse(depth, path, (old_left, left), (old_right, right))

    def _join(self, depth: int, path: int, left: _Subtree, right: _Subtree) -> _Subtree:
        """Store an inner node and those of its children that have come to rest as leaves."""
        if left.leaf is not None:
            self.nodes.put(node_key(depth + 1, path), LEAF_PREFIX + left.leaf)
        if right.leaf is not None:
            self.nodes.put(node_key(depth + 1, path | _BIT[depth]), LEAF_PREFIX + right.leaf)
        node = b"".join((NODE_PREFIX, left.hash, right.hash))
        self.nodes.put(node_key(depth, path), node)
        return _Subtree(hashlib.sha256(node).digest(), None)

    def _collapse(
        self, depth: int, path: int, left: tuple[bytes, _Subtree], right: tuple[bytes, _Subtree]
    ) -> _Subtree:
        """Settle an inner node of which a side is empty now; each side comes with its hash before."""
        rest = _EMPTY_SUBTREE
        for (old, side), at in ((left, path), (right, path | _BIT[depth])):
            if side.hash == EMPTY:
                if old != EMPTY:
                    self.nodes.delete(node_key(depth + 1, at))
                continue
            rest = self._settled(depth + 1, at, side)
            if rest.leaf is not None and old != EMPTY:
                # A leaf that is alone moves up until it has company.
                self.nodes.delete(node_key(depth + 1, at))
        if rest.leaf is not None or rest.hash == EMPTY:
            return rest
        return self._join(depth, path, left[1], right[1])

    def _settled(self, depth: int, path: int, side: _Subtree) -> _Subtree:
        """Return `side` with its leaf, which an untouched subtree has only in the store."""
        if side.leaf is not None:
            return side
        node = _require(self.nodes, depth, path)
        return _Subtree(side.hash, node[1:] if node[:1] == LEAF_PREFIX else None)

    def _rebuild(self, depth: int, path: int, low: int, high: int, old_leaf: bytes | None) -> _Subtree:
        """Apply changes to a subtree that is empty or a single leaf: make it anew."""
        entries = {}
        if old_leaf is not None:
            entries[old_leaf[:HASH_BYTES]] = old_leaf
        for key in self.keys[low:high]:
            value_hash = self.value_hashes[key]
            if value_hash is None:
                entries.pop(key, None)
            else:
                entries[key] = key + value_hash
        leaves = [entries[key] for key in sorted(entries)]
        numbers = [int.from_bytes(leaf[:HASH_BYTES], "big") for leaf in leaves]
        return self._build(depth, path, leaves, numbers)

    def _build(self, depth: int, path: int, leaves: list[bytes], numbers: list[int]) -> _Subtree:
        """Store a subtree of which nothing is stored yet; leaves in ascending order."""
        if not leaves:
            return _EMPTY_SUBTREE
        if len(leaves) == 1:
            return _leaf(leaves[0])
        above = path | _BIT[depth]
        middle = bisect_left(numbers, above)
        left = self._build(depth + 1, path, leaves[:middle], numbers[:middle])
        right = self._build(depth + 1, above, leaves[middle:], numbers[middle:])
        return self._join(depth, path, left, right)


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseProof:
    """What stands where a key belongs: the siblings from there up, and the leaf found, if any.

    `siblings`: hashes, from the deepest to the root's child; their number is the depth of the place.
    `terminal`: (key, value hash) of the leaf there, None when the subtree is empty.
    """

    siblings: tuple[bytes, ...]
    terminal: tuple[bytes, bytes] | None

    def encode(self) -> bytes:
        """Return canonical MessagePack: [siblings concatenated bin, nil | key ‖ value hash bin]."""
        return pack([b"".join(self.siblings), None if self.terminal is None else b"".join(self.terminal)])

    @classmethod
    def decode(cls, data: bytes) -> SparseProof:
        """Read what `encode` wrote; DecodeError on anything else."""
        packed, terminal = as_array(unpack(data, max_bytes=MAX_PROOF_BYTES), "sparse proof", 2)
        siblings = split_fixed(
            as_bytes(packed, "sparse proof siblings"), "siblings", size=HASH_BYTES, max_items=KEY_BITS
        )
        if terminal is None:
            return cls(siblings=siblings, terminal=None)
        leaf = as_bytes(terminal, "sparse proof terminal", size=_TERMINAL_BYTES)
        return cls(siblings=siblings, terminal=(leaf[:HASH_BYTES], leaf[HASH_BYTES:]))


def prove(nodes: Nodes, key: bytes) -> SparseProof:
    """Return the proof of what the tree holds under `key` (32 bytes): membership or absence.

    ValueError when the key is not 32 bytes; MissingNode when the stored tree is damaged.
    """
    if len(key) != HASH_BYTES:
        raise ValueError(f"sparse tree key: expected {HASH_BYTES} bytes, got {len(key)}")
    number = int.from_bytes(key, "big")
    siblings: list[bytes] = []
    depth, path = 0, 0
    node = _load(nodes, 0, 0)
    while node is not None and node[:1] == NODE_PREFIX:
        left, right = node[1 : 1 + HASH_BYTES], node[1 + HASH_BYTES :]
        goes_right = bool(number & _BIT[depth])
        siblings.append(left if goes_right else right)
        path |= number & _BIT[depth]
        depth += 1
        expected = right if goes_right else left
        node = _load(nodes, depth, path)
        if _node_root(node) != expected:
            raise MissingNode(f"sparse node: expected hash {expected.hex()}, got {_node_root(node).hex()}")
    terminal = None if node is None else (node[1 : 1 + HASH_BYTES], node[1 + HASH_BYTES :])
    return SparseProof(siblings=tuple(reversed(siblings)), terminal=terminal)


def _check_path(root: bytes, key: bytes, proof: SparseProof) -> None:
    """Raise ProofError unless the proof's place is on the path of `key` and leads to `root`."""
    depth = len(proof.siblings)
    if depth > KEY_BITS:
        raise ProofError("sparse proof depth", expected=f"at most {KEY_BITS}", got=depth)
    # Sizes matter for more than form: a leaf cut elsewhere would be hashed alike under another key.
    sizes = {len(part) for part in (key, *proof.siblings, *(proof.terminal or ()))}
    if sizes != {HASH_BYTES}:
        raise ProofError("sparse proof", expected=f"parts of {HASH_BYTES} bytes", got=sorted(sizes))
    computed = EMPTY if proof.terminal is None else leaf_hash(b"".join(proof.terminal))
    number = int.from_bytes(key, "big")
    for sibling in proof.siblings:
        depth -= 1
        computed = node_hash(sibling, computed) if number & _BIT[depth] else node_hash(computed, sibling)
    if computed != root:
        raise ProofError("sparse proof", expected=f"root {root.hex()}", got=computed.hex())


def check_membership(root: bytes, key: bytes, value: bytes, proof: SparseProof) -> None:
    """Raise ProofError unless the tree under `root` holds exactly `value` under `key`."""
    leaf = (key, sha256(value))
    if proof.terminal != leaf:
        got = "an empty place" if proof.terminal is None else f"the leaf of {proof.terminal[0].hex()}"
        raise ProofError("sparse proof terminal", expected="the key with this value's hash", got=got)
    _check_path(root, key, proof)


def check_absence(root: bytes, key: bytes, proof: SparseProof) -> None:
    """Raise ProofError unless the tree under `root` holds nothing under `key`.

    The place where the key belongs is empty, or taken by the only leaf with the same leading bits.
    """
    _check_path(root, key, proof)
    if proof.terminal is None:
        return
    other = proof.terminal[0]
    if other == key:
        raise ProofError("sparse proof", expected="no leaf of the key", got="its leaf")
    differing = int.from_bytes(key, "big") ^ int.from_bytes(other, "big")
    if differing >> (KEY_BITS - len(proof.siblings)):
        raise ProofError("sparse proof terminal", expected="a leaf on the key's path", got=other.hex())
