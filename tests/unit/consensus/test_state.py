"""The chain state: entries, sub-roots, proofs, and that undo data takes every block back exactly."""

from __future__ import annotations

from typing import Any

import pytest

from facechain.consensus import merkle, sparse
from facechain.consensus.encoding import pack
from facechain.consensus.errors import DecodeError
from facechain.consensus.kinds import Kind, Role
from facechain.consensus.kv import Bucket
from facechain.consensus.state import (
    EMPTY_INDEX_ROOT,
    OPEN_END,
    SUB_ROOTS,
    ProposalEntry,
    RoleEntry,
    StageEntry,
    State,
    StateView,
    prove_entry,
    prove_history,
    role_key,
    state_root,
    sub_root_leaf,
    sub_roots,
    tree_key,
)
from support.chain import ADMIN, PRODUCER, SUBMITTER, ChainBuilder, DictState, keys, make_stage, seed
from support.statements import grant, revoke

KEY = seed("some key")
ENTRIES: list[tuple[Any, Any]] = [
    (RoleEntry, RoleEntry(intervals=())),
    (RoleEntry, RoleEntry(intervals=((1, 5), (7, OPEN_END)), encryption_key=KEY, suspect_since=3)),
    (ProposalEntry, ProposalEntry(payload=b"p", height=1, approvals=(KEY,), effective_height=0)),
    (StageEntry, StageEntry(kind=Kind.STAGE, stage_type=2, height=3, author=KEY, retracted_height=4)),
]


@pytest.mark.parametrize("kind, entry", ENTRIES)
def test_entries_round_trip(kind: Any, entry: Any) -> None:
    assert kind.decode(entry.encode()) == entry


WRONG: list[tuple[Any, object]] = [
    (RoleEntry, [[], None]),
    (RoleEntry, [[[1]], None, None]),
    (RoleEntry, [[[1, None]], None, None]),
    (RoleEntry, [[], b"", None]),
    (RoleEntry, [[], None, "1"]),
    (ProposalEntry, [b"", 0, [b""], 0]),
    (ProposalEntry, [None, 0, [], 0]),
    (StageEntry, [0, 0, 0, KEY, 0]),
    (StageEntry, [12, 0, 0, KEY, 0]),
    (StageEntry, [1, 0, 0, b"", 0]),
]


@pytest.mark.parametrize("kind, value", WRONG, ids=str)
def test_damaged_entries_raise_decode_errors(kind: Any, value: object) -> None:
    with pytest.raises(DecodeError):
        kind.decode(pack(value))


def test_role_holds_in_its_intervals_only() -> None:
    entry = RoleEntry(intervals=((2, 4), (6, OPEN_END)))
    assert [height for height in range(8) if entry.holds_at(height)] == [2, 3, 6, 7]
    assert entry.is_open
    assert not RoleEntry(intervals=((2, 4),)).is_open
    assert not RoleEntry(intervals=()).is_open


def busy_chain() -> ChainBuilder:
    """Return a chain on which every mapped part of the state has changed."""
    chain = ChainBuilder()
    newcomer = keys(1, start=20)[0]
    chain.mine([chain.statement(ADMIN, grant(Role.PRODUCER, newcomer)), chain.batch(count=2)])
    chain.mine([chain.statement(newcomer, make_stage())])
    chain.mine([chain.statement(ADMIN, revoke(Role.PRODUCER, newcomer, suspect_since=2))])
    chain.mine([chain.batch(name="second")])
    return chain


def test_undo_restores_the_exact_entries_and_root() -> None:
    chain = busy_chain()
    block = chain.tip
    while block.header.height:
        parent = chain.blocks[block.header.previous]
        undone = chain.undo(block)
        assert undone.entries == chain.state(parent).entries
        assert state_root(sub_roots(undone)) == parent.header.state_root
        block = parent


def test_state_root_commits_to_named_sub_roots() -> None:
    chain = busy_chain()
    roots = sub_roots(chain.state())
    assert len(roots) == len(SUB_ROOTS)
    assert state_root(roots) == chain.tip.header.state_root
    assert roots[5] == EMPTY_INDEX_ROOT == merkle.EMPTY_ROOT
    leaves = [sub_root_leaf(name, root) for name, root in zip(SUB_ROOTS, roots, strict=True)]
    for index in range(len(leaves)):
        merkle.check_inclusion(
            leaf=leaves[index],
            index=index,
            size=len(leaves),
            proof=merkle.inclusion_proof(leaves, index),
            root=chain.tip.header.state_root,
        )
    for index in range(len(roots)):
        changed = [*roots]
        changed[index] = seed("other")
        assert state_root(tuple(changed)) != chain.tip.header.state_root


def test_entries_have_proofs_of_membership_and_absence() -> None:
    chain = busy_chain()
    state = chain.state()
    roots = dict(zip(SUB_ROOTS, sub_roots(state), strict=True))
    at = role_key(Role.PRODUCER, PRODUCER.public)
    value = state.get(Bucket.ROLES, at)
    assert value is not None
    proof = prove_entry(state, Bucket.ROLES, at)
    sparse.check_membership(roots["roles"], tree_key(at), value, proof)
    nobody = role_key(Role.PRODUCER, seed("nobody"))
    sparse.check_absence(roots["roles"], tree_key(nobody), prove_entry(state, Bucket.ROLES, nobody))
    sequence = state.get(Bucket.SEQUENCES, SUBMITTER.public)
    assert sequence == (2).to_bytes(8, "big")
    sparse.check_membership(
        roots["sequences"],
        tree_key(SUBMITTER.public),
        sequence,
        prove_entry(state, Bucket.SEQUENCES, SUBMITTER.public),
    )


def test_every_ancestor_has_a_proof_under_the_history() -> None:
    chain = busy_chain()
    state = chain.state()
    size = StateView(state).history_size()
    assert size == chain.height
    for height, node in enumerate(chain.tree.active[:-1]):
        merkle.check_inclusion(
            leaf=merkle.leaf_hash(node.hash),
            index=height,
            size=size,
            proof=prove_history(state, height),
            root=sub_roots(state)[4],
        )
    for outside in (-1, size):
        with pytest.raises(DecodeError, match="height: expected 0 to"):
            prove_history(state, outside)


def test_root_does_not_depend_on_the_order_of_changes() -> None:
    first, second = State(DictState()), State(DictState())
    for number in range(5):
        first.put_sequence(seed(str(number)), number)
        second.put_sequence(seed(str(4 - number)), 4 - number)
    assert first.root() == second.root()


def test_closing_an_interval_that_did_not_begin_drops_it() -> None:
    state = State(DictState())
    state.open_role(Role.PRODUCER, KEY, 5, None)
    state.close_role(Role.PRODUCER, KEY, 5, None)
    assert state.role(Role.PRODUCER, KEY).intervals == ()
    state.open_role(Role.PRODUCER, KEY, 6, None)
    state.open_role(Role.PRODUCER, KEY, 7, None)
    state.close_role(Role.PRODUCER, KEY, 9, 4)
    state.close_role(Role.PRODUCER, KEY, 10, 4)
    assert state.role(Role.PRODUCER, KEY) == RoleEntry(intervals=((6, 9),), suspect_since=4)


def test_administrators_follow_their_role() -> None:
    state = State(DictState())
    first, second = sorted((seed("a"), seed("b")))
    state.open_role(Role.ADMIN, second, 1, None)
    state.open_role(Role.ADMIN, first, 1, None)
    assert state.administrators() == (first, second)
    state.close_role(Role.ADMIN, second, 2, None)
    assert state.administrators() == (first,)


def test_views_take_no_writes() -> None:
    reader: Any = prove_entry.__globals__["_BucketReader"](DictState(), Bucket.ROLES)
    with pytest.raises(TypeError, match="takes no writes"):
        reader.put(b"k", b"v")
    with pytest.raises(TypeError, match="takes no writes"):
        reader.delete(b"k")


def test_changes_are_tried_on_top_of_what_a_view_looks_at() -> None:
    chain = ChainBuilder()
    before = chain.view().role(Role.VIEWER, KEY)
    trial = State(chain.view().reader)
    trial.put_role(Role.VIEWER, KEY, RoleEntry(intervals=((1, OPEN_END),)))
    assert trial.role(Role.VIEWER, KEY).is_open
    assert chain.view().role(Role.VIEWER, KEY) == before == RoleEntry(intervals=())
