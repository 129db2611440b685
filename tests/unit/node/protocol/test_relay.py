"""Statement relay between nodes on a simulated network."""

from __future__ import annotations

import pytest

from facechain.consensus.payloads import Cancel
from facechain.consensus.statement import Statement
from facechain.node.protocol.actions import Action, Drop, Punish, Send
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
    actions, taken = relay.on_statements(1, [item.encode() for item in statements[:3]], 1.0)
    assert taken == statements[:3]
    assert actions[-1] == Send(1, wire.GetStatements(leaves=(statements[3].leaf,)))


def test_garbage_for_a_statement_is_punished() -> None:
    relay = Relay(nothing)
    relay.on_connected(1, ())
    actions, _ = relay.on_statements(1, [b"\x93\x00\x00\x00"], 0.0)
    assert [type(action) for action in actions] == [Punish]


def test_a_peer_owes_at_most_its_share() -> None:
    statements = make_statements(10)
    relay = Relay(nothing, RelayLimits(groups_per_peer=1, request_size=4))
    relay.on_connected(1, ())
    (request,) = relay.on_inventory(1, wire.Inventory(leaves=tuple(item.leaf for item in statements)), 0.0)
    assert isinstance(request, Send)
    assert isinstance(request.message, wire.GetStatements)
    assert len(request.message.leaves) == 4


def inventory(statements: list[Statement]) -> wire.Inventory:
    return wire.Inventory(leaves=tuple(item.leaf for item in statements))


def asked(actions: list[Action]) -> list[tuple[int, tuple[bytes, ...]]]:
    return [
        (action.peer, action.message.leaves)
        for action in actions
        if isinstance(action, Send) and isinstance(action.message, wire.GetStatements)
    ]


def test_what_is_offered_beyond_a_peers_share_is_asked_for_later() -> None:
    statements = make_statements(10)
    leaves = [item.leaf for item in statements]
    pool: dict[bytes, Statement] = {}
    relay = Relay(pool.get, RelayLimits(groups_per_peer=2, request_size=3))
    relay.on_connected(1, ())
    requests = asked(relay.on_inventory(1, inventory(statements), 0.0))
    wanted = [leaf for _, group in requests for leaf in group]
    for round_number in range(4):
        group = requests.pop(0)[1] if requests else ()
        answer = [item for item in statements if item.leaf in group]
        pool.update({item.leaf: item for item in answer})
        actions, _ = relay.on_statements(1, [item.encode() for item in answer], float(round_number))
        relay.on_checked(answer)
        requests += asked(actions)
        wanted += [leaf for _, group in asked(actions) for leaf in group]
    assert wanted == leaves


def test_a_statement_that_is_being_checked_is_not_asked_for_again() -> None:
    (statement,) = make_statements(1)
    relay = Relay(nothing)
    for peer in (1, 2):
        relay.on_connected(peer, ())
    relay.on_inventory(1, inventory([statement]), 0.0)
    relay.on_statements(1, [statement.encode()], 0.0)
    assert relay.on_inventory(2, inventory([statement]), 0.0) == []
    relay.on_checked([statement])
    assert asked(relay.on_inventory(2, inventory([statement]), 0.0)) == [(2, (statement.leaf,))]


def test_a_statement_with_another_payload_is_punished_and_asked_of_another_peer() -> None:
    (good,) = make_statements(1)
    bad = Statement(good.header_bytes, good.signature, good.payload[:-1] + b"x")
    assert bad.leaf == good.leaf
    relay = Relay(nothing)
    for peer in (1, 2):
        relay.on_connected(peer, ())
        relay.on_inventory(peer, inventory([good]), 0.0)
    actions, taken = relay.on_statements(1, [bad.encode()], 0.0)
    assert [type(action) for action in actions] == [Punish]
    assert not taken
    assert asked(relay.on_disconnected(1, 0.0)) == [(2, (good.leaf,))]


def test_a_slow_peer_that_answers_in_parts_is_given_time_for_each() -> None:
    statements = make_statements(6)
    relay = Relay(nothing, RelayLimits(request_timeout=10.0))
    relay.on_connected(1, ())
    relay.on_inventory(1, inventory(statements), 0.0)
    for number in range(5):
        now = 8.0 * (number + 1)
        assert relay.on_tick(now) == []
        actions, _ = relay.on_statements(1, [statements[number].encode()], now)
        assert asked(actions) == [(1, tuple(item.leaf for item in statements[number + 1 :]))]


def test_the_only_source_is_asked_again_and_dropped_when_it_never_answers() -> None:
    (statement,) = make_statements(1)
    relay = Relay(nothing, RelayLimits(request_timeout=10.0, stalls_until_drop=3))
    relay.on_connected(1, ())
    relay.on_inventory(1, inventory([statement]), 0.0)
    assert asked(relay.on_tick(10.0)) == [(1, (statement.leaf,))]
    assert asked(relay.on_tick(20.0)) == [(1, (statement.leaf,))]
    assert any(isinstance(action, Drop) for action in relay.on_tick(30.0))


def test_an_answer_to_somebody_elses_question_closes_no_request() -> None:
    statements = make_statements(3)
    relay = Relay(nothing)
    relay.on_connected(1, ())
    relay.on_inventory(1, inventory(statements[:2]), 0.0)
    actions, taken = relay.on_statements(1, [statements[2].encode()], 1.0)
    assert actions == []
    assert taken == statements[2:]


def test_what_a_peer_had_no_room_for_is_offered_again() -> None:
    (statement,) = make_statements(1)
    relay = Relay({statement.leaf: statement}.get)
    assert relay.on_connected(1, [statement.leaf]) == [Send(1, inventory([statement]))]
    relay.on_accepted(statement)
    assert relay.flush() == []
    relay.offer_again([statement.leaf])
    assert relay.flush((2,)) == []
    assert relay.flush((1,)) == [Send(1, inventory([statement]))]


def test_a_thousand_statements_of_one_author_reach_every_mempool_in_spite_of_reordering() -> None:
    builder = ChainBuilder()
    statements = [builder.statement(SUBMITTER, Cancel(note=str(number))) for number in range(1_000)]
    net = Gossip(builder.genesis, 6, seed=1, real_pools=True)
    for left, right in ((0, 1), (0, 2), (1, 3), (2, 3), (3, 4), (2, 5), (5, 4)):
        net.connect(left, right)  # some hear of the author by two ways, and never from the first node itself
    net.run()
    for start in range(0, 1_000, 10):
        net.submit(0, *statements[start : start + 10])
        net.run(steps=7, all_delivered=False)
    net.run()
    for node in net.nodes:
        assert node.intake is not None
        assert len(node.intake.orphans) == 0
        assert set(node.leaves()) == {item.leaf for item in statements}
    assert not any(node.punished or node.dropped for node in net.nodes)


def test_holders_counts_the_peers_that_have_it() -> None:
    (statement,) = make_statements(1)
    relay = Relay(nothing)
    for peer in (1, 2, 3):
        relay.on_connected(peer, ())
    assert relay.holders(statement.leaf) == 0
    relay.on_inventory(1, wire.Inventory(leaves=(statement.leaf,)), 0.0)
    assert relay.holders(statement.leaf) == 1


def test_no_more_is_asked_for_than_there_is_room() -> None:
    statements = make_statements(5)
    leaves = [statement.leaf for statement in statements]
    pool: dict[bytes, Statement] = {}
    relay = Relay(pool.get, room=lambda: 3 - len(pool))
    for peer in (1, 2):
        relay.on_connected(peer, ())
    offer = wire.Inventory(leaves=tuple(leaves))
    assert relay.on_inventory(1, offer, 0.0) == [Send(1, wire.GetStatements(leaves=tuple(leaves[:3])))]
    assert relay.on_inventory(2, offer, 0.0) == []
    came = [statement.encode() for statement in statements[:3]]
    relay.on_statements(1, came, 1.0)
    assert relay.on_tick(1.0) == []
    pool.update({statement.leaf: statement for statement in statements[:3]})
    relay.on_checked(statements[:3])
    assert relay.on_tick(2.0) == []
    del pool[leaves[0]]
    (request,) = relay.on_tick(3.0)
    assert request in [Send(peer, wire.GetStatements(leaves=(leaves[3],))) for peer in (1, 2)]


def test_what_a_peer_announced_meanwhile_is_no_news_for_it() -> None:
    first, second = make_statements(2)
    pool = {item.leaf: item for item in (first, second)}
    relay = Relay(pool.get)
    relay.on_connected(1, ())
    assert not relay.has_news(1)
    assert not relay.has_news(2)
    relay.on_accepted(first)
    relay.on_accepted(second)
    relay.on_inventory(1, wire.Inventory(leaves=(first.leaf,)), 0.0)
    assert relay.has_news(1)
    assert relay.flush() == [Send(1, wire.Inventory(leaves=(second.leaf,)))]
    relay.on_accepted(first)
    assert not relay.has_news(1)


def test_offers_of_what_others_were_asked_for_are_looked_at_once() -> None:
    statements = make_statements(50)
    looks: list[bytes] = []

    def source(leaf: bytes) -> None:
        looks.append(leaf)

    relay = Relay(source)
    for peer in (1, 2, 3):
        relay.on_connected(peer, ())
    leaves = tuple(statement.leaf for statement in statements)
    for peer in (1, 2, 3):
        relay.on_inventory(peer, wire.Inventory(leaves=leaves), 0.0)
    looks.clear()
    for number in range(20):
        relay.on_inventory(2, wire.Inventory(leaves=(bytes([number]) * 32,)), 0.0)
    assert len(looks) < 4 * 20
    # The second peer owes as much as it may.
    assert relay.on_disconnected(1, 1.0) == [Send(3, wire.GetStatements(leaves=leaves))]
