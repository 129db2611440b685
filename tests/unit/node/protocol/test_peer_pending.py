"""Places of sockets before their proof."""

from __future__ import annotations

from facechain.node.protocol.peer_pending import PendingSockets
from support.peer_books import public_host


def test_one_source_group_holds_a_part_of_the_places() -> None:
    pending = PendingSockets(total=32, per_source=4)
    tickets = [pending.admit(f"20.1.0.{number}")[0] for number in range(10)]
    assert [ticket is not None for ticket in tickets] == [True] * 4 + [False] * 6
    assert pending.admit("21.1.0.1") == (5, None)


def test_the_oldest_of_the_crowd_makes_room_for_another_source() -> None:
    pending = PendingSockets(total=4, per_source=4)
    tickets = [pending.admit("20.1.0.1")[0] for _ in range(4)]
    ticket, victim = pending.admit("21.1.0.1")
    assert (ticket, victim) == (5, tickets[0])
    assert len(pending) == 4
    assert pending.admit("22.1.0.1") == (6, tickets[1])
    assert pending.admit("21.1.0.1") == (None, None), "the crowd is not larger than its own then"


def test_a_place_is_free_again_and_may_be_given_back_twice() -> None:
    pending = PendingSockets(total=1, per_source=1)
    ticket, _ = pending.admit("20.1.0.1")
    assert pending.admit("20.1.0.1") == (None, None)
    assert ticket is not None
    pending.release(ticket)
    pending.release(ticket)
    assert pending.admit("20.1.0.1")[0] is not None


def test_places_are_never_more_than_the_limit_whoever_comes() -> None:
    pending = PendingSockets(total=8, per_source=4)
    for number in range(500):
        pending.admit(public_host(number % 90))
        assert len(pending) <= 8
