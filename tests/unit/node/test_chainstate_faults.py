"""The chain state when blocks come in a bad order, break rules late, or are never delivered."""

from __future__ import annotations

from pathlib import Path

import pytest

from facechain.consensus.block import Block
from facechain.consensus.payloads import Cancel
from facechain.node import chainstate
from facechain.node.block_store import StoreDamaged
from facechain.node.chain_index import HEADER_FLAG_INVALID
from facechain.node.chain_update import InvalidBlock
from facechain.node.chainstate import ChainState
from facechain.node.store.lmdb_store import LmdbStore
from facechain.node.store.memory import MemoryStore
from facechain.node.store.schema import Table
from support.chain import SUBMITTER, ChainBuilder, make_genesis

NOW_MS = 2 * make_genesis().time_ms


@pytest.fixture
def builder() -> ChainBuilder:
    return ChainBuilder(make_genesis())


def give_body(chain: ChainState, block: Block) -> None:
    chain.accept_header(block.sealed, now_ms=NOW_MS)
    chain.check_new_body(block)
    chain.accept_body(block)


def flush(chain: ChainState) -> None:
    chain.store.transact(chain.flush_pending)
    chain.forget_flushed()


def test_a_body_that_was_stored_before_its_parents_is_loaded_again(
    builder: ChainBuilder, tmp_path: Path
) -> None:
    blocks = builder.mine_many(4)
    with LmdbStore.open(tmp_path / "store") as store:
        chain = ChainState.open(store, builder.genesis)
        for block in blocks:
            chain.accept_header(block.sealed, now_ms=NOW_MS)
        give_body(chain, blocks[3])
        flush(chain)
    with LmdbStore.open(tmp_path / "store") as store:
        chain = ChainState.open(store, builder.genesis)
        assert chain.tree.best_header.hash == blocks[3].hash
        for block in blocks[:3]:
            chain.accept_block(block, now_ms=NOW_MS)
        assert chain.tree.tip.hash == blocks[3].hash


def test_a_stored_header_without_its_parent_does_not_keep_the_node_from_starting(
    builder: ChainBuilder,
) -> None:
    first = builder.mine()
    bad = builder.forge(state_root=bytes(32))
    store = MemoryStore.open()
    chain = ChainState.open(store, builder.genesis)
    row = bad.sealed.encode() + bytes([HEADER_FLAG_INVALID])
    store.transact(lambda writer: writer.put(Table.HEADERS, bad.hash, row))
    chain = ChainState.open(store, builder.genesis)
    assert chain.accept_block(first, now_ms=NOW_MS).connected == (first,)


def test_a_refused_block_that_lay_in_the_store_stays_refused_after_a_restart(builder: ChainBuilder) -> None:
    bad = builder.forge(state_root=bytes(32))
    chain = ChainState.open(MemoryStore.open(), builder.genesis)
    give_body(chain, bad)
    flush(chain)
    update = chain.advance()
    assert [block_hash for block_hash, _ in update.refused] == [bad.hash]
    with chain.store.read() as reader:
        row = reader.get(Table.HEADERS, bad.hash)
        assert row is not None
        assert row[-1] == HEADER_FLAG_INVALID
        assert reader.get(Table.BODIES, bad.hash) is None
    assert ChainState.open(chain.store, builder.genesis).tree.nodes[bad.hash].invalid


def test_bodies_below_a_refused_block_are_let_go(builder: ChainBuilder) -> None:
    bad = builder.forge(state_root=bytes(32))
    chain = ChainState.open(MemoryStore.open(), builder.genesis)
    give_body(chain, bad)
    # A child of the bad block: the builder would refuse its parent, so its header is made by hand.
    header, body = builder.draft([builder.statement(SUBMITTER, Cancel(note="child"))])
    context = chain.tree.context(chain.tree.nodes[bad.hash])
    child = builder.forge(
        body.statements,
        time_ms=bad.header.time_ms + builder.params.spacing_ms,
        height=2,
        previous=bad.hash,
        bits=context.bits,
    )
    give_body(chain, child)
    assert header.height == 1
    assert chain.advance().refused
    assert chain.block(child.hash) is None
    assert chain.tree.nodes[child.hash].invalid


def test_good_blocks_below_a_bad_one_of_the_same_plan_are_connected(builder: ChainBuilder) -> None:
    good = builder.mine_many(3)
    bad = builder.forge(state_root=bytes(32))
    chain = ChainState.open(MemoryStore.open(), builder.genesis)
    for block in [*good, bad]:
        chain.accept_header(block.sealed, now_ms=NOW_MS)
    for block in [bad, *reversed(good)]:
        give_body(chain, block)
    update = chain.advance()
    assert update.connected == tuple(good)
    assert [block_hash for block_hash, _ in update.refused] == [bad.hash]


def test_headers_that_nobody_gives_bodies_for_are_forgotten(
    builder: ChainBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chainstate, "HEADERS_WAITING_MAX", 10)
    chain = ChainState.open(MemoryStore.open(), builder.genesis)
    for block in builder.mine_many(20):
        chain.accept_block(block, now_ms=NOW_MS)
    known = set(chain.tree.nodes)
    for fork in range(30):
        parent = builder.genesis_block
        for step in range(3):
            time_ms = parent.header.time_ms + 11_000 + fork
            parent = builder.mine(parent=parent, time_ms=time_ms)
            chain.accept_header(parent.sealed, now_ms=NOW_MS)
            assert parent.hash in chain.tree.nodes, step
    assert len(chain.tree.nodes) <= len(known) + 25
    assert known <= set(chain.tree.nodes)


def test_a_heavier_chain_of_headers_is_kept_while_others_are_forgotten(
    builder: ChainBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chainstate, "HEADERS_WAITING_MAX", 8)
    chain = ChainState.open(MemoryStore.open(), builder.genesis)
    trunk = builder.mine_many(4)
    for block in trunk:
        chain.accept_block(block, now_ms=NOW_MS)
    heavier = builder.mine_many(12, parent=trunk[1])
    for block in heavier:
        chain.accept_header(block.sealed, now_ms=NOW_MS)
    for block in heavier:
        chain.accept_block(block, now_ms=NOW_MS)
    assert chain.tree.tip.hash == heavier[-1].hash


def test_a_large_catch_up_is_cut_into_groups_by_bytes(
    builder: ChainBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chainstate, "GROUP_BYTES_MAX", 1_000)
    blocks = [builder.mine([builder.statement(SUBMITTER, Cancel(note="n" * 200))]) for _ in range(9)]
    chain = ChainState.open(MemoryStore.open(), builder.genesis)
    for block in blocks:
        give_body(chain, block)
    plan = chain.next_plan()
    assert plan is not None
    assert 1 <= len(plan.connect) <= 4
    assert chain.advance().connected == tuple(blocks)


def test_a_damaged_body_is_a_failure_of_the_store_and_not_of_the_block(builder: ChainBuilder) -> None:
    block = builder.mine([builder.statement(SUBMITTER, Cancel(note="x"))])
    chain = ChainState.open(MemoryStore.open(), builder.genesis)
    give_body(chain, block)
    flush(chain)
    chain.store.transact(lambda writer: writer.put(Table.BODIES, block.hash, b"\x91\xc1"))
    plan = chain.next_plan()
    assert plan is not None
    with pytest.raises(StoreDamaged, match=block.hash.hex()):
        chain.execute(plan)
    assert not chain.tree.nodes[block.hash].invalid


def test_refusing_touches_the_store_in_one_call_of_its_own(builder: ChainBuilder) -> None:
    bad = builder.forge(state_root=bytes(32))
    chain = ChainState.open(MemoryStore.open(), builder.genesis)
    give_body(chain, bad)
    plan = chain.next_plan()
    assert plan is not None
    with pytest.raises(InvalidBlock) as caught:
        chain.execute(plan)
    sealed = chain.mark_refused(caught.value)
    assert chain.next_plan() is None
    chain.keep_refusal(bad.hash, sealed)
    assert ChainState.open(chain.store, builder.genesis).tree.nodes[bad.hash].invalid
