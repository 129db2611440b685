"""How much a peer may tell, who hears of it, and what clocks say."""

from __future__ import annotations

from facechain.node.protocol.peer_clock import CLOCK_PEERS_MAX, ClockOffsets
from facechain.node.protocol.peer_gossip import RELAY_FRESH_MS, RELAY_TURN_MS, AddressAllowance, relay_targets
from facechain.node.wire.limits import ADDRESS_RELAY_PEERS, ADDRESSES_PER_SECOND, MAX_ADDRESSES
from support.peer_books import NOW_MS, SECRET, heard, public_host


def test_unasked_addresses_trickle() -> None:
    allowance = AddressAllowance(0.0)
    addresses = heard(*(public_host(number) for number in range(50)))
    assert list(allowance.take(addresses, 0.0)) == addresses[:1]
    assert list(allowance.take(addresses, 1.0)) == []
    assert list(allowance.take(addresses, 1.0 + 5 / ADDRESSES_PER_SECOND)) == addresses[:5]
    assert list(allowance.take(addresses, 0.0)) == [], "a clock that goes back gives nothing"


def test_an_answer_that_was_asked_for_counts_whole() -> None:
    allowance = AddressAllowance(0.0)
    allowance.on_asked()
    addresses = heard(*(public_host(number) for number in range(MAX_ADDRESSES)))
    assert len(allowance.take(addresses, 0.0)) == MAX_ADDRESSES
    assert len(allowance.take(addresses, 0.0)) == 1
    assert len(allowance.take(addresses * 2, 1e9)) == MAX_ADDRESSES, "the trickle fills up to one answer"


def test_an_address_goes_to_the_same_few_peers_for_a_day() -> None:
    (address,) = heard("20.1.0.1", seen_ms=NOW_MS)
    peers = list(range(1, 40))
    first = relay_targets(address, peers, SECRET, NOW_MS)
    assert len(first) == ADDRESS_RELAY_PEERS
    assert relay_targets(address, reversed(peers), SECRET, NOW_MS) == first  # type: ignore[arg-type]
    later = NOW_MS + RELAY_TURN_MS
    (fresh,) = heard("20.1.0.1", seen_ms=later)
    assert relay_targets(fresh, peers, SECRET, later) != first
    assert relay_targets(address, peers, SECRET, NOW_MS + RELAY_FRESH_MS + 1) == ()
    assert relay_targets(address, [], SECRET, NOW_MS) == ()


def test_the_operator_is_told_when_most_clocks_differ() -> None:
    clock = ClockOffsets(warn_ms=1_000)
    for number in range(2):
        clock.add(bytes([number]) * 32, NOW_MS + 90_000, NOW_MS)
    assert clock.warning() is None, "two are too few"
    clock.add(b"\x02" * 32, NOW_MS + 90_000, NOW_MS)
    assert clock.median_ms() == 90_000
    assert "90 s behind the median of 3" in (clock.warning() or "")
    for number in range(3, 7):
        clock.add(bytes([number]) * 32, NOW_MS + 500, NOW_MS)
    assert clock.warning() is None, "the honest majority says the clock is right"
    for number in range(100):
        clock.add(bytes([number]) * 32, NOW_MS - 90_000, NOW_MS)
    assert "ahead of" in (clock.warning() or "")
    assert len(clock._offsets) == CLOCK_PEERS_MAX
