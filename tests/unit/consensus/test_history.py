from __future__ import annotations

import pytest

from facechain.consensus import history, merkle
from facechain.consensus.kv import MissingNode
from support.nodes import DictNodes


def _leaf(number: int) -> bytes:
    return merkle.leaf_hash(number.to_bytes(8, "big"))


def _grown(size: int) -> DictNodes:
    nodes = DictNodes()
    for number in range(size):
        assert history.append(nodes, number, _leaf(number)) == number + 1
    return nodes


def test_node_key_is_byte_exact() -> None:
    assert history.node_key(3, 258).hex() == "030000000000000102"
    assert len(history.node_key(0, 0)) == history.KEY_BYTES


def test_history_root_is_the_merkle_root_at_every_size() -> None:
    nodes = _grown(40)
    for size in range(41):
        assert history.root(nodes, size) == merkle.root([_leaf(number) for number in range(size)])


def test_history_proofs_are_the_merkle_proofs() -> None:
    nodes = _grown(21)
    for size in range(1, 22):
        leaves = [_leaf(number) for number in range(size)]
        for index in range(size):
            proof = history.prove(nodes, size, index)
            assert proof == merkle.inclusion_proof(leaves, index)
            merkle.check_inclusion(
                leaf=leaves[index], index=index, size=size, proof=proof, root=history.root(nodes, size)
            )


def test_history_stores_perfect_subtrees_only() -> None:
    assert _grown(7).stored.keys() == {
        *(history.node_key(0, index) for index in range(7)),
        *(history.node_key(1, index) for index in range(3)),
        history.node_key(2, 0),
    }


def test_history_costs_a_logarithm_of_reads() -> None:
    size = 1023
    nodes = _grown(size)
    for index in (0, 511, 1022):
        nodes.forget_counts()
        history.prove(nodes, size, index)
        assert nodes.reads <= 2 * size.bit_length()
    nodes.forget_counts()
    history.append(nodes, size, _leaf(size))
    assert nodes.reads + nodes.writes <= 2 * size.bit_length() + 1


@pytest.mark.parametrize("index", [-1, 5])
def test_history_proof_needs_a_leaf(index: int) -> None:
    with pytest.raises(IndexError):
        history.prove(_grown(5), 5, index)


def test_history_size_is_a_u64() -> None:
    with pytest.raises(ValueError, match="history size"):
        history.append(DictNodes(), history.MAX_SIZE, _leaf(0))
    with pytest.raises(ValueError, match="history size"):
        history.root(DictNodes(), -1)


def test_history_names_a_missing_node() -> None:
    nodes = _grown(6)
    del nodes.stored[history.node_key(1, 2)]
    with pytest.raises(MissingNode, match="level 1, index 2"):
        history.root(nodes, 6)
