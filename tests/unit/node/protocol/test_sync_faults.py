"""Synchronisation with peers that lie, stall, vanish or answer in part."""

from __future__ import annotations

from dataclasses import replace

import pytest

from facechain.consensus.block import Block
from facechain.consensus.payloads import Cancel
from facechain.consensus.statement import Statement
from facechain.node.chainstate import ChainState
from facechain.node.protocol.actions import Action, BlockReady, Drop, Punish, Send
from facechain.node.protocol.assembly import BodyAssembly
from facechain.node.protocol.serving import ServedBodies
from facechain.node.protocol.sync import DEFAULT_LIMITS, Synchronizer, SyncLimits
from facechain.node.store.memory import MemoryStore
from facechain.node.wire import messages as wire
from support.chain import PRODUCER, STRANGER, SUBMITTER, ChainBuilder, make_genesis
from support.gossip import Gossip
from support.strangers import strangers_line

NOW_MS = 2 * make_genesis().time_ms


@pytest.fixture
def builder() -> ChainBuilder:
    return ChainBuilder(make_genesis())


def notes(builder: ChainBuilder, count: int) -> list[Statement]:
    return [builder.statement(SUBMITTER, Cancel(note=str(number))) for number in range(count)]


def make_sync(builder: ChainBuilder, limits: SyncLimits = DEFAULT_LIMITS, peers: int = 1) -> Synchronizer:
    sync = Synchronizer(ChainState.open(MemoryStore.open(), builder.genesis), lambda _leaf: None, limits)
    for peer in range(1, peers + 1):
        sync.on_connected(peer, 0.0)
    return sync


def show(sync: Synchronizer, peer: int, blocks: list[Block], now: float = 0.0) -> list[Action]:
    return sync.on_headers(peer, [block.sealed for block in blocks], now=now, now_ms=NOW_MS)


def announce(block: Block) -> wire.AnnounceBlock:
    return wire.AnnounceBlock(
        sealed_header=block.sealed.encode(), byte_count=block.body.byte_count(), leaves=block.body.leaves()
    )


def sent(actions: list[Action], kind: type[wire.Message]) -> list[tuple[int, wire.Message]]:
    return [
        (action.peer, action.message)
        for action in actions
        if isinstance(action, Send) and isinstance(action.message, kind)
    ]


def chunk(block: Block, start: int, count: int, *, leaves: bool) -> wire.BodyChunk:
    return wire.BodyChunk(
        block_hash=block.hash,
        leaves=block.body.leaves() if leaves else (),
        byte_count=block.body.byte_count(),
        start=start,
        statements=tuple(item.encode() for item in block.body.statements[start : start + count]),
    )


# Headers.


def test_a_long_fork_is_followed_beyond_its_first_message(
    builder: ChainBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facechain.node.protocol.header_sync.MAX_HEADERS", 10)
    short = builder.mine_many(25)
    other = [builder.mine(parent=builder.genesis_block, time_ms=builder.genesis.time_ms + 11_000)]
    other += builder.mine_many(30, parent=other[0])
    net = Gossip(builder.genesis, 2)
    net.give(0, *other)
    net.give(1, *short)
    net.connect(1, 0)
    net.run()
    assert net.nodes[1].tip == other[-1].hash


def test_a_peer_that_sends_the_same_headers_over_and_over_is_dropped(
    builder: ChainBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facechain.node.protocol.header_sync.MAX_HEADERS", 5)
    blocks = builder.mine_many(5)
    sync = make_sync(builder)
    assert sent(show(sync, 1, blocks), wire.GetHeaders)
    assert [action for action in show(sync, 1, blocks) if isinstance(action, Drop)]


def test_headers_that_did_not_come_are_asked_for_again(builder: ChainBuilder) -> None:
    sync = make_sync(builder, SyncLimits(headers_timeout=5.0, stalls_until_drop=3))
    assert sent(sync.on_tick(5.0), wire.GetHeaders)
    assert sent(sync.on_tick(10.0), wire.GetHeaders)
    actions = sync.on_tick(15.0)
    assert [action for action in actions if isinstance(action, Drop)]


def test_the_only_peer_is_not_dropped_at_its_first_delay(builder: ChainBuilder) -> None:
    sync = make_sync(builder, SyncLimits(body_timeout=5.0, stalls_until_drop=3))
    show(sync, 1, [builder.mine()])
    assert not [action for action in sync.on_tick(5.0) if isinstance(action, Drop)]


def test_a_height_that_is_only_claimed_does_not_count(builder: ChainBuilder) -> None:
    sync = make_sync(builder)
    lie = wire.Status(tip_hash=bytes(32), height=10**9, chainwork=b"\xff" * 32, pruned_below=0)
    sync.on_status(1, lie, 0.0)
    assert sync.best_known_height() == 0


def test_chains_below_the_minimum_of_work_are_not_downloaded(builder: ChainBuilder) -> None:
    blocks = builder.mine_many(4)
    enough = builder.node(blocks[3]).chainwork
    sync = make_sync(builder, SyncLimits(minimum_chainwork=enough))
    assert not sent(show(sync, 1, blocks[:3]), wire.GetBody)
    assert not sync.on_announce_block(1, announce(blocks[0]), now=0.0, now_ms=NOW_MS)
    assert len(sent(show(sync, 1, blocks[3:]), wire.GetBody)) == 4


# Bodies.


def test_a_heavier_chain_without_bodies_keeps_no_other_chain_waiting(builder: ChainBuilder) -> None:
    honest = builder.mine_many(3)
    fake = [builder.mine(parent=builder.genesis_block, time_ms=builder.genesis.time_ms + 11_000)]
    fake += builder.mine_many(5, parent=fake[0])
    sync = make_sync(builder, peers=2)
    show(sync, 1, fake)
    asked = sent(show(sync, 2, honest), wire.GetBody)
    assert {message.block_hash for _, message in asked if isinstance(message, wire.GetBody)} >= {
        block.hash for block in honest
    }
    assert all(peer == 2 for peer, _ in asked)


def test_a_body_that_was_not_there_is_asked_for_again_when_the_peer_has_more_work(
    builder: ChainBuilder,
) -> None:
    blocks = builder.mine_many(2)
    sync = make_sync(builder)
    show(sync, 1, blocks[:1])
    missing = wire.NotFound(missing=wire.Missing.BODY, hashes=(blocks[0].hash,))
    assert not sync.on_not_found(1, missing, 0.0)
    asked = sent(show(sync, 1, blocks[1:]), wire.GetBody)
    assert {message.block_hash for _, message in asked if isinstance(message, wire.GetBody)} == {
        block.hash for block in blocks
    }


def test_what_a_peer_says_it_lacks_unasked_is_not_remembered(builder: ChainBuilder) -> None:
    blocks = builder.mine_many(1)
    sync = make_sync(builder, peers=2)
    hashes = tuple(number.to_bytes(32, "big") for number in range(100))
    sync.on_not_found(1, wire.NotFound(missing=wire.Missing.BODY, hashes=(*hashes, blocks[0].hash)), 0.0)
    asked = sent(show(sync, 1, blocks), wire.GetBody)
    assert [peer for peer, _ in asked] == [1]


def test_a_chunk_that_brings_nothing_is_punished_and_another_peer_is_asked(builder: ChainBuilder) -> None:
    block = builder.mine(notes(builder, 3))
    sync = make_sync(builder, peers=2)
    (first, _), *_ = sent(show(sync, 1, [block]), wire.GetBody)
    show(sync, 2, [block])
    nothing = wire.BodyChunk(block_hash=block.hash, leaves=(), byte_count=9, start=0, statements=())
    actions = sync.on_body_chunk(first, nothing, 1.0)
    assert [action.reason for action in actions if isinstance(action, Punish)] == ["empty-chunk"]
    assert sent([*actions, *sync.on_disconnected(first, 1.0)], wire.GetBody)


def test_a_chunk_from_another_start_than_was_asked_is_punished(builder: ChainBuilder) -> None:
    block = builder.mine(notes(builder, 4))
    sync = make_sync(builder)
    show(sync, 1, [block])
    sync.on_body_chunk(1, chunk(block, 0, 2, leaves=True), 1.0)
    actions = sync.on_body_chunk(1, chunk(block, 0, 2, leaves=False), 2.0)
    assert [action.reason for action in actions if isinstance(action, Punish)] == ["empty-chunk"]


def test_a_peer_that_drips_a_body_loses_it_to_another(builder: ChainBuilder) -> None:
    block = builder.mine(notes(builder, 40))
    sync = make_sync(builder, SyncLimits(body_timeout=5.0, body_timeout_max=20.0))
    show(sync, 1, [block])
    sync.on_body_chunk(1, chunk(block, 0, 1, leaves=True), 0.0)
    for number in range(1, 6):
        now = 4.0 * number
        assert sync.on_tick(now - 0.1) == []
        if number < 5:
            sync.on_body_chunk(1, chunk(block, number, 1, leaves=False), now)
    sync.on_connected(2, 19.0)
    show(sync, 2, [block], 19.0)
    asked = sent(sync.on_tick(20.1), wire.GetBody) + sent(sync.on_tick(20.2), wire.GetStatements)
    assert [peer for peer, _ in asked] == [2]


def test_statements_that_come_in_part_are_followed_by_a_request_for_the_rest(builder: ChainBuilder) -> None:
    statements = notes(builder, 5)
    block = builder.mine(statements)
    pool = {statements[0].leaf: statements[0]}
    sync = Synchronizer(ChainState.open(MemoryStore.open(), builder.genesis), pool.get)
    sync.on_connected(1, 0.0)
    actions = sync.on_announce_block(1, announce(block), now=0.0, now_ms=NOW_MS)
    assert len(sent(actions, wire.GetStatements)) == 1
    actions = sync.on_statements(1, statements[1:3], 0.0)
    ((_, rest),) = sent(actions, wire.GetStatements)
    assert rest == wire.GetStatements(leaves=tuple(item.leaf for item in statements[3:]))
    lacking = wire.NotFound(
        missing=wire.Missing.STATEMENT, hashes=tuple(item.leaf for item in statements[3:])
    )
    ((_, whole),) = sent(sync.on_not_found(1, lacking, 0.0), wire.GetBody)
    assert whole == wire.GetBody(block_hash=block.hash, start=3, with_leaves=False)
    actions = sync.on_body_chunk(1, chunk(block, 3, 2, leaves=False), 0.0)
    assert [action.block for action in actions if isinstance(action, BlockReady)] == [block]


def test_a_block_that_is_being_connected_is_not_put_together_again(builder: ChainBuilder) -> None:
    statements = notes(builder, 2)
    block = builder.mine(statements)
    pool = {item.leaf: item for item in statements}
    sync = Synchronizer(ChainState.open(MemoryStore.open(), builder.genesis), pool.get)
    for peer in (1, 2):
        sync.on_connected(peer, 0.0)
    ready = sync.on_announce_block(1, announce(block), now=0.0, now_ms=NOW_MS)
    assert [type(action) for action in ready] == [BlockReady]
    assert sync.on_announce_block(2, announce(block), now=0.0, now_ms=NOW_MS) == []


def test_a_finished_block_that_was_not_taken_is_fetched_again(builder: ChainBuilder) -> None:
    block = builder.mine(notes(builder, 1))
    sync = make_sync(builder)
    show(sync, 1, [block])
    sync.on_body_chunk(1, chunk(block, 0, 1, leaves=True), 0.0)
    assert sync.on_tick(1.0) == []
    assert sent(sync.on_refused(block.hash, 1.0), wire.GetBody)


def test_announced_bodies_that_nobody_finishes_are_bounded_and_forgotten(builder: ChainBuilder) -> None:
    sync = make_sync(builder, SyncLimits(assemblies=3, body_timeout=5.0), peers=2)
    siblings = [
        builder.forge(
            [builder.statement(SUBMITTER, Cancel(note=str(number)), sequence=0)],
            parent=builder.genesis_block,
            time_ms=builder.genesis.time_ms + 11_000 + number,
        )
        for number in range(6)
    ]
    for block in siblings:
        sync.on_announce_block(1, announce(block), now=0.0, now_ms=NOW_MS)
    assert len(sync._assemblies) <= 3
    sync.on_disconnected(1, 1.0)
    sync.on_tick(2.0)
    assert not sync._assemblies
    assert not sync._asked


def test_no_more_is_asked_for_while_many_bytes_wait_to_be_connected(builder: ChainBuilder) -> None:
    blocks = [
        builder.mine([builder.statement(SUBMITTER, Cancel(note=f"{number}" * 50))]) for number in range(12)
    ]
    sync = make_sync(builder, SyncLimits(ready_bytes=100, in_flight_per_peer=2))
    show(sync, 1, blocks)
    actions = sync.on_body_chunk(1, chunk(blocks[0], 0, 1, leaves=True), 0.0)
    assert [type(action) for action in actions] == [BlockReady]


def test_a_body_with_the_same_statement_twice_is_put_together(builder: ChainBuilder) -> None:
    (statement,) = notes(builder, 1)
    block = builder.forge([statement, statement])
    assembly = BodyAssembly(block.sealed)
    assembly.set_leaves(block.body.leaves(), block.body.byte_count())
    assert assembly.missing_leaves() == (statement.leaf,)
    assert assembly.add_by_leaf([statement]) == 1
    assert assembly.block() == block


def test_a_statement_with_another_payload_is_not_taken_into_a_body(builder: ChainBuilder) -> None:
    (good,) = notes(builder, 1)
    bad = Statement(good.header_bytes, good.signature, good.payload[:-1] + b"x")
    block = builder.mine([good])
    sync = make_sync(builder, peers=2)
    show(sync, 1, [block])
    poisoned = replace(chunk(block, 0, 1, leaves=True), statements=(bad.encode(),))
    actions = sync.on_body_chunk(1, poisoned, 0.0)
    assert [action.reason for action in actions if isinstance(action, Punish)] == ["payload-mismatch"]


# Whom to blame.


def test_only_a_peer_that_showed_a_block_as_its_own_chain_vouches_for_it(builder: ChainBuilder) -> None:
    first, second = builder.mine_many(2)
    sync = make_sync(builder, peers=2)
    show(sync, 1, [first])
    sync.on_announce_block(2, announce(first), now=0.0, now_ms=NOW_MS)
    assert sync.vouches(1, first.hash)
    assert not sync.vouches(2, first.hash)
    show(sync, 2, [second])
    assert sync.vouches(2, first.hash)
    assert not sync.vouches(1, second.hash)
    assert not sync.vouches(9, first.hash)


def test_an_announced_child_of_a_refused_block_is_nobodys_fault(builder: ChainBuilder) -> None:
    bad = builder.forge(state_root=bytes(32))
    sync = make_sync(builder)
    node = sync._chain.accept_header(bad.sealed, now_ms=NOW_MS)
    sync._chain.tree.mark_invalid(node)
    assert sync.on_announce_block(1, announce(bad), now=0.0, now_ms=NOW_MS) == []
    assert [type(action) for action in show(sync, 1, [bad])] == [Punish]


def test_who_announces_a_stranger_s_block_may_not_know_and_who_shows_it_as_its_chain_does(
    builder: ChainBuilder,
) -> None:
    (block,) = strangers_line(builder, builder.genesis_block, 1)
    sync = make_sync(builder)
    assert sync.on_announce_block(1, announce(block), now=0.0, now_ms=NOW_MS) == []
    assert block.hash not in sync._chain.tree.nodes
    (action,) = show(sync, 1, [block])
    assert isinstance(action, Punish)
    assert action.reason == "unauthorized-producer"


def test_who_passed_on_a_block_that_is_refused_hears_of_the_next_one(builder: ChainBuilder) -> None:
    chain = ChainState.open(MemoryStore.open(), builder.genesis)
    sync = Synchronizer(chain, lambda _leaf: None)
    sync.on_connected(1, 0.0)
    refused, valid = builder.forge(notes(builder, 1)), builder.forge(time_ms=NOW_MS // 2 + 20_000)
    sync.on_announce_block(1, announce(refused), now=0.0, now_ms=NOW_MS)
    chain.accept_block(valid, now_ms=NOW_MS)
    assert not sync.announce(valid), "a peer with as much work was told of a block that it would not follow"
    chain.tree.mark_invalid(chain.tree.nodes[refused.hash])
    assert sent(sync.announce(valid), wire.AnnounceBlock) == [(1, announce(valid))]


def test_a_header_sealed_by_a_stranger_is_blamed_on_whoever_sends_it(builder: ChainBuilder) -> None:
    header, body = builder.draft()
    forged = builder.seal(header, body, key=STRANGER)
    assert header.producer == PRODUCER.public
    sync = make_sync(builder)
    assert [type(action) for action in show(sync, 1, [forged])] == [Punish]


# Serving.


def test_a_body_in_chunks_is_read_once_and_little_is_remembered(builder: ChainBuilder) -> None:
    blocks = {}
    for number in range(4):
        block = builder.mine([builder.statement(SUBMITTER, Cancel(note=f"{number}" * 100))])
        blocks[block.hash] = block
    reads: list[bytes] = []

    def read(block_hash: bytes) -> Block | None:
        reads.append(block_hash)
        return blocks.get(block_hash)

    one = next(iter(blocks.values())).body.byte_count()
    served = ServedBodies(read, max_bytes=2 * one)
    for block_hash in blocks:
        for _ in range(3):
            body = served.get(block_hash)
            assert body is not None
            assert body.chunk(0, with_leaves=True).statements
    assert reads == list(blocks)
    assert sum(block_hash in served for block_hash in blocks) == 2
    assert served.get(bytes(32)) is None


def test_headers_are_served_in_one_read_of_the_store(builder: ChainBuilder) -> None:
    reads: list[str] = []
    chain = ChainState.open(
        MemoryStore.open(on_operation=lambda item: reads.append(item.value)), builder.genesis
    )
    for block in builder.mine_many(50):
        chain.accept_block(block, now_ms=NOW_MS)
    sync = Synchronizer(chain, lambda _leaf: None)
    sync.on_connected(1, 0.0)
    reads.clear()
    request = wire.GetHeaders(locator=(builder.genesis_block.hash,), stop_hash=bytes(32))
    ((_, answer),) = sent(sync.on_get_headers(1, request), wire.Headers)
    assert isinstance(answer, wire.Headers)
    assert len(answer.sealed_headers) == 50
    assert reads.count("read") == 1


def test_a_node_that_caught_up_out_of_order_tells_those_behind_it(builder: ChainBuilder) -> None:
    blocks = [builder.mine(notes(builder, 1)) for _ in range(30)]
    net = Gossip(builder.genesis, 3, seed=3)
    net.connect(1, 2)
    net.run()
    net.give(0, *blocks)
    net.connect(0, 1)
    net.run()
    assert [node.tip for node in net.nodes] == [blocks[-1].hash] * 3
