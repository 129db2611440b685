"""The sparse tree against its definition after every change, and each refusal in its own words."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import pytest

from facechain.consensus import merkle, sparse
from facechain.consensus.encoding import pack
from facechain.consensus.errors import ConsensusError, DecodeError, ProofError
from facechain.consensus.hashing import sha256
from facechain.consensus.kv import MissingNode
from facechain.consensus.sparse import EMPTY, SparseProof, check_absence, check_membership
from support.nodes import DictNodes

CROWDED = [
    *(bytes([first]) + bytes(31) for first in (0, 1, 2, 3, 64, 128, 129, 192, 255)),
    *(bytes(31) + bytes([last]) for last in (1, 2, 3, 128)),
    *(b"\x80" + bytes(30) + bytes([last]) for last in (1, 255)),
    b"\xff" * 32,
]
"""Keys with long common beginnings, next to each other and at both ends."""


def defined_nodes(entries: Mapping[bytes, bytes]) -> tuple[bytes, dict[bytes, bytes]]:
    """Return root and stored nodes as the module's text defines them."""
    stored: dict[bytes, bytes] = {}

    def subtree(depth: int, path: int, keys: list[bytes]) -> bytes:
        if not keys:
            return EMPTY
        if len(keys) == 1:
            node = b"\0" + keys[0] + sha256(entries[keys[0]])
        else:
            bit = 1 << 255 - depth
            right = [key for key in keys if int.from_bytes(key, "big") & bit]
            left = [key for key in keys if key not in right]
            node = b"\1" + subtree(depth + 1, path, left) + subtree(depth + 1, path | bit, right)
        at = depth.to_bytes(2, "big") + path.to_bytes(32, "big")[: (depth + 7) // 8]
        stored[at] = node
        return sha256(node)

    return subtree(0, 0, sorted(entries)), stored


@pytest.mark.parametrize("run", range(6))
def test_tree_is_as_defined_after_every_batch(run: int) -> None:
    source = random.Random(run)
    keys = CROWDED if run % 2 else [sha256(bytes([number])) for number in range(24)]
    nodes, entries = DictNodes(), dict[bytes, bytes]()
    for step in range(16):
        batch = source.sample(keys, source.randint(1, 6 if step % 5 else len(keys)))
        changes = {key: source.choice((None, None, b"a", b"b", bytes([step]))) for key in batch}
        root = sparse.update(nodes, changes)
        entries = {key: value for key, value in (entries | changes).items() if value is not None}
        assert (root, nodes.stored) == defined_nodes(entries)
        assert sparse.root(nodes) == root
        for key in keys:
            proof = sparse.prove(nodes, key)
            if key in entries:
                check_membership(root, key, entries[key], proof)
            else:
                check_absence(root, key, proof)


def test_untouched_nodes_are_neither_read_nor_written() -> None:
    """One change below a root with two subtrees reads its own path alone, and writes it once."""
    left, right = b"\x00" + bytes(31), b"\x80" + bytes(31)
    nodes = DictNodes()
    sparse.update(nodes, {left: b"l", right: b"r"})
    nodes.forget_counts()
    sparse.update(nodes, {left: b"L"})
    assert (nodes.reads, nodes.writes) == (2, 2)
    nodes.forget_counts()
    sparse.update(nodes, {left: b"L"})
    assert (nodes.reads, nodes.writes) == (2, 0)


def one_and_two() -> tuple[DictNodes, bytes, bytes, bytes]:
    """Return a tree of two keys that part at the root, its root and the keys."""
    left, right = b"\x01" * 32, b"\xf1" * 32
    nodes = DictNodes()
    return nodes, sparse.update(nodes, {left: b"one", right: b"two"}), left, right


def refusal(check: Callable[[], object]) -> tuple[object, object, object]:
    with pytest.raises(ConsensusError) as caught:
        check()
    assert isinstance(caught.value, DecodeError | ProofError)
    return caught.value.what, caught.value.expected, caught.value.got


def test_refused_proofs_are_told_in_words() -> None:
    nodes, root, left, right = one_and_two()
    proof = sparse.prove(nodes, left)
    terminal = ("sparse proof terminal", "the key with this value's hash")
    assert refusal(lambda: check_membership(root, left, b"other", proof)) == (
        *terminal,
        f"the leaf of {left.hex()}",
    )
    nothing = SparseProof(siblings=(), terminal=None)
    assert refusal(lambda: check_membership(root, left, b"one", nothing)) == (*terminal, "an empty place")
    assert refusal(lambda: check_absence(root, left, proof)) == (
        "sparse proof",
        "no leaf of the key",
        "its leaf",
    )
    assert refusal(lambda: check_absence(sha256(b"no root"), left, proof)) == (
        "sparse proof",
        f"root {sha256(b'no root').hex()}",
        root.hex(),
    )
    mirrored = merkle.node_hash(proof.siblings[0], merkle.leaf_hash(left + sha256(b"one")))
    assert refusal(lambda: check_absence(mirrored, right, proof)) == (
        "sparse proof terminal",
        "a leaf on the key's path",
        left.hex(),
    )


def test_proofs_of_wrong_sizes_are_told_in_words() -> None:
    nodes, root, left, _ = one_and_two()
    proof = sparse.prove(nodes, left)
    deep = SparseProof(siblings=(bytes(32),) * 257, terminal=None)
    assert refusal(lambda: check_absence(root, left, deep)) == ("sparse proof depth", "at most 256", 257)
    for changed in (
        SparseProof(siblings=(bytes(31),), terminal=proof.terminal),
        SparseProof(siblings=proof.siblings, terminal=(left, bytes(31))),
    ):
        assert refusal(lambda changed=changed: check_absence(root, left, changed)) == (  # type: ignore[misc]
            "sparse proof",
            "parts of 32 bytes",
            [31, 32],
        )
    assert refusal(lambda: check_absence(root, left[:31], proof))[2] == [31, 32]


def test_leaf_with_all_but_the_last_bit_in_common_proves_absence() -> None:
    """The deepest place there is: 256 siblings, and a key that differs in the last bit has its own."""
    nodes = DictNodes()
    root = sparse.update(nodes, {bytes(32): b"0", bytes(31) + b"\x01": b"1"})
    proof = sparse.prove(nodes, bytes(32))
    assert len(proof.siblings) == 256
    check_membership(root, bytes(32), b"0", proof)
    lonely = sparse.prove(nodes, bytes(31) + b"\x02")
    assert (len(lonely.siblings), lonely.terminal) == (255, None)
    check_absence(root, bytes(31) + b"\x02", lonely)


def test_malformed_proofs_are_told_in_words() -> None:
    def told(value: object) -> tuple[object, object, object]:
        return refusal(lambda: SparseProof.decode(pack(value)))

    assert told([b""]) == ("sparse proof", "2 fields", "1 fields")
    assert told([None, None]) == ("sparse proof siblings", "a byte string", "nil")
    assert told([bytes(33), None]) == ("siblings", "a multiple of 32 bytes", "33 bytes")
    assert told([b"", 1]) == ("sparse proof terminal", "a byte string", "int")
    assert told([b"", bytes(63)]) == ("sparse proof terminal", "64 bytes", "63 bytes")
    longest = SparseProof(siblings=(bytes(32),) * 256, terminal=(bytes(32), bytes(32)))
    assert SparseProof.decode(longest.encode()) == longest


def test_wrong_keys_are_told_in_words() -> None:
    nodes, _, left, _ = one_and_two()
    with pytest.raises(ValueError, match=r"^sparse tree key: expected 32 bytes, got 31$"):
        sparse.update(nodes, {left: b"new", bytes(31): b"x"})
    with pytest.raises(ValueError, match=r"^sparse tree key: expected 32 bytes, got 33$"):
        sparse.prove(nodes, bytes(33))


def test_damage_is_told_in_words() -> None:
    nodes, _, left, _ = one_and_two()
    place = b"\x00\x01\x00"
    leaf = nodes.stored.pop(place)
    with pytest.raises(MissingNode) as missing:
        sparse.update(nodes, {left: None})
    assert missing.value.args == (f"sparse node: expected one at depth 1, path {'0' * 64}, got nothing",)
    nodes.stored[place] = leaf[:-1]
    with pytest.raises(MissingNode) as short:
        sparse.prove(nodes, left)
    assert short.value.args == (f"sparse node: expected 65 bytes of a node, got {leaf[:8].hex()}…",)
    nodes.stored[place] = b"\x02" + leaf[1:]
    with pytest.raises(MissingNode) as kind:
        sparse.prove(nodes, left)
    assert kind.value.args == (f"sparse node: expected 65 bytes of a node, got 02{leaf[1:8].hex()}…",)
    changed = leaf[:-1] + bytes([leaf[-1] ^ 1])
    nodes.stored[place] = changed
    with pytest.raises(MissingNode) as other:
        sparse.prove(nodes, left)
    assert other.value.args == (
        f"sparse node: expected hash {sha256(leaf).hex()}, got {sha256(changed).hex()}",
    )


@pytest.mark.parametrize("side", [0, 1])
def test_missing_node_is_not_taken_for_an_empty_subtree(side: int) -> None:
    nodes, _, *keys = one_and_two()
    del nodes.stored[b"\x00\x01\x80" if side else b"\x00\x01\x00"]
    with pytest.raises(MissingNode, match="depth 1"):
        sparse.update(nodes, {keys[side]: b"new"})


def test_damage_beside_a_removed_leaf_is_noticed() -> None:
    """When a leaf goes, its neighbour moves up: its node is read, and must be there."""
    nodes, _, left, _ = one_and_two()
    del nodes.stored[b"\x00\x01\x80"]
    with pytest.raises(MissingNode, match="depth 1, path 8000"):
        sparse.update(nodes, {left: None})
