"""Which address is dialed next."""

from __future__ import annotations

import itertools
import random

from facechain.node.protocol.peer_book import AddressBook
from facechain.node.protocol.peer_entry import Endpoint
from facechain.node.protocol.peer_groups import network_group
from facechain.node.protocol.peer_outbound import DialKind, Outbound, OutboundPlan, OutboundPolicy
from facechain.node.wire.messages import Address
from support.peer_books import NOW_MS, make_book, public_host, tell

PORT = 7440


def make_plan(book: AddressBook, *, anchors: tuple[Endpoint, ...] = (), **policy: int) -> OutboundPlan:
    return OutboundPlan(book, random.Random(1), OutboundPolicy(**policy), anchors)


def fill(plan: OutboundPlan, now_ms: int = NOW_MS, rounds: int = 200) -> list[Outbound]:
    """Connect at once to whatever the plan names."""
    outbound: list[Outbound] = []
    for _ in range(rounds):
        dial = plan.next(outbound, (), now_ms)
        if dial is not None:
            outbound.append(Outbound(endpoint=dial.endpoint, kind=dial.kind))
    return outbound


def test_the_operators_peers_come_first_and_beyond_the_limit() -> None:
    book = make_book()
    tell(book, [public_host(number) for number in range(20)], "30.1.0.1")
    for port in range(1, 6):
        book.add_manual("node.example", port)
    kinds = [item.kind for item in fill(make_plan(book, connections=3))]
    assert kinds == [DialKind.MANUAL] * 5 + [DialKind.OUTBOUND] * 3 + [DialKind.BLOCK_RELAY] * 2


def test_outbound_connections_spread_over_network_groups() -> None:
    book = make_book()
    for number in range(40):
        tell(book, [f"66.6.{number}.1"], public_host(number))
    tell(book, [public_host(number) for number in range(5)], "30.1.0.1")
    outbound = fill(make_plan(book, connections=8))
    groups = [network_group(item.endpoint[0]) for item in outbound]
    assert len(set(groups)) == 6
    assert max(groups.count(group) for group in groups) <= 2


def test_a_network_of_one_public_group_gets_two_connections_and_a_private_one_gets_all() -> None:
    public, private = make_book(), make_book()
    for number in range(1, 20):
        tell(public, [f"66.6.{number}.1"], f"66.6.{number}.1")
        tell(private, [f"10.0.0.{number}"], f"10.0.0.{number}")
    assert len(fill(make_plan(public, connections=8))) == 2
    assert len(fill(make_plan(private, connections=8))) == 8 + 2


def test_nodes_that_share_a_loopback_address_all_get_connected() -> None:
    book = make_book()
    for port in range(1, 20):
        told = [Address(host="127.0.0.1", port=port, last_seen_ms=NOW_MS)]
        book.add_heard(told, source_host="127.0.0.1", now_ms=NOW_MS)
    assert len(fill(make_plan(book, connections=8))) == 8 + 2


def test_anchors_are_tried_first_and_once() -> None:
    book = make_book()
    tell(book, [public_host(number) for number in range(20)], "30.1.0.1")
    anchors = (("50.1.0.1", 1), ("50.2.0.1", 1), ("50.3.0.1", 1))
    plan = make_plan(book, anchors=anchors)
    outbound = fill(plan)
    assert [item.endpoint for item in outbound[:2]] == list(anchors[:2])
    assert [item.kind for item in outbound] == [DialKind.ANCHOR] * 2 + [DialKind.OUTBOUND] * 8
    again = plan.next((), (), NOW_MS)
    assert again is not None
    assert again.kind is DialKind.OUTBOUND


def test_two_more_connections_are_for_blocks_alone_once_the_others_are_filled() -> None:
    book = make_book()
    tell(book, [public_host(number) for number in range(30)], "30.1.0.1")
    plan = make_plan(book, connections=3)
    outbound = fill(plan)
    assert [item.kind for item in outbound] == [DialKind.OUTBOUND] * 3 + [DialKind.BLOCK_RELAY] * 2
    assert [item.kind.is_block_relay for item in outbound] == [False] * 3 + [True] * 2
    lost = plan.next(outbound[1:], (), NOW_MS)
    assert lost is not None
    assert lost.kind is DialKind.OUTBOUND
    lost = plan.next(outbound[:-1], (), NOW_MS)
    assert lost is not None
    assert lost.kind is DialKind.BLOCK_RELAY
    groups = {network_group(item.endpoint[0]) for item in outbound}
    assert len(groups) == 5


def test_attempts_at_a_time_are_bounded_but_not_those_of_the_operator() -> None:
    book = make_book()
    tell(book, [public_host(number) for number in range(20)], "30.1.0.1")
    trying = [
        Outbound(endpoint=(public_host(number), PORT), kind=DialKind.OUTBOUND, connected=False)
        for number in range(4)
    ]
    plan = make_plan(book)
    assert plan.next(trying, (), NOW_MS) is None
    assert plan.next(trying[1:], (), NOW_MS) is not None
    book.add_manual("node.example", PORT)
    dial = plan.next(trying, (), NOW_MS)
    assert dial is not None
    assert dial.kind is DialKind.MANUAL


def test_what_is_connected_already_is_not_dialed() -> None:
    book = make_book()
    tell(book, ["20.1.0.1"], "30.1.0.1")
    plan = make_plan(book)
    assert plan.next((), {("20.1.0.1", PORT)}, NOW_MS) is None
    assert plan.next((), (), NOW_MS) is not None


def test_a_feeler_tries_a_new_address_when_all_places_are_filled_and_now_and_then_only() -> None:
    book = make_book()
    tell(book, [public_host(number) for number in range(30)], "30.1.0.1")
    plan = make_plan(book, connections=2, block_relay=0, feeler_ms=100_000)
    outbound = fill(plan)
    assert [item.kind for item in outbound] == [DialKind.OUTBOUND] * 2
    times = []
    for second in range(1_000):
        dial = plan.next(outbound, (), NOW_MS + 1_000 * second)
        if dial is not None:
            assert dial.kind is DialKind.FEELER
            assert dial.endpoint not in {item.endpoint for item in outbound}
            times.append(second)
    assert 6 <= len(times) <= 20
    assert len({later - earlier for earlier, later in itertools.pairwise(times)}) > 3


def test_a_feeler_tests_the_tried_address_that_stands_in_a_newcomers_way() -> None:
    book = make_book(tried_buckets=1, group_buckets=1, slots=1)
    tell(book, [public_host(1)], public_host(1))
    book.on_success(public_host(1), PORT, NOW_MS)
    later = NOW_MS + 5 * 3_600_000
    book.on_success(public_host(2), PORT, later)
    tell(book, [public_host(2)], public_host(2), later)
    book.on_success(public_host(2), PORT, later)
    plan = make_plan(book, connections=0, block_relay=0, feeler_ms=10)
    dials = [plan.next((), (), later + 10 * number) for number in range(20)]
    first = next(dial for dial in dials if dial is not None)
    assert first.endpoint == (public_host(1), PORT)
    assert first.kind is DialKind.FEELER


def test_the_anchors_of_the_next_run_are_useful_connections_that_last() -> None:
    def link(host: str, kind: DialKind, since: float, last_block: float = 0.0) -> Outbound:
        return Outbound(endpoint=(host, 1), kind=kind, since=since, last_block=last_block)

    outbound = [
        link("a", DialKind.MANUAL, 1, 50),
        link("b", DialKind.FEELER, 1, 50),
        link("c", DialKind.BLOCK_RELAY, 1),
        link("d", DialKind.BLOCK_RELAY, 5, 60),
        link("e", DialKind.ANCHOR, 4, 50),
        Outbound(endpoint=("f", 1), kind=DialKind.BLOCK_RELAY, connected=False, last_block=70),
        link("g", DialKind.OUTBOUND, 1, 80),
    ]
    assert make_plan(make_book()).anchors(outbound) == (("e", 1), ("d", 1))
