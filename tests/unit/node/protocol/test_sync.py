"""Synchronisation and block relay between whole nodes on a simulated network."""

from __future__ import annotations

from dataclasses import replace

import pytest

from facechain.consensus.block import Block, Body, SealedHeader, seal_header
from facechain.consensus.payloads import Cancel
from facechain.node.protocol.sync import DEFAULT_LIMITS, SyncLimits
from facechain.node.wire import messages as wire
from support.chain import PRODUCER, STRANGER, SUBMITTER, ChainBuilder, make_genesis
from support.gossip import Gossip


@pytest.fixture
def builder() -> ChainBuilder:
    return ChainBuilder(make_genesis())


def mine_with_statements(builder: ChainBuilder, count: int) -> list[Block]:
    return [
        builder.mine([builder.statement(SUBMITTER, Cancel(note=f"block {number}"))])
        for number in range(count)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_catches_up_headers_first_from_several_peers(builder: ChainBuilder, seed: int) -> None:
    blocks = mine_with_statements(builder, 60)
    net = Gossip(builder.genesis, 4, seed=seed)
    for number in (0, 1, 2):
        net.give(number, *blocks)
    for number in (0, 1, 2):
        net.connect(3, number)
    net.run()
    late = net.nodes[3]
    assert late.tip == blocks[-1].hash
    asked = {peer for peer, message in late.sent if isinstance(message, wire.GetBody)}
    assert asked == {0, 1, 2}
    assert not any(node.punished or node.dropped for node in net.nodes)


def test_a_long_chain_takes_several_header_messages(
    builder: ChainBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = builder.mine_many(25)
    monkeypatch.setattr("facechain.node.protocol.header_sync.MAX_HEADERS", 10)
    net = Gossip(builder.genesis, 2)
    net.give(0, *blocks)
    net.connect(1, 0)
    net.run()
    assert net.nodes[1].tip == blocks[-1].hash
    assert len(net.nodes[1].sent_of(wire.GetHeaders)) >= 3


@pytest.mark.parametrize("seed", range(5))
def test_a_new_block_travels_a_line_of_nodes_and_its_statements_travel_once(
    builder: ChainBuilder, seed: int
) -> None:
    net = Gossip(builder.genesis, 4, seed=seed)
    for number in range(3):
        net.connect(number, number + 1)
    statements = [builder.statement(SUBMITTER, Cancel(note=str(number))) for number in range(20)]
    net.submit(0, *statements)
    net.run()
    assert all(len(node.pool) == 20 for node in net.nodes)
    block = builder.mine(statements)
    for node in net.nodes:
        node.sent.clear()
    net.give(0, block)
    net.run()
    for node in net.nodes[1:]:
        assert node.tip == block.hash
        assert node.sync.counts.statements_reused == 20
        assert node.sync.counts.statements_fetched == 0
        assert not node.sent_of(wire.GetBody)
        assert not node.sent_of(wire.GetStatements)


def test_only_missing_statements_of_a_block_are_fetched(builder: ChainBuilder) -> None:
    net = Gossip(builder.genesis, 2)
    net.connect(0, 1)
    statements = [builder.statement(SUBMITTER, Cancel(note=str(number))) for number in range(10)]
    net.submit(0, *statements)
    net.run()
    receiver = net.nodes[1]
    for statement in statements[4:7]:
        del receiver.pool[statement.leaf]
    net.give(0, builder.mine(statements))
    net.run()
    assert receiver.height == 1
    wanted = {statement.leaf for statement in statements[4:7]}
    requests = [m for _, m in receiver.sent if isinstance(m, wire.GetStatements) and set(m.leaves) == wanted]
    assert receiver.sync.counts.statements_fetched == 3
    assert len(requests) == 1


def test_two_halves_of_a_network_converge_on_most_work_after_they_meet(builder: ChainBuilder) -> None:
    common = builder.mine_many(5)
    short = builder.mine_many(3)
    long: list[Block] = [builder.mine(parent=common[-1], time_ms=common[-1].header.time_ms + 11_000)]
    long += builder.mine_many(5, parent=long[-1])
    net = Gossip(builder.genesis, 4)
    net.connect(0, 1)
    net.connect(2, 3)
    for number in range(4):
        net.give(number, *common)
    net.run()
    net.give(0, *short)
    net.give(2, *long)
    net.run()
    assert net.nodes[1].tip == short[-1].hash
    assert net.nodes[3].tip == long[-1].hash
    net.connect(1, 2)
    net.run()
    assert {node.tip for node in net.nodes} == {long[-1].hash}


def test_a_silent_peer_is_dropped_and_another_is_asked(builder: ChainBuilder) -> None:
    blocks = builder.mine_many(12)
    net = Gossip(builder.genesis, 3, limits=SyncLimits(body_timeout=5.0, stalls_until_drop=1))
    net.give(0, *blocks)
    net.give(1, *blocks)
    net.nodes[0].sync.on_get_body = lambda peer, message: []  # type: ignore[method-assign]  # it never answers
    net.connect(2, 0)
    net.run()
    net.connect(2, 1)
    net.run()
    assert net.nodes[2].height < 12
    net.tick(6.0)
    assert net.nodes[2].dropped == [(0, "stalled")]
    assert net.nodes[2].tip == blocks[-1].hash


def test_a_peer_without_a_body_says_so_and_another_is_asked(builder: ChainBuilder) -> None:
    blocks = builder.mine_many(3)
    net = Gossip(builder.genesis, 3)
    net.give(0, *blocks)
    net.give(1, *blocks)
    net.nodes[0].chain.block = lambda block_hash: None  # type: ignore[method-assign]  # it pruned them
    net.connect(2, 0)
    net.run()
    net.connect(2, 1)
    net.run()
    assert net.nodes[0].sent_of(wire.NotFound)
    assert net.nodes[2].tip == blocks[-1].hash


def announce(block: Block) -> wire.AnnounceBlock:
    return wire.AnnounceBlock(
        sealed_header=block.sealed.encode(), byte_count=block.body.byte_count(), leaves=block.body.leaves()
    )


def offer(net: Gossip, block: Block) -> None:
    """Node 0 announces a block to node 1, whatever it thinks of it, and would serve its body."""
    net.nodes[0].chain.block = lambda block_hash: block if block_hash == block.hash else None  # type: ignore[method-assign]
    receiver = net.nodes[1]
    net.perform(receiver, receiver.sync.on_announce_block(0, announce(block), now=net.now, now_ms=net.now_ms))
    net.run()


def test_a_header_without_work_is_punished(builder: ChainBuilder) -> None:
    net = Gossip(builder.genesis, 2)
    net.connect(0, 1)
    net.run()
    header, body = builder.draft()
    while int.from_bytes(header.hash, "big") >> 255 == 0:
        header = header.with_nonce(header.nonce + 1)
    offer(net, builder.seal(header, body, mined=False))
    assert net.nodes[1].punished == [(0, "high-hash")]


def test_a_bad_seal_is_punished_and_says_nothing_about_the_header(builder: ChainBuilder) -> None:
    net = Gossip(builder.genesis, 3)
    net.connect(0, 1)
    net.connect(2, 1)
    net.run()
    good = builder.forge()
    bad = Block(
        SealedHeader(good.header, seal_header(STRANGER, builder.network_id, good.header).seal), good.body
    )
    offer(net, bad)
    assert net.nodes[1].punished == [(0, "bad-seal")]
    net.give(2, good)
    net.run()
    assert net.nodes[1].tip == good.hash


def test_a_mutated_body_is_punished_and_the_block_is_taken_from_another_peer(builder: ChainBuilder) -> None:
    statement = builder.statement(SUBMITTER, Cancel(note="one"))
    other = builder.statement(SUBMITTER, Cancel(note="another"), sequence=0)
    good = builder.forge([statement])
    net = Gossip(builder.genesis, 3)
    net.connect(0, 1)
    net.connect(2, 1)
    net.run()
    offer(net, replace(good, body=Body((other,))))
    assert net.nodes[1].punished == [(0, "bad-merkle-root")]
    net.give(2, good)
    net.run()
    assert net.nodes[1].tip == good.hash


def test_a_block_that_breaks_a_rule_of_the_state_is_refused_with_its_rule(builder: ChainBuilder) -> None:
    forged = builder.forge(state_root=bytes(32))
    net = Gossip(builder.genesis, 2)
    net.connect(0, 1)
    net.run()
    offer(net, forged)
    assert net.nodes[1].punished == [(0, "bad-state-root")]
    assert net.nodes[1].height == 0


def test_a_gap_between_headers_is_punished(builder: ChainBuilder) -> None:
    blocks = builder.mine_many(3)
    net = Gossip(builder.genesis, 2)
    net.connect(0, 1)
    net.run()
    receiver = net.nodes[1]
    net.perform(
        receiver,
        receiver.sync.on_headers(0, [blocks[0].sealed, blocks[2].sealed], now=net.now, now_ms=net.now_ms),
    )
    assert receiver.punished == [(0, "bad-prevblk")]


def test_a_header_from_the_future_is_nobodys_fault(builder: ChainBuilder) -> None:
    net = Gossip(builder.genesis, 2)
    net.now_ms = builder.genesis.time_ms
    net.connect(0, 1)
    net.run()
    offer(net, builder.forge(time_ms=net.now_ms + builder.params.future_limit_ms + 1))
    assert not net.nodes[1].punished
    assert 0 in net.nodes[1].peers


@pytest.mark.parametrize("announced", [True, False])
def test_a_block_from_the_future_is_followed_in_its_time(builder: ChainBuilder, *, announced: bool) -> None:
    """Nothing newer tells of it: the node has to ask again by itself."""
    net = Gossip(builder.genesis, 2)
    if announced:
        net.connect(0, 1)
        net.run()
    block = builder.mine()
    net.now_ms = block.header.time_ms
    net.give(0, block)
    net.now_ms -= builder.params.future_limit_ms + 1_000
    if not announced:
        net.connect(0, 1)
    net.run()
    assert net.nodes[1].height == 0
    net.tick(DEFAULT_LIMITS.future_retry + 1)
    assert net.nodes[1].height == 0
    net.now_ms += 2_000
    net.tick(DEFAULT_LIMITS.future_retry + 1)
    assert net.nodes[1].tip == block.hash


def test_what_is_announced_is_not_announced_back(builder: ChainBuilder) -> None:
    net = Gossip(builder.genesis, 2)
    net.connect(0, 1)
    net.run()
    net.give(0, builder.mine())
    net.run()
    assert len(net.nodes[0].sent_of(wire.AnnounceBlock)) == 1
    assert not net.nodes[1].sent_of(wire.AnnounceBlock)


def test_a_large_body_comes_in_chunks(builder: ChainBuilder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facechain.node.wire.chunks.CHUNK_BYTES", 2_000)
    statements = [builder.statement(SUBMITTER, Cancel(note=str(number))) for number in range(30)]
    block = builder.mine(statements)
    net = Gossip(builder.genesis, 2)
    net.give(0, block)
    net.nodes[0].pool.clear()
    net.connect(1, 0)
    net.run()
    chunks = net.nodes[0].sent_of(wire.BodyChunk)
    assert len(chunks) > 2, [len(chunk.statements) for chunk in chunks if isinstance(chunk, wire.BodyChunk)]
    assert [bool(chunk.leaves) for chunk in chunks if isinstance(chunk, wire.BodyChunk)] == [True] + [
        False
    ] * (len(chunks) - 1)
    assert net.nodes[1].tip == block.hash


def test_status_tells_how_far_behind_a_node_is(builder: ChainBuilder) -> None:
    blocks = builder.mine_many(4, parent=None)
    net = Gossip(builder.genesis, 2)
    net.give(0, *blocks)
    net.connect(1, 0)
    assert net.nodes[1].sync.best_known_height() == 0
    net.run()
    assert net.nodes[1].sync.best_known_height() == 4
    assert not net.nodes[1].sync.is_behind()
    assert PRODUCER.public == blocks[-1].header.producer
