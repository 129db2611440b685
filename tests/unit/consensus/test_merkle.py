from __future__ import annotations

from functools import partial
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
    with pytest.raises(IndexError, match=f"^leaf index: expected 0 to 2, got {index}$"):
        merkle.inclusion_proof(LEAVES[:3], index)


@pytest.mark.parametrize("old_size", [-1, 4])
def test_consistency_proof_needs_a_smaller_tree(old_size: int) -> None:
    with pytest.raises(ValueError, match=f"^old size: expected 0 to 3, got {old_size}$"):
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


REFUSED_INCLUSION: list[tuple[dict[str, object], str, object, object]] = [
    ({"index": -1}, "inclusion proof index", "0 to 6", -1),
    ({"index": 7}, "inclusion proof index", "0 to 6", 7),
    ({"size": 0}, "inclusion proof index", "0 to -1", 5),
    ({"size": 14}, "inclusion proof length", "siblings up to the root", 3),
    ({"proof": GOOD[:-1]}, "inclusion proof length", "siblings up to the root", 2),
    ({"proof": ()}, "inclusion proof length", "siblings up to the root", 0),
    ({"proof": (*GOOD, bytes(32))}, "inclusion proof length", "no more siblings at the root", 4),
    ({"root": ROOTS[5]}, "inclusion proof", f"root {ROOTS[5].hex()}", ROOTS[6].hex()),
]


@pytest.mark.parametrize("changed, what, expected, got", REFUSED_INCLUSION)
def test_inclusion_is_refused_for_what_is_wrong(
    changed: dict[str, object], what: str, expected: object, got: object
) -> None:
    _check_inclusion()
    with pytest.raises(ProofError) as caught:
        _check_inclusion(**changed)
    assert (caught.value.what, caught.value.expected, caught.value.got) == (what, expected, got)


@pytest.mark.parametrize("changed", [{"index": 4}, {"leaf": LEAVES[4]}, {"proof": (bytes(32), *GOOD[1:])}])
def test_inclusion_refuses_what_leads_elsewhere(changed: dict[str, object]) -> None:
    with pytest.raises(ProofError) as caught:
        _check_inclusion(**changed)
    assert caught.value.expected == f"root {ROOTS[6].hex()}"


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


REFUSED_CONSISTENCY: list[tuple[dict[str, object], str, object, object]] = [
    ({"old_size": -1}, "consistency proof sizes", "old size 0 to 7", -1),
    ({"old_size": 8}, "consistency proof sizes", "old size 0 to 7", 8),
    ({"old_size": 0}, "consistency proof length", 0, 4),
    ({"old_size": 7}, "consistency proof length", 0, 4),
    ({"old_size": 0, "proof": ()}, "consistency proof", merkle.EMPTY_ROOT.hex(), ROOTS[2].hex()),
    ({"old_size": 7, "proof": ()}, "consistency proof", ROOTS[6].hex(), ROOTS[2].hex()),
    ({"proof": ()}, "consistency proof length", "at least 1", 0),
    ({"proof": CONSISTENT[:-1]}, "consistency proof length", "nodes up to the root", 3),
    ({"old_size": 4, "proof": ()}, "consistency proof length", "nodes up to the root", 0),
    ({"proof": (*CONSISTENT, bytes(32))}, "consistency proof length", "no more nodes at the root", 5),
    ({"old_root": ROOTS[1]}, "consistency proof", f"old root {ROOTS[1].hex()}", ROOTS[2].hex()),
    ({"new_root": ROOTS[5]}, "consistency proof", f"new root {ROOTS[5].hex()}", ROOTS[6].hex()),
]


@pytest.mark.parametrize("changed, what, expected, got", REFUSED_CONSISTENCY)
def test_consistency_is_refused_for_what_is_wrong(
    changed: dict[str, object], what: str, expected: object, got: object
) -> None:
    _check_consistency()
    with pytest.raises(ProofError) as caught:
        _check_consistency(**changed)
    assert (caught.value.what, caught.value.expected, caught.value.got) == (what, expected, got)


@pytest.mark.parametrize("changed", [{"old_size": 2}, {"proof": (bytes(32), *CONSISTENT[1:])}])
def test_consistency_refuses_what_leads_elsewhere(changed: dict[str, object]) -> None:
    with pytest.raises(ProofError):
        _check_consistency(**changed)


def test_consistency_from_nothing_and_to_itself() -> None:
    _check_consistency(old_size=0, old_root=merkle.EMPTY_ROOT, proof=())
    _check_consistency(old_size=7, old_root=ROOTS[6], proof=())
    assert merkle.consistency_proof(LEAVES, 0) == merkle.consistency_proof(LEAVES, 8) == ()


MANY = [merkle.leaf_hash(bytes([number])) for number in range(70)]
MANY_ROOTS = [merkle.root(MANY[:size]) for size in range(len(MANY) + 1)]


def _depth_first(leaves: list[bytes]) -> bytes:
    """MTH as RFC 6962 defines it: split at the largest power of two below the size."""
    if len(leaves) == 1:
        return leaves[0]
    split = max(1 << bit for bit in range(8) if 1 << bit < len(leaves))
    return merkle.node_hash(_depth_first(leaves[:split]), _depth_first(leaves[split:]))


def test_roots_are_those_of_the_definition() -> None:
    assert MANY_ROOTS[1:] == [_depth_first(MANY[:size]) for size in range(1, len(MANY) + 1)]


@pytest.mark.parametrize("size", [1, 2, 9, 17, 24, 33, 48, 65, 68, 70])
def test_every_leaf_has_a_proof(size: int) -> None:
    for index in range(size):
        proof = merkle.inclusion_proof(MANY[:size], index)
        merkle.check_inclusion(leaf=MANY[index], index=index, size=size, proof=proof, root=MANY_ROOTS[size])
        with pytest.raises(ProofError, match="inclusion proof length"):
            merkle.check_inclusion(
                leaf=MANY[index], index=index, size=size, proof=(*proof, bytes(32)), root=MANY_ROOTS[size]
            )


@pytest.mark.parametrize("new", [*range(1, 10), 17, 24, 33, 48, 65, 68, 70])
def test_every_smaller_tree_is_consistent(new: int) -> None:
    for old in range(1, new + 1):
        proof = merkle.consistency_proof(MANY[:new], old)
        check = partial(
            merkle.check_consistency,
            old_size=old,
            new_size=new,
            old_root=MANY_ROOTS[old],
            new_root=MANY_ROOTS[new],
        )
        check(proof=proof)
        with pytest.raises(ProofError, match="consistency proof length"):
            check(proof=(*proof, bytes(32)))
        for cut in range(len(proof)):
            with pytest.raises(ProofError):
                check(proof=proof[:cut])
