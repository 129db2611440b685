"""Slow, dripping and stalling peers beside prompt ones; catching up while blocks are mined, and after a crash."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from facechain.consensus.block import Block
from facechain.consensus.chain import HeaderNode
from facechain.consensus.payloads import Cancel
from facechain.node.chainstate import ChainState
from facechain.node.protocol.actions import Action, BlockReady, Drop, Punish, Send
from facechain.node.protocol.paths import ChainPath
from facechain.node.protocol.sync import Synchronizer, SyncLimits
from facechain.node.store.memory import MemoryStore
from facechain.node.wire import messages as wire
from support.chain import SUBMITTER, ChainBuilder, make_genesis
from support.gossip import FAR_FUTURE_MS, Gossip


@pytest.fixture
def builder() -> ChainBuilder:
    return ChainBuilder(make_genesis())


def busy(builder: ChainBuilder, count: int, statements: int = 1) -> list[Block]:
    return [
        builder.mine(
            [builder.statement(SUBMITTER, Cancel(note=f"{number} {item}")) for item in range(statements)]
        )
        for number in range(count)
    ]


class Download:
    """A synchroniser over a real chain state whose peers answer when the test says so."""

    def __init__(self, builder: ChainBuilder, blocks: list[Block], limits: SyncLimits, peers: int) -> None:
        self.blocks = {block.hash: block for block in blocks}
        self.chain = ChainState.open(MemoryStore.open(), builder.genesis)
        self.sync = Synchronizer(self.chain, lambda _leaf: None, limits)
        self.now = 0.0
        self.owed: list[tuple[int, wire.GetBody]] = []
        self.rest: list[tuple[int, wire.GetStatements]] = []
        self.by_leaf = {item.leaf: item for block in blocks for item in block.body.statements}
        self.dropped: list[int] = []
        for peer in range(1, peers + 1):
            self.sync.on_connected(peer, 0.0)
        for peer in range(1, peers + 1):
            headers = [block.sealed for block in blocks]
            self.take(self.sync.on_headers(peer, headers, now=0.0, now_ms=FAR_FUTURE_MS))

    def take(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send(message=wire.GetBody() as request) if action.peer not in self.dropped:
                    self.owed.append((action.peer, request))
                case Send(message=wire.GetStatements() as rest) if action.peer not in self.dropped:
                    self.rest.append((action.peer, rest))
                case Punish():
                    raise AssertionError(f"an honest peer is punished: {action}")
                case Drop():
                    self.dropped.append(action.peer)
                    self.owed = [item for item in self.owed if item[0] != action.peer]
                    self.take(self.sync.on_disconnected(action.peer, self.now))
                case BlockReady():
                    self.chain.accept_block(action.block, now_ms=FAR_FUTURE_MS)
                    self.take(self.sync.on_tip_changed(self.now))

    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.take(self.sync.on_tick(self.now))

    def answer(self, peer: int, count: int | None = None) -> bool:
        """Let a peer answer its oldest request with `count` statements (default: all)."""
        rest = next((item for item in self.rest if item[0] == peer), None)
        if rest is not None:
            self.rest.remove(rest)
            found_by_leaf = [self.by_leaf[leaf] for leaf in rest[1].leaves]
            self.take(self.sync.on_statements(peer, found_by_leaf, self.now))
            return True
        found = next((item for item in self.owed if item[0] == peer), None)
        if found is None:
            return False
        self.owed.remove(found)
        request = found[1]
        block = self.blocks[request.block_hash]
        statements = block.body.statements[request.start :][:count]
        chunk = wire.BodyChunk(
            block_hash=block.hash,
            leaves=block.body.leaves() if request.with_leaves else (),
            byte_count=block.body.byte_count(),
            start=request.start,
            statements=tuple(item.encode() for item in statements),
        )
        self.take(self.sync.on_body_chunk(peer, chunk, self.now))
        return True


LIMITS = SyncLimits(body_timeout=20.0, body_timeout_max=120.0, in_flight_per_peer=2)


def test_a_slow_peer_that_answers_each_time_is_kept(builder: ChainBuilder) -> None:
    blocks = busy(builder, 2, statements=5)
    download = Download(builder, blocks, LIMITS, peers=1)
    while download.chain.tree.tip.height < 2:
        download.tick(19.0)
        download.answer(1, count=1)
        assert download.now < 2_000
    assert download.dropped == []


def test_a_peer_that_drips_a_chunk_before_every_deadline_is_dropped_in_bounded_time(
    builder: ChainBuilder,
) -> None:
    blocks = busy(builder, 1, statements=200)
    download = Download(builder, blocks, LIMITS, peers=1)
    while not download.dropped:
        download.tick(19.0)
        download.answer(1, count=1)
        assert download.now < LIMITS.stalls_until_drop * (LIMITS.body_timeout_max + 2 * 20.0)
    assert download.dropped == [1]


def test_who_owes_the_lowest_body_while_the_window_is_full_holds_up_nobody(builder: ChainBuilder) -> None:
    blocks = busy(builder, 40)
    limits = SyncLimits(window_blocks=8, in_flight_per_peer=2, window_timeout=2.0)
    download = Download(builder, blocks, limits, peers=2)
    lowest = blocks[0].hash
    (owner,) = [peer for peer, request in download.owed if request.block_hash == lowest]
    other = 3 - owner
    while download.answer(other):
        pass
    assert download.chain.tree.tip.height == 0
    download.tick(1.9)
    assert not [request for peer, request in download.owed if peer == other]
    seconds = 1.9
    while download.chain.tree.tip.height < 40:
        download.tick(0.25)
        seconds += 0.25
        while download.answer(other):
            pass
        assert seconds < 60.0, "the deadline of a body is 20 s, three times for each body that it owes"
    assert download.dropped in ([], [owner])


def test_a_full_window_of_one_slow_peer_alone_is_nobodys_fault(builder: ChainBuilder) -> None:
    blocks = busy(builder, 20)
    download = Download(builder, blocks, SyncLimits(window_blocks=2, in_flight_per_peer=2), peers=1)
    while download.chain.tree.tip.height < 20:
        download.tick(15.0)
        assert download.answer(1)
    assert download.dropped == []


def test_what_a_stalled_peer_owed_is_asked_of_prompt_ones(builder: ChainBuilder) -> None:
    blocks = busy(builder, 30)
    download = Download(builder, blocks, LIMITS, peers=3)
    stalled = {request.block_hash for peer, request in download.owed if peer == 2}
    assert len(stalled) == LIMITS.in_flight_per_peer
    while download.answer(1) | download.answer(3):
        pass
    assert download.chain.tree.tip.height < 30
    download.owed.clear()
    download.tick(20.0)
    assert {request.block_hash for _, request in download.owed} == stalled
    assert {peer for peer, _ in download.owed} <= {1, 3}
    while download.answer(1) | download.answer(3):
        pass
    assert download.chain.tree.tip.height == 30
    assert download.dropped == []


@pytest.mark.parametrize("seed", range(4))
def test_a_node_catches_up_while_blocks_are_mined_there_and_here(builder: ChainBuilder, seed: int) -> None:
    blocks = busy(builder, 60)
    net = Gossip(builder.genesis, 3, seed=seed)
    for number in (0, 1):
        net.give(number, *blocks)
    net.connect(0, 1)
    net.run()
    late = net.nodes[2]
    own = ChainBuilder(builder.genesis)
    net.connect(2, 0)
    net.connect(2, 1)
    for _ in range(12):
        net.run(15, all_delivered=False)
        net.give(0, builder.mine())
        if late.height < 3:
            net.give(2, own.mine(time_ms=own.tip.header.time_ms + 11_111))  # its own branch, soon given up
    net.run()
    assert {node.tip for node in net.nodes} == {builder.tip.hash}
    assert late.height == 72
    assert not any(node.punished or node.dropped for node in net.nodes)


def test_bodies_that_were_flushed_before_a_crash_are_not_fetched_again(builder: ChainBuilder) -> None:
    blocks = busy(builder, 10)
    store = MemoryStore.open()
    chain = ChainState.open(store, builder.genesis)
    for block in blocks:
        chain.accept_header(block.sealed, now_ms=FAR_FUTURE_MS)
    for block in blocks[4:8]:
        chain.accept_body(block)
    store.transact(chain.flush_pending)
    again = ChainState.open(store.reopen(), builder.genesis)
    assert again.tree.tip.height == 0
    net = Gossip(builder.genesis, 2)
    net.give(0, *blocks)
    late = net.nodes[1]
    late.chain = again
    late.sync = Synchronizer(again, late.pool.get)
    net.connect(1, 0)
    net.run()
    assert late.tip == blocks[-1].hash
    asked = {item.block_hash for item in late.sent_of(wire.GetBody) if isinstance(item, wire.GetBody)}
    assert asked == {block.hash for block in [*blocks[:4], *blocks[8:]]}


def test_bodies_that_are_under_way_are_passed_over_once_for_all_peers(
    builder: ChainBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = busy(builder, 24)
    download = Download(builder, blocks, SyncLimits(in_flight_per_peer=6), peers=8)
    assert len(download.owed) == len(blocks), "all are asked for, and every peer could be asked for more"
    looks: list[bytes] = []
    window = ChainPath.window

    def watched(path: ChainPath, limit: int) -> Iterator[HeaderNode]:
        for node in window(path, limit):
            looks.append(node.hash)
            yield node

    monkeypatch.setattr(ChainPath, "window", watched)
    assert download.sync._bodies.schedule(0.0) == []
    assert len(looks) == len(blocks)
