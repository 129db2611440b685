from __future__ import annotations

from typing import Any

import pytest

from facechain.consensus import merkle
from facechain.consensus.errors import ProofError
from support import vectors

PUBLISHED = vectors.load("merkle")
LEAVES = [merkle.leaf_hash(bytes.fromhex(leaf)) for leaf in PUBLISHED["leaves"]]
ROOTS = [bytes.fromhex(root) for root in PUBLISHED["roots"]]


def _proof(case: dict[str, Any]) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(node) for node in case["proof"])


def test_empty_root_is_published() -> None:
    assert merkle.root([]).hex() == merkle.EMPTY_ROOT.hex() == PUBLISHED["empty_root"]


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_published(size: int) -> None:
    assert merkle.root(LEAVES[:size]) == ROOTS[size - 1]


@pytest.mark.parametrize("case", PUBLISHED["inclusion"], ids=lambda c: f"{c['index']}of{c['size']}")
def test_inclusion_proofs_are_published(case: dict[str, Any]) -> None:
    index, size, proof = case["index"], case["size"], _proof(case)
    assert merkle.inclusion_proof(LEAVES[:size], index) == proof
    merkle.check_inclusion(leaf=LEAVES[index], index=index, size=size, proof=proof, root=ROOTS[size - 1])


@pytest.mark.parametrize("case", PUBLISHED["consistency"], ids=lambda c: f"{c['old_size']}to{c['new_size']}")
def test_consistency_proofs_are_published(case: dict[str, Any]) -> None:
    old, new, proof = case["old_size"], case["new_size"], _proof(case)
    assert merkle.consistency_proof(LEAVES[:new], old) == proof
    merkle.check_consistency(
        old_size=old, new_size=new, old_root=ROOTS[old - 1], new_root=ROOTS[new - 1], proof=proof
    )


@pytest.mark.parametrize("index", [-1, 3])
def test_inclusion_proof_needs_a_leaf(index: int) -> None:
    with pytest.raises(IndexError):
        merkle.inclusion_proof(LEAVES[:3], index)


@pytest.mark.parametrize("old_size", [-1, 4])
def test_consistency_proof_needs_a_smaller_tree(old_size: int) -> None:
    with pytest.raises(ValueError, match="old size"):
        merkle.consistency_proof(LEAVES[:3], old_size)


def _check_inclusion(**changed: object) -> None:
    arguments: dict[str, object] = {
        "leaf": LEAVES[5],
        "index": 5,
        "size": 7,
        "proof": merkle.inclusion_proof(LEAVES[:7], 5),
        "root": ROOTS[6],
    }
    merkle.check_inclusion(**(arguments | changed))  # type: ignore[arg-type]


GOOD = merkle.inclusion_proof(LEAVES[:7], 5)


@pytest.mark.parametrize(
    "changed",
    [
        {"index": -1},
        {"index": 7},
        {"index": 4},
        {"size": 0},
        {"size": 14},
        {"leaf": LEAVES[4]},
        {"root": ROOTS[5]},
        {"proof": GOOD[:-1]},
        {"proof": (*GOOD, bytes(32))},
        {"proof": (bytes(32), *GOOD[1:])},
        {"proof": ()},
    ],
)
def test_inclusion_refuses_what_does_not_fit(changed: dict[str, object]) -> None:
    _check_inclusion()
    with pytest.raises(ProofError):
        _check_inclusion(**changed)


def test_inner_node_never_passes_as_leaf() -> None:
    pair = LEAVES[0] + LEAVES[1]
    with pytest.raises(ProofError):
        merkle.check_inclusion(leaf=merkle.leaf_hash(pair), index=0, size=1, proof=(), root=ROOTS[1])


def _check_consistency(**changed: object) -> None:
    arguments: dict[str, object] = {
        "old_size": 3,
        "new_size": 7,
        "old_root": ROOTS[2],
        "new_root": ROOTS[6],
        "proof": merkle.consistency_proof(LEAVES[:7], 3),
    }
    merkle.check_consistency(**(arguments | changed))  # type: ignore[arg-type]


CONSISTENT = merkle.consistency_proof(LEAVES[:7], 3)


@pytest.mark.parametrize(
    "changed",
    [
        {"old_size": -1},
        {"old_size": 8},
        {"old_size": 2},
        {"old_size": 0},
        {"old_size": 7},
        {"old_size": 0, "proof": ()},
        {"old_size": 7, "proof": ()},
        {"old_root": ROOTS[1]},
        {"new_root": ROOTS[5]},
        {"proof": ()},
        {"proof": CONSISTENT[:-1]},
        {"proof": (*CONSISTENT, bytes(32))},
        {"proof": (bytes(32), *CONSISTENT[1:])},
    ],
)
def test_consistency_refuses_what_does_not_fit(changed: dict[str, object]) -> None:
    _check_consistency()
    with pytest.raises(ProofError):
        _check_consistency(**changed)


def test_consistency_from_nothing_and_to_itself() -> None:
    _check_consistency(old_size=0, old_root=merkle.EMPTY_ROOT, proof=())
    _check_consistency(old_size=7, old_root=ROOTS[6], proof=())
    assert merkle.consistency_proof(LEAVES, 0) == merkle.consistency_proof(LEAVES, 8) == ()


def test_every_smaller_tree_is_consistent_with_every_larger_one() -> None:
    for new in range(1, 9):
        for old in range(1, new + 1):
            merkle.check_consistency(
                old_size=old,
                new_size=new,
                old_root=ROOTS[old - 1],
                new_root=ROOTS[new - 1],
                proof=merkle.consistency_proof(LEAVES[:new], old),
            )
