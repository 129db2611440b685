"""Random chains: undo data takes every block back exactly, and the root depends on the contents only."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from facechain.consensus.errors import RuleViolation
from facechain.consensus.kinds import Role, StageType
from facechain.consensus.kv import Bucket
from facechain.consensus.payloads import AnyPayload, Cancel, Checkpoint, Retract, RoleApproval
from facechain.consensus.sparse import update
from facechain.consensus.state import TREES, state_root, sub_roots, tree_key
from facechain.consensus.statement import Statement
from support.chain import ADMIN, PRODUCER, SUBMITTER, ChainBuilder, DictState, keys, make_genesis, make_stage
from support.nodes import DictNodes
from support.statements import grant, revoke, rotation

PEOPLE = (ADMIN, PRODUCER, SUBMITTER, *keys(3, start=60))
ROLES = (Role.ADMIN, Role.PRODUCER, Role.SUBMITTER, Role.VIEWER)

STEP = st.tuples(
    st.sampled_from(
        ["batch", "stage", "grant", "revoke", "approve", "rotate", "retract", "checkpoint", "cancel"]
    ),
    st.integers(0, len(PEOPLE) - 1),
    st.integers(0, 10**6),
)


class Author:
    """Turns drawn numbers into statements; most obey the rules, some do not."""

    def __init__(self, chain: ChainBuilder) -> None:
        self.chain = chain
        self.stages: list[bytes] = []
        self.proposals: list[bytes] = []

    def write(self, step: tuple[str, int, int], before: list[Statement]) -> Statement:
        what, who, number = step
        author = PEOPLE[who]
        self.chain._waiting[author.public] = sum(item.author == author.public for item in before)
        if what == "batch":
            made = self.chain.batch(author, name=str(number))
        else:
            made = self.chain.statement(author, self.payload(what, who, number))
        if what in {"batch", "stage"}:
            self.stages.append(made.id)
        if what in {"grant", "revoke"}:
            self.proposals.append(made.id)
        return made

    def payload(self, what: str, who: int, number: int) -> AnyPayload:
        author, other = PEOPLE[who], PEOPLE[number % len(PEOPLE)]
        role = ROLES[number // 7 % len(ROLES)]
        if what == "stage":
            inputs = self.stages[-1:] if number % 2 else []
            return make_stage(list(StageType)[number % 7], *inputs, name=str(number))
        if what == "grant":
            return grant(role, other)
        if what == "revoke":
            return revoke(role, other, suspect_since=number % 5 or None)
        if what == "approve" and self.proposals:
            return RoleApproval(proposal=self.proposals[number % len(self.proposals)])
        if what == "rotate":
            return rotation(author, keys(1, start=1_000 + number % 50)[0], self.chain.network_id)
        if what == "retract" and self.stages:
            return Retract(target=self.stages[number % len(self.stages)], record=None, reason="")
        if what == "checkpoint":
            node = self.chain.tree.active[number % len(self.chain.tree.active)]
            return Checkpoint(height=node.height, block_hash=node.hash)
        return Cancel(note="")


def rebuilt_root(state: DictState) -> bytes:
    """Compute the state root from the entries alone, with trees made from nothing."""
    empty = DictState({at: value for at, value in state.entries.items() if at[0] not in TREES.values()})
    for bucket, tree in TREES.items():
        nodes = DictNodes()
        update(nodes, {tree_key(key): value for (at, key), value in state.entries.items() if at is bucket})
        empty.entries.update({(tree, key): value for key, value in nodes.stored.items()})
    assert empty.entries == state.entries, "the trees hold nothing that their entries do not explain"
    return state_root(sub_roots(empty))


def mine_what_is_valid(chain: ChainBuilder, author: Author, steps: list[tuple[str, int, int]]) -> None:
    """Mine the statements that the rules let through on top of those before them."""
    taken: list[Statement] = []
    for step in steps:
        statement = author.write(step, taken)
        try:
            chain.check(chain.forge([*taken, statement]))
        except RuleViolation:
            continue
        taken.append(statement)
    if Role.PRODUCER in chain.view().roles_at(PRODUCER.public, chain.height + 1):
        chain.mine(taken)


@settings(max_examples=40)
@given(blocks=st.lists(st.lists(STEP, max_size=4), min_size=1, max_size=6), quorum=st.integers(1, 2))
def test_undo_and_root(blocks: list[list[tuple[str, int, int]]], quorum: int) -> None:
    chain = ChainBuilder(make_genesis(administrators=PEOPLE[:2], quorum=quorum))
    author = Author(chain)
    for steps in blocks:
        mine_what_is_valid(chain, author, steps)
    block = chain.tip
    while block.header.height:
        parent = chain.blocks[block.header.previous]
        assert rebuilt_root(chain.state(block)) == block.header.state_root
        assert chain.undo(block).entries == chain.state(parent).entries
        view = chain.view(block)
        assert len(view.administrators()) >= quorum
        height = block.header.height + 1
        holders = tuple(
            key[2:]
            for bucket, key in sorted(chain.state(block).entries)
            if bucket is Bucket.ROLES
            and key[:2] == b"r\x01"
            and view.role(Role.ADMIN, key[2:]).holds_at(height)
        )
        assert holders == view.administrators()
        block = parent
