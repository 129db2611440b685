"""Who makes room, protection by protection, and an attack on all places at once."""

from __future__ import annotations

import dataclasses
import random

import pytest

from facechain.node.protocol.peer_eviction import InboundPeer, choose_to_evict
from support.peer_books import SECRET

PLACES = 64


def crowd(
    count: int, *, first_id: int = 1, group: str = "66.6.0.0/16", since: float = 100.0
) -> list[InboundPeer]:
    """Return idle peers of one network group, one a second."""
    return [InboundPeer(id=first_id + number, group=group, since=since + number) for number in range(count)]


def survivors(peers: list[InboundPeer]) -> set[int]:
    """Evict until nobody can be; return who is left."""
    left = list(peers)
    while (victim := choose_to_evict(left, SECRET)) is not None:
        left = [peer for peer in left if peer.id != victim]
    return {peer.id for peer in left}


def test_the_youngest_of_the_largest_group_goes() -> None:
    peers = [*crowd(40), *crowd(5, first_id=100, group="77.7.0.0/16", since=500)]
    assert choose_to_evict(peers, SECRET) == 40


def test_a_node_with_a_few_places_makes_room_too() -> None:
    assert choose_to_evict(crowd(8), SECRET) is not None
    assert choose_to_evict(crowd(1), SECRET) is None
    assert choose_to_evict([], SECRET) is None


@pytest.mark.parametrize(
    "merit", [{"ping_seconds": 0.001}, {"last_statement": 9e9}, {"last_block": 9e9}, {"is_protected": True}]
)
def test_each_merit_protects_the_youngest_of_the_crowd(merit: dict[str, object]) -> None:
    peers = [
        dataclasses.replace(peer, ping_seconds=0.2, last_statement=1, last_block=1) for peer in crowd(PLACES)
    ]
    chosen = choose_to_evict(peers, SECRET)
    assert chosen == PLACES
    peers[-1] = dataclasses.replace(peers[-1], **merit)  # type: ignore[arg-type]
    assert choose_to_evict(peers, SECRET) == PLACES - 1


def test_the_oldest_half_of_the_rest_stays() -> None:
    """Without it the larger group would pay; most of its peers have been here for long."""
    peers = [*crowd(20), *crowd(12, first_id=100, group="77.7.0.0/16", since=500)]
    assert choose_to_evict(peers, SECRET) == 111


def test_an_address_that_misbehaved_goes_before_the_crowd() -> None:
    peers = [*crowd(20), *crowd(6, first_id=100, group="77.7.0.0/16", since=500)]
    peers[-1] = dataclasses.replace(peers[-1], is_discouraged=True)
    assert choose_to_evict(peers, SECRET) == 105


def test_which_groups_are_safe_depends_on_the_nodes_secret() -> None:
    peers = [InboundPeer(id=number, group=f"{number}.1.0.0/16", since=1.0) for number in range(1, 33)]
    victims = {choose_to_evict(peers, bytes([number]) * 32) for number in range(40)}
    assert len(victims) > 1


def test_no_merit_of_a_kind_protects_nobody() -> None:
    """Peers that never brought anything are not safe because all of them are equally useless."""
    with_statement = dataclasses.replace(crowd(1, first_id=900, since=900)[0], last_statement=1.0)
    assert 900 in survivors([*crowd(40), with_statement])
    assert len(survivors(crowd(40))) < 40 * (1 / 16 + 1 / 2) + 3


@pytest.mark.parametrize("seed", range(5))
def test_an_attacker_who_takes_all_places_disconnects_no_useful_peer(seed: int) -> None:
    """2,000 newcomers of 8 networks, one after the other, each with a fresh key, against 14 honest peers.

    Honest peers bring blocks or statements, or are near; they came late, of one network each.
    """
    chance = random.Random(seed)
    honest = [
        InboundPeer(
            id=1_000_000 + number,
            group=f"{30 + number}.1.0.0/16",
            since=5_000.0 + number,
            ping_seconds=0.002 if number < 6 else 0.150,
            last_statement=9_000.0 if 6 <= number < 10 else 0.0,
            last_block=9_000.0 if number >= 10 else 0.0,
        )
        for number in range(14)
    ]
    peers = [*honest, *crowd(PLACES - len(honest), since=1_000)]
    for number in range(2_000):
        victim = choose_to_evict(peers, SECRET)
        assert victim is not None, "a newcomer always finds a place"
        assert victim < 1_000_000, f"honest peer {victim} was disconnected by newcomer {number}"
        peers = [peer for peer in peers if peer.id != victim]
        peers.append(
            InboundPeer(
                id=1_000 + number,
                group=f"66.{chance.randrange(8)}.0.0/16",
                since=10_000.0 + number,
                ping_seconds=0.005 + chance.random(),
            )
        )
        assert len(peers) == PLACES
