"""Statement relay between nodes on a simulated network."""

from __future__ import annotations

import pytest

from facechain.consensus.payloads import Cancel
from facechain.consensus.statement import Statement
from facechain.node.protocol.actions import Punish, Send
from facechain.node.protocol.relay import Relay, RelayLimits
from facechain.node.wire import messages as wire
from support.chain import SUBMITTER, ChainBuilder
from support.gossip import Gossip


def make_statements(count: int) -> list[Statement]:
    builder = ChainBuilder()
    return [builder.statement(SUBMITTER, Cancel(note=str(number))) for number in range(count)]


def nothing(_leaf: bytes) -> Statement | None:
    return None


@pytest.mark.parametrize("seed", range(5))
def test_a_statement_reaches_every_node_and_travels_each_link_at_most_once(seed: int) -> None:
    net = Gossip(ChainBuilder().genesis, 5, seed=seed)
    for left in range(5):
        for right in range(left + 1, 5):
            net.connect(left, right)
    net.run()
    (statement,) = make_statements(1)
    net.submit(0, statement)
    net.run()
    assert all(statement.leaf in node.pool for node in net.nodes)
    served = sum(len(node.sent_of(wire.Statements)) for node in net.nodes)
    assert served == 4


def test_a_new_peer_is_offered_the_mempool() -> None:
    net = Gossip(ChainBuilder().genesis, 2)
    statements = make_statements(3)
    net.submit(0, *statements)
    net.connect(0, 1)
    net.run()
    assert set(net.nodes[1].pool) == {statement.leaf for statement in statements}


def test_what_one_peer_does_not_deliver_is_asked_of_another() -> None:
    (statement,) = make_statements(1)
    pool: dict[bytes, Statement] = {}
    relay = Relay(pool.get, RelayLimits(request_timeout=10.0))
    for peer in (1, 2):
        relay.on_connected(peer, ())
    offer = wire.Inventory(leaves=(statement.leaf,))
    request = wire.GetStatements(leaves=(statement.leaf,))
    assert relay.on_inventory(1, offer, 0.0) == [Send(1, request)]
    assert relay.on_inventory(2, offer, 1.0) == []
    assert relay.on_tick(9.9) == []
    assert relay.on_tick(10.0) == [Send(2, request)]


def test_what_a_leaving_peer_owes_is_asked_of_another() -> None:
    (statement,) = make_statements(1)
    relay = Relay(nothing)
    for peer in (1, 2):
        relay.on_connected(peer, ())
    offer = wire.Inventory(leaves=(statement.leaf,))
    relay.on_inventory(1, offer, 0.0)
    relay.on_inventory(2, offer, 0.0)
    assert relay.on_disconnected(1, 1.0) == [Send(2, wire.GetStatements(leaves=(statement.leaf,)))]


def test_not_found_moves_the_request_on() -> None:
    (statement,) = make_statements(1)
    relay = Relay(nothing)
    for peer in (1, 2):
        relay.on_connected(peer, ())
    offer = wire.Inventory(leaves=(statement.leaf,))
    relay.on_inventory(1, offer, 0.0)
    relay.on_inventory(2, offer, 0.0)
    missing = wire.NotFound(missing=wire.Missing.STATEMENT, hashes=(statement.leaf,))
    assert relay.on_not_found(1, missing, 1.0) == [Send(2, wire.GetStatements(leaves=(statement.leaf,)))]


def test_an_answer_that_holds_only_a_part_is_followed_by_a_request_for_the_rest() -> None:
    statements = make_statements(4)
    relay = Relay(nothing)
    relay.on_connected(1, ())
    relay.on_inventory(1, wire.Inventory(leaves=tuple(item.leaf for item in statements)), 0.0)
    actions, taken = relay.on_statements(1, [item.encode() for item in statements[:3]])
    assert taken == statements[:3]
    assert actions[-1] == Send(1, wire.GetStatements(leaves=(statements[3].leaf,)))


def test_garbage_for_a_statement_is_punished() -> None:
    relay = Relay(nothing)
    relay.on_connected(1, ())
    actions, _ = relay.on_statements(1, [b"\x93\x00\x00\x00"])
    assert [type(action) for action in actions] == [Punish]


def test_a_peer_owes_at_most_its_share() -> None:
    statements = make_statements(10)
    relay = Relay(nothing, RelayLimits(requests_per_peer=4))
    relay.on_connected(1, ())
    (request,) = relay.on_inventory(1, wire.Inventory(leaves=tuple(item.leaf for item in statements)), 0.0)
    assert isinstance(request, Send)
    assert isinstance(request.message, wire.GetStatements)
    assert len(request.message.leaves) == 4


def test_holders_counts_the_peers_that_have_it() -> None:
    (statement,) = make_statements(1)
    relay = Relay(nothing)
    for peer in (1, 2, 3):
        relay.on_connected(peer, ())
    assert relay.holders(statement.leaf) == 0
    relay.on_inventory(1, wire.Inventory(leaves=(statement.leaf,)), 0.0)
    assert relay.holders(statement.leaf) == 1
