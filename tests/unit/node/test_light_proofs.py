"""A node proves roles and headers from its store; a light client takes them."""

from __future__ import annotations

import random

import pytest

from facechain.consensus.kinds import Role
from facechain.consensus.kv import Bucket
from facechain.consensus.light import LightClient, ProvenHeader
from facechain.consensus.state import sub_roots
from facechain.consensus.state_proof import RoleProof
from facechain.node.block_store import StoreDamaged
from facechain.node.chainstate import ChainState
from facechain.node.evidence import EvidenceUnavailable
from facechain.node.light_proofs import HeaderProver, PastState, prove_role
from facechain.node.store.memory import MemoryStore
from facechain.node.store.schema import Table
from support.chain import ADMIN, STRANGER, ChainBuilder, make_genesis
from support.light import NEWCOMER, ROTATED, active_blocks, authority_story, proven
from support.statements import grant, revoke

NOW_MS = 10**14


@pytest.fixture(scope="module")
def builder() -> ChainBuilder:
    return authority_story()


@pytest.fixture(scope="module")
def chain(builder: ChainBuilder) -> ChainState:
    state = ChainState.open(MemoryStore.open(), builder.genesis)
    for block in active_blocks(builder):
        state.accept_block(block, now_ms=NOW_MS)
    assert state.tree.tip.hash == builder.tip.hash
    return state


def ask(chain: ChainState, first: int, count: int) -> tuple[ProvenHeader, ...]:
    with chain.snapshot() as reader:
        return HeaderProver().prove(reader, first, count)


def test_the_states_of_all_blocks_come_back(builder: ChainBuilder, chain: ChainState) -> None:
    with chain.snapshot() as reader:
        past = PastState(reader)
        for block in reversed(active_blocks(builder)):
            assert past.block.hash == block.hash
            assert sub_roots(past) == sub_roots(builder.state(block))
            past.step_back()
        with pytest.raises(ValueError, match="expected a role or the root of a tree"):
            past.get(Bucket.SEQUENCES, STRANGER.public)


@pytest.mark.parametrize("page", [1, 2, 7, 100])
def test_a_light_client_follows_a_node_s_chain_page_by_page(
    builder: ChainBuilder, chain: ChainState, page: int
) -> None:
    client = LightClient.from_genesis(builder.genesis)
    while items := ask(chain, client.tip.height + 1, page):
        assert len(items) <= page
        for item in items:
            client.accept(ProvenHeader.decode(item.encode()), now_ms=NOW_MS)
    assert client.tip.hash == chain.tree.tip.hash


def test_a_role_is_proven_where_it_is_needed_first_only(builder: ChainBuilder, chain: ChainState) -> None:
    items = ask(chain, 1, 1_000)
    assert [item.sealed for item in items] == [block.sealed for block in active_blocks(builder)]
    whole = proven(builder, active_blocks(builder))
    given = [item.role is not None for item in items]
    needed = []
    seen: set[tuple[bytes, bytes]] = set()
    for item in whole:
        at = (item.sub_roots[1], item.sealed.header.producer)
        needed.append(at not in seen)
        seen.add(at)
    assert given == needed
    assert sum(given) < len(given)
    assert ask(chain, builder.height + 1, 5) == ()


@pytest.mark.parametrize("seed", range(4))
def test_marks_on_the_way_change_no_answer(seed: int) -> None:
    """The chain grows and is reorganised between the pages; an old snapshot asks late."""
    rng = random.Random(seed)
    builder = ChainBuilder(make_genesis())
    chain = ChainState.open(MemoryStore.open(), builder.genesis)
    prover = HeaderProver(mark_blocks=4)
    jumped = 0
    for number in range(40):
        parent = builder.tip
        if number % 8 == 7:
            parent = builder.blocks[builder.tree.active[-rng.randint(2, 9)].hash]
        for _ in range(rng.randint(1, 10)):
            role = (grant, revoke)[number % 2](Role.PRODUCER, NEWCOMER)
            said = [builder.statement(ADMIN, role, parent=parent)] if rng.random() < 0.3 else []
            parent = builder.mine(said, parent=parent, time_ms=parent.header.time_ms + 10_000 + number)
            chain.accept_block(parent, now_ms=NOW_MS)
        assert chain.tree.tip.hash == builder.tip.hash
        for _ in range(3):
            first, count = rng.randint(1, builder.height), rng.randint(1, 12)
            with chain.snapshot() as reader:
                assert prover.prove(reader, first, count) == HeaderProver().prove(reader, first, count)
        jumped += len(prover._marks)
    assert jumped > 40
    client = LightClient.from_genesis(builder.genesis)
    with chain.snapshot() as reader:
        for item in prover.prove(reader, 1, builder.height):
            client.accept(item, now_ms=NOW_MS)
    assert client.tip.hash == builder.tip.hash


def test_old_headers_are_proven_without_all_the_way_back() -> None:
    builder = ChainBuilder(make_genesis())
    chain = ChainState.open(MemoryStore.open(), builder.genesis)
    blocks = builder.mine_many(60)
    for block in blocks:
        chain.accept_block(block, now_ms=NOW_MS)
    prover = HeaderProver(mark_blocks=10)
    with chain.snapshot() as reader:
        first = prover.prove(reader, 1, 8)
    # What lies between is not needed again.
    chain.store.transact(lambda writer: writer.delete(Table.UNDO, blocks[40].hash))
    with chain.snapshot() as reader:
        assert prover.prove(reader, 1, 8) == first
        with pytest.raises(EvidenceUnavailable):
            HeaderProver().prove(reader, 1, 8)


def test_roles_are_proven_under_the_tip(builder: ChainBuilder, chain: ChainState) -> None:
    expected = {NEWCOMER: False, ROTATED: True, STRANGER: False}
    for key, held in expected.items():
        with chain.snapshot() as reader:
            proof = RoleProof.decode(prove_role(reader, Role.PRODUCER, key.public))
        assert proof.anchor == builder.tip.sealed
        assert proof.held_at(builder.height + 1) is held


def test_what_was_pruned_or_damaged_is_said(builder: ChainBuilder) -> None:
    chain = ChainState.open(MemoryStore.open(), builder.genesis)
    blocks = active_blocks(builder)
    for block in blocks:
        chain.accept_block(block, now_ms=NOW_MS)
    chain.store.transact(lambda writer: writer.delete(Table.UNDO, blocks[4].hash))
    assert len(ask(chain, 6, 100)) == len(blocks) - 5
    with pytest.raises(EvidenceUnavailable, match="undo data of block 5"):
        ask(chain, 5, 1)
    for damage in (b"\xc1", b"\x91\x01", b"\x90\x00", b""):
        chain.store.transact(lambda writer, row=damage: writer.put(Table.UNDO, blocks[4].hash, row))  # type: ignore[misc]
        with pytest.raises(StoreDamaged, match="undo data of block"):
            ask(chain, 5, 1)
    chain.store.transact(lambda writer: writer.delete(Table.HEADERS, blocks[-1].hash))
    with pytest.raises(EvidenceUnavailable, match="a header of the active chain"):
        ask(chain, len(blocks), 1)
