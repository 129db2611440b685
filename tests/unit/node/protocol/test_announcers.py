"""Who is asked to announce blocks with leaves: few peers, those that were first, and one that this node chose."""

from __future__ import annotations

import pytest

from facechain.consensus.payloads import Cancel
from facechain.node.protocol.announcers import Announcers
from facechain.node.protocol.sync import SyncLimits
from facechain.node.wire import messages as wire
from support.chain import SUBMITTER, ChainBuilder, make_genesis
from support.gossip import Gossip

NO_WAIT = 0.0


def chosen(announcers: Announcers, peers: range) -> list[int]:
    return [peer for peer in peers if peer in announcers]


def test_free_places_go_to_outbound_peers_first() -> None:
    announcers = Announcers(2, NO_WAIT)
    assert announcers.fill([(1, False), (2, False), (3, True)]) == [(3, True), (1, True)]
    assert announcers.fill([(1, False), (2, False), (3, True)]) == []
    assert announcers.on_disconnected(3)
    assert not announcers.on_disconnected(2)
    assert announcers.fill([(1, False), (2, False)]) == [(2, True)]


def test_who_delivers_takes_the_place_of_who_delivered_longest_ago() -> None:
    announcers = Announcers(3, NO_WAIT)
    announcers.fill([(1, False), (2, False), (3, False)])
    for peer in (1, 2, 3):
        assert announcers.on_delivered(peer, 0.0, outbound=False) == []
    assert announcers.on_delivered(1, 0.0, outbound=False) == []
    assert announcers.on_delivered(4, 0.0, outbound=False) == [(2, False), (4, True)]
    assert announcers.on_delivered(5, 0.0, outbound=True) == [(3, False), (5, True)]
    assert chosen(announcers, range(6)) == [1, 4, 5]


def test_inbound_peers_do_not_take_the_only_outbound_place() -> None:
    announcers = Announcers(2, NO_WAIT)
    announcers.fill([(1, True), (2, False)])
    for peer in (2, 10, 11, 12):
        announcers.on_delivered(peer, 0.0, outbound=False)
    assert 1 in announcers
    assert announcers.on_delivered(3, 0.0, outbound=True) == [(1, False), (3, True)]
    assert Announcers(1, NO_WAIT).fill([(1, True)]) == [(1, True)]


def test_places_change_hands_only_so_often() -> None:
    announcers = Announcers(1, 10.0)
    announcers.fill([(1, False)])
    assert announcers.on_delivered(2, 1.0, outbound=False) == [(1, False), (2, True)]
    assert announcers.on_delivered(1, 10.9, outbound=False) == []
    assert announcers.on_delivered(1, 11.0, outbound=False) == [(2, False), (1, True)]
    assert Announcers(0, NO_WAIT).on_delivered(1, 0.0, outbound=True) == []


def spread(net: Gossip, builder: ChainBuilder, blocks: int) -> None:
    """Let blocks of ten statements that every node knows start from the nodes in turn."""
    for number in range(blocks):
        statements = [builder.statement(SUBMITTER, Cancel(note=f"{number} {item}")) for item in range(10)]
        net.submit(number % len(net.nodes), *statements)
        net.run()
        net.give(number % len(net.nodes), builder.mine(statements))
        net.run()
        net.tick(11.0)


@pytest.mark.parametrize("places", [3, 100])
def test_duplicates_and_bytes_per_block_are_counted_and_few_announcers_save_most(places: int) -> None:
    builder = ChainBuilder(make_genesis())
    net = Gossip(builder.genesis, 10, seed=7, limits=SyncLimits(announcers=places))
    for left in range(10):
        for right in range(left):
            net.connect(left, right)
    net.run()
    for node in net.nodes:
        node.sent.clear()
    spread(net, builder, 12)
    assert {node.tip for node in net.nodes} == {builder.tip.hash}
    lists = sum(
        bool(message.leaves)
        for node in net.nodes
        for message in node.sent_of(wire.AnnounceBlock)
        if isinstance(message, wire.AnnounceBlock)
    )
    told = sum(len(node.sent_of(wire.AnnounceBlock)) for node in net.nodes)
    counts = [node.sync.counts for node in net.nodes]
    assert sum(item.announcements for item in counts) == told
    assert sum(item.blocks for item in counts) == 9 * 12
    assert told / 2 < sum(item.announcements_known for item in counts) <= told - 9 * 12
    per_block = sum(item.block_bytes for item in counts) / (9 * 12)
    if places == 100:
        assert lists == told
        assert per_block > 4 * (224 + 320)
    else:
        assert lists <= 3 * 10 * 12
        assert lists < 0.7 * told
        asked = [sum(node.sync.announces_with_leaves(peer) for peer in node.peers) for node in net.nodes]
        assert asked == [3] * 10
    assert all(item.statements_reused + item.statements_fetched >= 100 for item in counts)
    assert not any(node.punished or node.dropped for node in net.nodes)


def test_a_statement_that_is_asked_for_twice_is_counted_as_sent_again() -> None:
    builder = ChainBuilder(make_genesis())
    net = Gossip(builder.genesis, 2)
    net.connect(0, 1)
    statement = builder.statement(SUBMITTER, Cancel(note="x"))
    net.submit(0, statement)
    net.run()
    sender, receiver = (node.relay for node in net.nodes)
    assert (sender.counts.statements_sent, sender.counts.statements_sent_again) == (1, 0)
    assert (receiver.counts.statements_received, receiver.counts.statements_repeated) == (1, 0)
    request = wire.GetStatements(leaves=(statement.leaf,))
    net.perform(net.nodes[0], sender.on_get_statements(1, request))
    net.run()
    assert (sender.counts.statements_sent, sender.counts.statements_sent_again) == (2, 1)
    assert (receiver.counts.statements_received, receiver.counts.statements_repeated) == (2, 1)
