"""The address book under arbitrary events, and under floods.

Whatever happens: the tables stay within their sizes, every address stands in its own place, what works is not lost to
what is merely heard of, the stored form gives the same book again, and the same seed the same choices.
"""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from facechain.node.protocol.peer_book import AddressBook
from facechain.node.protocol.peer_buckets import PlaceHash
from facechain.node.protocol.peer_entry import AddressEntry, PeerPolicy
from facechain.node.wire.messages import Address
from support.peer_books import DAY_MS, NOW_MS, SECRET, make_book, public_host, tell

PORT = 7440
SMALL = {
    "new_buckets": 8,
    "source_buckets": 2,
    "tried_buckets": 4,
    "group_buckets": 2,
    "slots": 3,
    "tests": 2,
}

hosts = st.integers(0, 60).map(public_host)
times = st.integers(0, 40 * DAY_MS)


def check_whole(book: AddressBook) -> None:
    """Every table holds what the entries say, each in its place, within the limits."""
    policy, places = book.policy, PlaceHash(SECRET, book.policy)
    new, tried = book.counts
    assert new <= policy.new_buckets * policy.slots
    assert tried <= policy.tried_buckets * policy.slots
    assert len(book._places) == new + tried
    assert len(book._tests) <= policy.tests
    for endpoint, place in book._places.items():
        entry = book._entries[endpoint]
        table = book._tried if entry.tried else book._new
        assert table.at(place) == endpoint
        assert place == (places.tried_place(entry) if entry.tried else places.new_place(entry))
    for entry in book.entries():
        assert entry.manual or entry.endpoint in book._places


class BookMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.book = make_book(**SMALL)
        self.now = NOW_MS

    @rule(hosts=st.lists(hosts, max_size=10), source=hosts, ago=times)
    def hear(self, hosts: list[str], source: str, ago: int) -> None:
        told = [Address(host=host, port=PORT, last_seen_ms=max(0, self.now - ago)) for host in hosts]
        tried = {entry.endpoint for entry in self.book.entries() if entry.tried}
        self.book.add_heard(told, source_host=source, now_ms=self.now)
        assert tried <= {entry.endpoint for entry in self.book.entries() if entry.tried}

    @rule(host=hosts, outcome=st.sampled_from(["success", "failure", "offline", "nothing"]))
    def try_one(self, host: str, outcome: str) -> None:
        self.book.on_tried(host, PORT, self.now)
        if outcome == "success":
            self.book.on_success(host, PORT, self.now)
        elif outcome != "nothing":
            self.book.on_failure(host, PORT, is_online=outcome == "failure")

    @rule(host=hosts, lasting=st.booleans())
    def name(self, host: str, lasting: bool) -> None:
        self.book.add_manual(host, PORT, lasting=lasting)
        assert self.book.is_manual((host, PORT))

    @rule(host=hosts)
    def unname(self, host: str) -> None:
        self.book.remove_manual(host, PORT)
        assert not self.book.is_manual((host, PORT))

    @rule(host=hosts)
    def forget(self, host: str) -> None:
        manual = self.book.is_manual((host, PORT))
        self.book.forget(host, PORT)
        assert (self.book.get((host, PORT)) is not None) == manual

    @rule(milliseconds=times)
    def wait(self, milliseconds: int) -> None:
        self.now += milliseconds

    @rule()
    def tidy(self) -> None:
        manual = {entry.endpoint for entry in self.book.manual()}
        self.book.drop_terrible(self.now)
        self.book.to_test((), self.now)
        assert manual == {entry.endpoint for entry in self.book.manual()}

    @rule()
    def choose(self) -> None:
        entry = self.book.pick(lambda _: True, self.now)
        assert entry is None or entry.due_ms(self.book.policy) <= self.now

    @precondition(lambda self: len(self.book) > 0)
    @rule()
    def restart(self) -> None:
        stored = self.book.to_store()
        later = make_book(**SMALL)
        later.restore(AddressEntry.decode(entry.encode()) for entry in stored)
        assert set(later.to_store()) == set(stored)
        assert later.counts == self.book.counts
        self.book = later

    @invariant()
    def is_whole(self) -> None:
        check_whole(self.book)


TestBookMachine = BookMachine.TestCase
TestBookMachine.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32), attackers=st.integers(1, 4))
def test_a_flood_of_new_addresses_loses_no_address_that_works(seed: int, attackers: int) -> None:
    chance = random.Random(seed)
    book = make_book(seed)
    honest = [public_host(number) for number in range(60)]
    tell(book, honest, "30.1.0.1")
    for host in honest:
        book.on_success(host, PORT, NOW_MS)
    before = {entry.endpoint for entry in book.entries() if entry.tried}
    for _ in range(2_000):
        lie = f"{chance.randrange(60, 120)}.{chance.randrange(250)}.{chance.randrange(250)}.1"
        tell(book, [lie], f"66.{chance.randrange(attackers)}.{chance.randrange(250)}.1")
    assert before <= {entry.endpoint for entry in book.entries() if entry.tried}
    share = PeerPolicy().source_buckets * PeerPolicy().slots
    assert book.counts[0] <= attackers * share + len(honest)
    picked = [book.pick(lambda _: True, NOW_MS) for _ in range(300)]
    works = sum(entry is not None and entry.endpoint in before for entry in picked)
    assert works > 100, "what works is still about every second choice"
    check_whole(book)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_same_seed_makes_the_same_choices(seed: int) -> None:
    def run() -> list[object]:
        book = make_book(seed)
        tell(book, [public_host(number) for number in range(80)], "30.1.0.1")
        for number in range(0, 80, 3):
            book.on_success(public_host(number), PORT, NOW_MS)
        chosen = [book.pick(lambda _: True, NOW_MS) for _ in range(20)]
        return [*chosen, book.answer("40.1.0.1", NOW_MS)]

    assert run() == run()
