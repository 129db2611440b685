from __future__ import annotations

from math import log2
from typing import Any

import pytest

from facechain.consensus import merkle, sparse
from facechain.consensus.errors import DecodeError, ProofError
from facechain.consensus.hashing import sha256
from facechain.consensus.kv import MissingNode
from facechain.consensus.sparse import SparseProof, check_absence, check_membership
from support import vectors
from support.nodes import DictNodes


def _key(number: int) -> bytes:
    return sha256(number.to_bytes(8, "big"))


def _tree(size: int) -> tuple[DictNodes, bytes]:
    nodes = DictNodes()
    return nodes, sparse.update(nodes, {_key(number): b"value %d" % number for number in range(size)})


@pytest.mark.parametrize("case", vectors.load("sparse")["cases"], ids=lambda case: case["comment"])
def test_golden_roots(case: dict[str, Any]) -> None:
    nodes = DictNodes()
    entries = {bytes.fromhex(key): bytes.fromhex(value) for key, value in case["entries"]}
    assert sparse.update(nodes, entries).hex() == case["root"]
    assert sparse.root(nodes).hex() == case["root"]


def test_single_leaf_is_the_root_and_is_stored_there() -> None:
    nodes = DictNodes()
    root = sparse.update(nodes, {_key(1): b"one"})
    assert root == merkle.leaf_hash(_key(1) + sha256(b"one"))
    assert nodes.stored == {b"\0\0": b"\0" + _key(1) + sha256(b"one")}


def test_node_keys_are_byte_exact() -> None:
    assert sparse.node_key(0, 0).hex() == "0000"
    assert sparse.node_key(9, 0b101010101 << 247).hex() == "0009aa80"
    assert sparse.node_key(256, 1).hex() == "0100" + "00" * 31 + "01"


def test_removing_everything_leaves_nothing_stored() -> None:
    nodes, _ = _tree(50)
    assert sparse.update(nodes, dict.fromkeys(map(_key, range(50)))) == sparse.EMPTY
    assert nodes.stored == {}
    assert sparse.root(nodes) == bytes(32)


def test_empty_batch_and_absent_removals_change_nothing() -> None:
    nodes, root = _tree(20)
    before = dict(nodes.stored)
    assert sparse.update(nodes, {}) == root
    assert sparse.update(nodes, {_key(99): None, _key(3): b"value 3"}) == root
    assert nodes.stored == before
    assert sparse.update(DictNodes(), {_key(1): None}) == sparse.EMPTY


def test_long_shared_prefix_splits_and_collapses() -> None:
    nodes = DictNodes()
    zero, one, far = bytes(32), bytes(31) + b"\x01", b"\x80" + bytes(31)
    alone = sparse.update(nodes, {zero: b"0"})
    stored = dict(nodes.stored)
    sparse.update(nodes, {one: b"1"})
    assert len(nodes.stored) == 256 + 2
    with_far = sparse.update(nodes, {far: b"f"})
    sparse.update(nodes, {far: b"g"})
    assert sparse.update(nodes, {far: b"f"}) == with_far
    sparse.update(nodes, {far: None})
    assert sparse.update(nodes, {one: None}) == alone
    assert nodes.stored == stored


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33)])
def test_keys_are_32_bytes(key: bytes) -> None:
    nodes, root = _tree(2)
    with pytest.raises(ValueError, match="32 bytes"):
        sparse.update(nodes, {key: b""})
    with pytest.raises(ValueError, match="32 bytes"):
        sparse.prove(nodes, key)
    with pytest.raises(ProofError):
        check_absence(root, key, sparse.prove(nodes, _key(0)))


@pytest.mark.parametrize("size", [100, 1_000, 10_000])
def test_cost_of_a_change_is_logarithmic(size: int) -> None:
    """Reads and writes per change at growing n; time is what tests/bench/bench_sparse.py is for."""
    nodes, _ = _tree(size)
    for value in (b"new", None):
        nodes.forget_counts()
        for number in range(0, size, size // 50):
            sparse.update(nodes, {_key(number): value})
        assert (nodes.reads + nodes.writes) / 50 <= 2 * log2(size) + 8


def test_batch_shares_the_upper_nodes() -> None:
    nodes, _ = _tree(10_000)
    nodes.forget_counts()
    sparse.update(nodes, {_key(number): b"new" for number in range(1_000)})
    assert (nodes.reads + nodes.writes) / 1_000 <= 2 * log2(10_000 / 1_000) + 8


@pytest.mark.parametrize("size", [1, 2, 3, 50])
def test_proofs_of_membership_and_absence(size: int) -> None:
    nodes, root = _tree(size)
    for number in range(size):
        proof = SparseProof.decode(sparse.prove(nodes, _key(number)).encode())
        check_membership(root, _key(number), b"value %d" % number, proof)
        with pytest.raises(ProofError):
            check_membership(root, _key(number), b"other", proof)
        with pytest.raises(ProofError):
            check_absence(root, _key(number), proof)
    for number in range(1_000, 1_050):
        proof = SparseProof.decode(sparse.prove(nodes, _key(number)).encode())
        check_absence(root, _key(number), proof)
        with pytest.raises(ProofError):
            check_membership(root, _key(number), b"", proof)


def test_empty_tree_proves_every_absence() -> None:
    proof = sparse.prove(DictNodes(), _key(0))
    assert proof == SparseProof(siblings=(), terminal=None)
    assert proof.encode().hex() == "92c400c0"
    check_absence(sparse.EMPTY, _key(0), proof)
    with pytest.raises(ProofError, match="empty place"):
        check_membership(sparse.EMPTY, _key(0), b"", proof)


def test_absence_next_to_an_empty_sibling_subtree() -> None:
    nodes = DictNodes()
    root = sparse.update(nodes, {bytes(32): b"0", bytes(31) + b"\x01": b"1"})
    proof = sparse.prove(nodes, b"\x40" + bytes(31))
    assert proof.terminal is None
    assert len(proof.siblings) == 2
    check_absence(root, b"\x40" + bytes(31), proof)


def test_proof_with_another_root_fails() -> None:
    nodes, root = _tree(8)
    proof = sparse.prove(nodes, _key(3))
    with pytest.raises(ProofError, match="root"):
        check_membership(sha256(root), _key(3), b"value 3", proof)
    shorter = SparseProof(siblings=proof.siblings[1:], terminal=proof.terminal)
    with pytest.raises(ProofError, match="root"):
        check_membership(root, _key(3), b"value 3", shorter)


def test_leaf_off_the_path_proves_no_absence() -> None:
    nodes = DictNodes()
    left, right = bytes(32), b"\x80" + bytes(31)
    sparse.update(nodes, {left: b"l", right: b"r"})
    both = sparse.prove(nodes, left)
    forged_root = merkle.node_hash(both.siblings[0], merkle.leaf_hash(left + sha256(b"l")))
    with pytest.raises(ProofError, match="on the key's path"):
        check_absence(forged_root, right, both)


def test_leaf_cut_elsewhere_proves_no_absence() -> None:
    """A 31-byte key with a 33-byte value hash would have the hash of the real leaf."""
    _, root = _tree(1)
    value_hash = sha256(b"value 0")
    cut = SparseProof(siblings=(), terminal=(_key(0)[:31], _key(0)[31:] + value_hash))
    with pytest.raises(ProofError, match="32 bytes"):
        check_absence(root, _key(0), cut)


def test_inner_node_never_passes_as_leaf() -> None:
    nodes, root = _tree(2)
    node = nodes.stored[b"\0\0"]
    assert node[:1] == b"\1"
    disguised = SparseProof(siblings=(), terminal=(node[1:33], node[33:]))
    with pytest.raises(ProofError, match="root"):
        check_absence(root, _key(5), disguised)


def test_proof_is_at_most_256_deep() -> None:
    with pytest.raises(ProofError, match="256"):
        check_absence(sparse.EMPTY, _key(0), SparseProof(siblings=(bytes(32),) * 257, terminal=None))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x90",
        b"\x92\xc4\x00\xc0\x00",
        b"\x92\xc4\x01a\xc0",
        b"\x92\xc0\xc0",
        b"\x92\xc4\x00\xc4\x01a",
        b"\x92\xc5\x00\x00\xc0",
        b"\x92\xc5\x20\x20" + bytes(257 * 32) + b"\xc0",
        bytes(sparse.MAX_PROOF_BYTES + 1),
    ],
)
def test_proof_decode_refuses_everything_else(data: bytes) -> None:
    with pytest.raises(DecodeError):
        SparseProof.decode(data)


def test_longest_proof_can_be_encoded() -> None:
    proof = SparseProof(siblings=(bytes(32),) * 256, terminal=(bytes(32), bytes(32)))
    assert len(proof.encode()) <= sparse.MAX_PROOF_BYTES
    assert SparseProof.decode(proof.encode()) == proof


def test_damaged_stores_are_named() -> None:
    nodes, _ = _tree(50)
    child = next(key for key, node in nodes.stored.items() if key[:2] == b"\0\1" and node[0] == 1)
    number = next(n for n in range(50) if (_key(n)[0] & 0x80) == child[2])
    saved = nodes.stored.pop(child)
    with pytest.raises(MissingNode, match="depth 1"):
        sparse.update(nodes, {_key(number): b"new"})
    with pytest.raises(MissingNode, match="expected hash"):
        sparse.prove(nodes, _key(number))
    nodes.stored[child] = b"\x02" + saved[1:]
    with pytest.raises(MissingNode, match="bytes of a node"):
        sparse.prove(nodes, _key(number))
    nodes.stored[child] = saved[:-1] + bytes([saved[-1] ^ 1])
    with pytest.raises(MissingNode, match="expected hash"):
        sparse.prove(nodes, _key(number))
