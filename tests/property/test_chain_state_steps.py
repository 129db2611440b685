"""The chain state beside a model, step by step: bad blocks with descendants, checkpoints, `max_reorg`, ties, restarts."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facechain.consensus.block import Block
from facechain.consensus.errors import RuleViolation, Temporary
from facechain.consensus.payloads import AnyPayload, Cancel, Checkpoint
from facechain.consensus.validation import check_statement
from facechain.node.chainstate import ChainPolicy, ChainState
from facechain.node.store.memory import MemoryStore
from support.chain import ADMIN, SUBMITTER, ChainBuilder, make_genesis

NOW_MS = 2 * make_genesis().time_ms
PLAIN, BAD, VOUCHING = "plain", "bad", "vouching"
Shape = tuple[tuple[int, str], ...]
SHAPE = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from([PLAIN, PLAIN, PLAIN, BAD, VOUCHING])),
    min_size=4,
    max_size=12,
).map(tuple)
"""Of each block: how many before the last one made its parent is, and what it is."""


@dataclass
class Made:
    """A block of the tree, and what the model needs of it."""

    block: Block
    parent: int
    work: int
    good: bool
    vouched: int = 0
    """Height of the checkpoint in force after it."""


@cache
def grow(shape: Shape) -> tuple[ChainBuilder, list[Made]]:
    """Mine a tree in which a bad block (it claims a wrong state) may have descendants that are sound themselves."""
    builder = ChainBuilder(make_genesis())
    made = [Made(builder.genesis_block, -1, 0, good=True)]
    for number, (back, kind) in enumerate(shape):
        index = max(len(made) - 1 - back, 0)
        above = made[index]
        parent = above.block
        author, payload = SUBMITTER, cast(AnyPayload, Cancel(note=str(number)))
        vouched = above.vouched
        if kind == VOUCHING and parent.header.height > above.vouched:
            author, payload = ADMIN, Checkpoint(height=parent.header.height, block_hash=parent.hash)
            vouched = parent.header.height
        sequence = builder.view(parent).next_sequence(author.public)
        statement = builder.statement(author, payload, sequence=sequence)
        changes: dict[str, Any] = {"state_root": bytes(32)} if kind == BAD else {}
        # Two children of one block may say the same; their times tell them apart.
        time_ms = parent.header.time_ms + builder.params.spacing_ms + number
        block = builder.forge([statement], parent=parent, time_ms=time_ms, **changes)
        plant(builder, parent, block)
        made.append(Made(block, index, builder.node(block).chainwork, kind != BAD, vouched))
    return builder, made


def plant(builder: ChainBuilder, parent: Block, block: Block) -> None:
    """Keep a block and the state that its statements lead to, whatever state it claims."""
    transition = builder.transition(parent)
    for statement in block.body.statements:
        transition.add(check_statement(statement, builder.params, builder.network_id))
    state = builder.state(parent).copy()
    state.apply(transition.finish()[0])
    builder.tree.add_header(block.sealed)
    builder.blocks[block.hash], builder.states[block.hash] = block, state


@dataclass
class Model:
    """The rules of the choice, looked at anew after every body."""

    made: list[Made]
    max_reorg: int
    headers: list[int] = field(default_factory=lambda: [0])
    bodies: set[int] = field(default_factory=lambda: {0})
    linked: list[int] = field(default_factory=lambda: [0])
    """In the order in which they became complete."""
    refused: set[int] = field(default_factory=set)
    tip: int = 0
    checkpoint: int = 0

    def chain(self, number: int) -> list[int]:
        found = []
        while number >= 0:
            found.append(number)
            number = self.made[number].parent
        return found

    def is_refused(self, number: int) -> bool:
        return not self.refused.isdisjoint(self.chain(number))

    def add(self, number: int) -> None:
        """Take a header, unless it is known, and its body."""
        if number not in self.headers:
            self.headers.append(number)
        self.bodies.add(number)
        waiting = deque([number])
        while waiting:
            item = waiting.popleft()
            if item in self.bodies and item not in self.linked and self.made[item].parent in self.linked:
                self.linked.append(item)
                waiting.extend(child for child in self.headers if self.made[child].parent == item)

    def fork(self, number: int) -> int:
        active = set(self.chain(self.tip))
        return next(item for item in self.chain(number) if item in active)

    def may_follow(self, number: int) -> bool:
        fork = self.fork(number)
        height = self.made[fork].block.header.height
        depth = self.made[self.tip].block.header.height - height
        return fork == self.tip or (height >= self.checkpoint and depth <= self.max_reorg)

    def move(self) -> set[int]:
        """Move to the best block as often as needed; return what was found to be bad on the way."""
        found: set[int] = set()
        while True:
            work = self.made[self.tip].work
            better = [n for n in self.linked if not self.is_refused(n) and self.made[n].work > work]
            allowed = [n for n in better if self.may_follow(n)]
            if not allowed:
                return found
            best = min(allowed, key=lambda n: (-self.made[n].work, self.linked.index(n)))
            bad = [n for n in self.chain(best) if not self.made[n].good]
            if bad:
                self.refused.add(bad[-1])
                found.add(bad[-1])
                continue
            self.tip = best
            self.checkpoint = max(self.checkpoint, self.made[best].vouched)


@settings(max_examples=60, deadline=None)
@given(
    shape=SHAPE,
    order=st.randoms(use_true_random=False),
    headers_first=st.booleans(),
    max_reorg=st.sampled_from([0, 1, 2, 3, 99]),
)
def test_every_step_is_that_of_the_model(
    shape: Shape, order: random.Random, *, headers_first: bool, max_reorg: int
) -> None:
    builder, made = grow(shape)
    policy = ChainPolicy(max_reorg=max_reorg)
    chain, model = ChainState.open(MemoryStore.open(), builder.genesis, policy), Model(made, max_reorg)
    if headers_first:
        for number, item in enumerate(made[1:], start=1):
            chain.accept_header(item.block.sealed, now_ms=NOW_MS)
            model.headers.append(number)
    waiting, later = list(range(1, len(made))), [0]
    order.shuffle(waiting)
    while waiting and later != waiting:
        later = []
        for number in waiting:
            if not give(chain, model, number):
                later.append(number)
            assert chain.tree.tip.hash == made[model.tip].block.hash
            assert chain.checkpoint_height == model.checkpoint
        waiting, later = later, waiting
    assert all(made[number].parent not in model.headers for number in waiting)
    again = ChainState.open(chain.store, builder.genesis, policy)
    assert again.tree.tip.hash == chain.tree.tip.hash
    assert again.checkpoint_height == model.checkpoint


def give(chain: ChainState, model: Model, number: int) -> bool:
    """Hand a block to both; False when it must wait for its parent."""
    block, parent = model.made[number].block, model.made[number].parent
    if parent not in model.headers:
        with pytest.raises(Temporary, match="missing-parent"):
            chain.accept_block(block, now_ms=NOW_MS)
        return False
    if model.is_refused(number):
        with pytest.raises(RuleViolation, match="bad-prevblk"):
            chain.accept_block(block, now_ms=NOW_MS)
        return True
    update = chain.accept_block(block, now_ms=NOW_MS)
    model.add(number)
    wrong = {model.made[item].block.hash for item in model.move()}
    assert {block_hash for block_hash, _ in update.refused} == wrong
    return True
