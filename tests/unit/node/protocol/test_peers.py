"""Address book and bans."""

from __future__ import annotations

import pytest

from facechain.consensus.errors import DecodeError
from facechain.node.protocol.peers import AddressBook, AddressEntry, Ban, PeerPolicy, network_group
from facechain.node.wire.messages import Address


def heard(*hosts: str, port: int = 7440) -> list[Address]:
    return [Address(host=host, port=port, last_seen_ms=5) for host in hosts]


def test_the_operators_peers_come_first_and_are_never_forgotten() -> None:
    book = AddressBook(PeerPolicy(failures_until_forgotten=3))
    book.add_heard(heard("10.1.0.1"), source_host="10.9.0.1", now_ms=10)
    book.add_manual("10.2.0.1", 7440)
    entry = book.choose(exclude=(), groups=(), now_ms=10)
    assert entry is not None
    assert entry.manual
    for _ in range(20):
        book.on_tried("10.2.0.1", 7440, 10)
        book.on_failure("10.2.0.1", 7440)
    assert ("10.2.0.1", 7440) in {item.endpoint for item in book.entries()}


def test_failures_back_off_with_a_ceiling_and_are_forgotten() -> None:
    policy = PeerPolicy(first_backoff_ms=1_000, max_backoff_ms=8_000, failures_until_forgotten=6)
    book = AddressBook(policy)
    book.add_heard(heard("10.1.0.1"), source_host="10.9.0.1", now_ms=10)
    waits = []
    for _ in range(5):
        book.on_tried("10.1.0.1", 7440, 100)
        book.on_failure("10.1.0.1", 7440)
        waits.append(book.due_ms(book.entries()[0]) - 100)
    assert waits == [2_000, 4_000, 8_000, 8_000, 8_000]
    assert book.choose(exclude=(), groups=(), now_ms=200) is None
    assert book.choose(exclude=(), groups=(), now_ms=8_100) is not None
    book.on_failure("10.1.0.1", 7440)
    assert len(book) == 0


def test_new_network_groups_are_preferred() -> None:
    book = AddressBook()
    book.add_heard(heard("10.1.0.1", "10.1.0.2", "10.2.0.1"), source_host="10.9.0.1", now_ms=10)
    entry = book.choose(exclude=(), groups={network_group("10.1.0.9")}, now_ms=10)
    assert entry is not None
    assert entry.host == "10.2.0.1"


def test_one_source_group_cannot_fill_the_book() -> None:
    book = AddressBook(PeerPolicy(per_source_group=5))
    flood = [f"10.{number}.0.1" for number in range(50)]
    assert book.add_heard(heard(*flood), source_host="10.9.0.1", now_ms=10) == 5
    assert book.add_heard(heard(*flood), source_host="10.9.44.1", now_ms=10) == 0
    assert book.add_heard(heard(*flood), source_host="10.10.0.1", now_ms=10) == 5


def test_addresses_that_fail_are_not_handed_out() -> None:
    book = AddressBook()
    book.add_heard(heard("10.1.0.1", "10.1.0.2"), source_host="10.9.0.1", now_ms=10)
    book.on_failure("10.1.0.2", 7440)
    assert [item.host for item in book.answer()] == ["10.1.0.1"]


def test_a_time_from_the_future_is_cut_to_now() -> None:
    book = AddressBook()
    book.add_heard([Address(host="10.1.0.1", port=1, last_seen_ms=10**15)], source_host="10.9.0.1", now_ms=77)
    assert book.entries()[0].last_seen_ms == 77


def test_a_ban_ends() -> None:
    book = AddressBook(PeerPolicy(ban_ms=1_000))
    book.ban(b"k" * 32, "bad-seal", 5_000)
    assert book.banned(b"k" * 32, 5_999) == Ban(reason="bad-seal", until_ms=6_000)
    assert book.banned(b"k" * 32, 6_000) is None
    assert not book.bans


@pytest.mark.parametrize(
    "value",
    [
        AddressEntry(host="10.0.0.1", port=1, last_seen_ms=2, failures=3, manual=True),
        Ban(reason="x", until_ms=9),
    ],
)
def test_stored_rows_round_trip_and_nothing_else_is_read(value: AddressEntry | Ban) -> None:
    encoded = value.encode()
    assert type(value).decode(encoded) == value
    for cut in range(len(encoded)):
        with pytest.raises(DecodeError):
            type(value).decode(encoded[:cut])
