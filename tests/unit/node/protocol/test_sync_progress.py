"""What a node says of how far behind it is, and whom it cannot be fooled by; bodies of pruned nodes."""

from __future__ import annotations

import pytest

from facechain.consensus.block import Block
from facechain.consensus.payloads import Cancel
from facechain.node.chainstate import ChainState
from facechain.node.maintenance.prune import prune_store
from facechain.node.protocol import header_sync
from facechain.node.protocol.sync import Synchronizer, SyncLimits
from facechain.node.protocol.sync_progress import BlockRate
from facechain.node.store.memory import MemoryStore
from facechain.node.wire import messages as wire
from support.chain import SUBMITTER, ChainBuilder, make_genesis
from support.gossip import FAR_FUTURE_MS, Gossip, SimulatedNode
from support.strangers import strangers_line


@pytest.fixture
def builder() -> ChainBuilder:
    return ChainBuilder(make_genesis())


def busy(builder: ChainBuilder, count: int) -> list[Block]:
    return [
        builder.mine([builder.statement(SUBMITTER, Cancel(note=f"block {number}"))])
        for number in range(count)
    ]


def make_sync(builder: ChainBuilder, blocks: list[Block], peers: int = 1) -> Synchronizer:
    chain = ChainState.open(MemoryStore.open(), builder.genesis)
    for block in blocks:
        chain.accept_block(block, now_ms=FAR_FUTURE_MS)
    sync = Synchronizer(chain, lambda _leaf: None, SyncLimits(body_timeout=5.0))
    for peer in range(1, peers + 1):
        sync.on_connected(peer, 0.0)
    return sync


def show(sync: Synchronizer, peer: int, blocks: list[Block]) -> None:
    sync.on_headers(peer, [block.sealed for block in blocks], now=0.0, now_ms=FAR_FUTURE_MS)


def test_what_is_missing_is_counted_in_bodies(builder: ChainBuilder) -> None:
    blocks = busy(builder, 10)
    sync = make_sync(builder, blocks[:4])
    assert (sync.behind().height, sync.behind().progress) == (4, 1.0)
    show(sync, 1, blocks[4:])
    behind = sync.behind()
    assert (behind.height, behind.blocks, behind.bodies, behind.progress) == (10, 6, 6, 0.4)
    chain = sync._chain
    assert isinstance(chain, ChainState)
    chain.accept_body(blocks[6])
    behind = sync.behind()
    assert (behind.blocks, behind.bodies, behind.progress) == (6, 5, 0.5)


def test_a_claim_a_withheld_chain_and_a_flood_are_not_believed(
    builder: ChainBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(header_sync, "MAX_HEADERS", 5)
    blocks = busy(builder, 10)
    sync = make_sync(builder, blocks[:6], peers=3)
    claim = wire.Status(tip_hash=bytes(32), height=10**9, chainwork=b"\xff" * 32, pruned_below=0)
    sync.on_status(1, claim, 0.0)
    assert sync.best_known_height() == 6
    assert not sync.is_behind()
    side = [builder.mine(parent=blocks[0], time_ms=blocks[1].header.time_ms + 1)]
    side += builder.mine_many(3, parent=side[0])
    show(sync, 2, side)
    assert sync.best_known_height() == 6
    show(sync, 3, blocks[6:])
    assert sync.best_known_height() == 10
    sync.on_not_found(3, wire.NotFound(missing=wire.Missing.BODY, hashes=(blocks[6].hash,)), 0.0)
    assert sync.best_known_height() == 6, "its headers are shown, its bodies cannot be had"


def test_a_stranger_s_chain_does_not_count(builder: ChainBuilder) -> None:
    blocks = busy(builder, 4)
    sync = make_sync(builder, blocks)
    show(sync, 1, strangers_line(builder, blocks[2], 30))
    assert (sync.best_known_height(), sync.is_behind(), sync.behind().progress) == (4, False, 1.0)


def test_a_longer_chain_that_nobody_delivers_steps_back_behind_one_that_comes(builder: ChainBuilder) -> None:
    honest = busy(builder, 8)
    withheld = [builder.mine(parent=builder.genesis_block, time_ms=builder.genesis.time_ms + 11_000)]
    withheld += builder.mine_many(20, parent=withheld[0])
    sync = make_sync(builder, [], peers=2)
    show(sync, 1, withheld)
    show(sync, 2, honest)
    assert sync.best_known_height() == 21
    sync.on_tick(5.0)
    chunk = wire.BodyChunk(
        block_hash=honest[0].hash,
        leaves=honest[0].body.leaves(),
        byte_count=honest[0].body.byte_count(),
        start=0,
        statements=tuple(item.encode() for item in honest[0].body.statements),
    )
    asked = sync._asked.get(honest[0].hash)
    assert asked == 2
    sync.on_body_chunk(2, chunk, 6.0)
    assert sync.best_known_height() == 8


def test_the_rate_is_that_of_the_window_or_of_the_time_since_the_start() -> None:
    rate = BlockRate(10.0, 100.0)
    assert rate.per_second(100.0) == 0.0
    assert rate.eta_seconds(5, 100.0) is None
    rate.note(20, 102.0)
    assert rate.per_second(104.0) == 5.0
    assert rate.eta_seconds(50, 104.0) == 10.0
    assert rate.eta_seconds(0, 104.0) is None
    rate.note(30, 110.0)
    assert rate.per_second(110.0) == 5.0
    assert rate.per_second(112.5) == 3.0
    assert rate.per_second(121.0) == 0.0
    assert rate.eta_seconds(50, 121.0) is None


# Pruned nodes.


def pruned(net: Gossip, number: int, blocks: list[Block], keep: int) -> SimulatedNode:
    """Let a node take blocks, drop all bodies but the last `keep`, and start again on its store."""
    net.give(number, *blocks)
    node = net.nodes[number]
    store = node.chain.store
    prune_store(store, keep)
    node.pool.clear()
    node.chain = ChainState.open(store, node.chain.genesis)
    node.sync = Synchronizer(node.chain, node.pool.get)
    return node


def test_a_pruned_node_says_so_and_is_asked_only_for_what_it_has(builder: ChainBuilder) -> None:
    blocks = busy(builder, 40)
    net = Gossip(builder.genesis, 3)
    old = pruned(net, 0, blocks, 10)
    net.give(1, *blocks)
    assert old.sync.status().pruned_below == 31
    net.connect(2, 0)
    net.run()
    late = net.nodes[2]
    assert late.height == 0, "nobody has the first bodies yet"
    assert not late.sync.is_behind()
    assert late.sync.pruned_below(0) == 31
    net.connect(2, 1)
    net.run()
    assert late.tip == blocks[-1].hash
    heights = {block.hash: block.header.height for block in blocks}
    asked = [
        heights[message.block_hash]
        for peer, message in late.sent
        if peer == 0 and isinstance(message, wire.GetBody)
    ]
    assert asked
    assert min(asked) >= 31
    assert not old.sent_of(wire.NotFound)


def test_a_node_that_is_a_little_behind_catches_up_from_a_pruned_one(builder: ChainBuilder) -> None:
    blocks = busy(builder, 20)
    net = Gossip(builder.genesis, 2)
    old = pruned(net, 0, blocks, 5)
    net.give(1, *blocks[:15])
    net.connect(1, 0)
    net.run()
    assert net.nodes[1].tip == blocks[-1].hash
    assert not old.sent_of(wire.NotFound)
