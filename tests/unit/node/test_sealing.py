"""Who may seal is known as soon as the parent is connected, at any depth, and not a moment earlier."""

from __future__ import annotations

import pytest

from facechain.consensus.errors import RuleViolation
from facechain.consensus.kinds import Role
from facechain.node.chainstate import ChainState
from facechain.node.store.memory import MemoryStore
from support.chain import ADMIN, PRODUCER, ChainBuilder, keys, make_genesis
from support.light import active_blocks, authority_story
from support.statements import grant, rotation
from support.strangers import strangers_line

(NEWCOMER, ROTATED) = keys(2, start=90)
NOW_MS = 10**14


def open_chain(builder: ChainBuilder) -> ChainState:
    chain = ChainState.open(MemoryStore.open(), builder.genesis)
    for block in active_blocks(builder):
        chain.accept_block(block, now_ms=NOW_MS)
    return chain


def test_a_branch_is_judged_by_the_roles_at_its_fork() -> None:
    """Every key, on every block of a chain with grants, revocations and rotations: as the fork's own state says."""
    builder = authority_story()
    chain = open_chain(builder)
    sealers = {block.header.producer for block in active_blocks(builder)}
    told = 0
    for fork in [builder.genesis_block, *active_blocks(builder)]:
        for key in (PRODUCER, *keys(3, start=70)):
            header = strangers_line(builder, fork, 1, key=key)[0].sealed
            held = builder.view(fork).role(Role.PRODUCER, key.public).holds_at(header.height)
            if held:
                assert chain.accept_header(header, now_ms=NOW_MS).parent is chain.tree.nodes[fork.hash]
            else:
                with pytest.raises(RuleViolation, match="unauthorized-producer"):
                    chain.accept_header(header, now_ms=NOW_MS)
                assert header.hash not in chain.tree.nodes
            told += key.public in sealers and not held
    assert told > 20


def test_roles_that_a_branch_grants_and_rotates_count_in_it() -> None:
    """A heavier branch with a grant and a rotation inside comes headers first; it is followed."""
    builder = ChainBuilder(make_genesis())
    builder.mine_many(3)
    chain = open_chain(builder)
    said = builder.statement(ADMIN, grant(Role.PRODUCER, NEWCOMER), parent=builder.genesis_block)
    branch = [builder.mine([said], parent=builder.genesis_block)]
    branch.append(builder.mine(parent=branch[-1], key=NEWCOMER))
    handover = rotation(NEWCOMER, ROTATED, builder.network_id)
    said = builder.statement(NEWCOMER, handover, parent=branch[-1], sequence=0)
    branch.append(builder.mine([said], parent=branch[-1], key=NEWCOMER))
    branch += [builder.mine(parent=branch[-1], key=ROTATED)]
    branch += [builder.mine(parent=branch[-1], key=ROTATED)]
    for block in branch:
        chain.accept_header(block.sealed, now_ms=NOW_MS)
    for block in branch:
        chain.accept_block(block, now_ms=NOW_MS)
    assert chain.tree.tip.hash == branch[-1].hash


def test_a_store_that_is_ahead_of_the_tree_on_another_branch_judges_nothing() -> None:
    """Between the transaction of a reorganisation and the tree's move, the old tip's children still come in."""
    builder = ChainBuilder(make_genesis())
    said = builder.statement(ADMIN, grant(Role.PRODUCER, NEWCOMER))
    first = builder.mine([said])
    chain = open_chain(builder)
    child = builder.forge(key=NEWCOMER)
    side = builder.mine(parent=builder.genesis_block, time_ms=first.header.time_ms + 1)
    side = builder.mine(parent=side)
    for block in (builder.blocks[side.header.previous], side):
        chain.accept_header(block.sealed, now_ms=NOW_MS)
        chain.accept_body(block)
    plan = chain.next_plan()
    assert plan is not None
    assert plan.disconnect
    done = chain.execute(plan)
    assert chain.tree.tip.hash == first.hash
    assert chain.accept_header(child.sealed, now_ms=NOW_MS).height == 2
    chain.settle(done)
    assert chain.tree.tip.hash == side.hash


def test_headers_that_came_before_their_parents_are_judged_when_those_are_connected() -> None:
    builder = ChainBuilder(make_genesis())
    honest = builder.mine_many(4)
    branch = strangers_line(builder, honest[1], 6)
    chain = ChainState.open(MemoryStore.open(), builder.genesis)
    for block in (*honest, *branch):
        chain.accept_header(block.sealed, now_ms=NOW_MS)
    assert chain.tree.best_header.hash == branch[-1].hash
    chain.accept_block(honest[0], now_ms=NOW_MS)
    assert not chain.tree.nodes[branch[0].hash].invalid
    chain.accept_block(honest[1], now_ms=NOW_MS)
    assert all(chain.tree.nodes[block.hash].invalid for block in branch)
    assert chain.tree.best_header.hash == honest[-1].hash
    with pytest.raises(RuleViolation, match="bad-prevblk"):
        chain.accept_header(branch[0].sealed, now_ms=NOW_MS)


def test_stored_headers_of_strangers_are_judged_when_the_store_is_opened() -> None:
    """A later body of a branch came, and was moved to the store with the headers below it; the first never did."""
    builder = ChainBuilder(make_genesis())
    honest = builder.mine_many(2)
    branch = strangers_line(builder, honest[0], 4)
    store = MemoryStore.open()
    chain = ChainState.open(store, builder.genesis)
    for block in (*honest, *branch[:3]):
        chain.accept_header(block.sealed, now_ms=NOW_MS)
    chain.accept_body(branch[2])
    store.transact(chain.flush_pending)
    chain.forget_flushed()
    for block in honest:
        chain.accept_block(block, now_ms=NOW_MS)
    assert chain.tree.best_header is chain.tree.tip
    again = ChainState.open(store.reopen(), builder.genesis)
    assert again.tree.nodes[branch[2].hash].invalid
    assert again.tree.best_header is again.tree.tip
    assert again.tree.tip.hash == honest[-1].hash
