"""The address book, rule by rule."""

from __future__ import annotations

import pytest

from facechain.consensus.errors import DecodeError
from facechain.node.protocol.peer_book import FAILURES_OFFLINE_MAX, AddressBook
from facechain.node.protocol.peer_buckets import PlaceHash, PlaceTable
from facechain.node.protocol.peer_entry import AddressEntry, PeerPolicy
from support.peer_books import DAY_MS, HOUR_MS, NOW_MS, SECRET, heard, make_book, public_host, tell

PORT = 7440
SOURCE = "30.1.0.1"


def rivals(book: AddressBook) -> tuple[str, str]:
    """Return two hosts whose place in the tried table is the same."""
    seen: dict[tuple[int, int], str] = {}
    for number in range(2_000):
        host = public_host(number)
        place = PlaceHash(SECRET, book.policy).tried_place(AddressEntry(host=host, port=PORT))
        if place in seen:
            return seen[place], host
        seen[place] = host
    raise AssertionError("no two hosts share a place")


def test_the_operators_peers_are_tried_for_ever() -> None:
    book = make_book()
    book.add_manual("20.2.0.1", PORT)
    for _ in range(40):
        book.on_tried("20.2.0.1", PORT, NOW_MS)
        book.on_failure("20.2.0.1", PORT)
    book.drop_terrible(NOW_MS + 90 * DAY_MS)
    assert book.is_manual(("20.2.0.1", PORT))
    assert book.due_manual((), NOW_MS + book.policy.manual_backoff_ms) is not None
    assert book.due_manual((), NOW_MS + book.policy.manual_backoff_ms - 1) is None
    assert book.due_manual({("20.2.0.1", PORT)}, NOW_MS + DAY_MS) is None


def test_failures_back_off_with_a_ceiling() -> None:
    policy = PeerPolicy(first_backoff_ms=1_000, max_backoff_ms=8_000)
    waits = [
        AddressEntry(host="20.1.0.1", port=1, last_try_ms=100, failures=count).due_ms(policy) - 100
        for count in range(1, 6)
    ]
    assert waits == [2_000, 4_000, 8_000, 8_000, 8_000]


def test_an_address_that_never_worked_is_dropped_after_a_few_tries() -> None:
    book = make_book()
    tell(book, ["20.1.0.1"], SOURCE)
    for _ in range(book.policy.retries):
        assert len(book) == 1
        book.on_failure("20.1.0.1", PORT)
        book.drop_terrible(NOW_MS)
    assert len(book) == 0


def test_failures_of_a_node_that_reaches_nobody_lose_no_address() -> None:
    book = make_book()
    tell(book, ["20.1.0.1"], SOURCE)
    for _ in range(20):
        book.on_failure("20.1.0.1", PORT, is_online=False)
    assert book.failures("20.1.0.1", PORT) == FAILURES_OFFLINE_MAX
    assert book.drop_terrible(NOW_MS) == 0


def test_an_address_that_worked_is_kept_for_a_week_of_failures() -> None:
    book = make_book()
    tell(book, ["20.1.0.1"], SOURCE)
    book.on_success("20.1.0.1", PORT, NOW_MS)
    for _ in range(20):
        book.on_failure("20.1.0.1", PORT)
    assert book.drop_terrible(NOW_MS + 6 * DAY_MS) == 0
    assert book.drop_terrible(NOW_MS + 8 * DAY_MS) == 1


def test_an_address_that_nobody_saw_for_a_month_is_dropped_and_not_taken() -> None:
    book = make_book()
    tell(book, ["20.1.0.1"], SOURCE)
    assert book.drop_terrible(NOW_MS + 29 * DAY_MS) == 0
    assert book.drop_terrible(NOW_MS + 31 * DAY_MS) == 1
    stale = heard("20.1.0.1", seen_ms=NOW_MS - 31 * DAY_MS)
    assert book.add_heard(stale, source_host=SOURCE, now_ms=NOW_MS) == ()


@pytest.mark.parametrize("host", ["node.example", "127.0.0.1", "10.0.0.1", "224.0.0.1", ""])
def test_addresses_that_a_peer_may_not_name_are_passed_over(host: str) -> None:
    book = make_book()
    assert tell(book, [host], SOURCE) == 0
    assert book.add_heard(heard("20.1.0.1", port=0), source_host=SOURCE, now_ms=NOW_MS) == ()
    assert len(book) == 0


def test_what_others_say_of_an_address_counts_less_than_what_it_says_itself() -> None:
    book = make_book()
    tell(book, ["20.1.0.1"], "20.1.0.1")
    tell(book, ["20.1.0.2"], SOURCE)
    seen = {entry.host: entry.last_seen_ms for entry in book.entries()}
    assert seen == {"20.1.0.1": NOW_MS, "20.1.0.2": NOW_MS - book.policy.hearsay_ms}


def test_a_time_from_the_future_is_cut_to_now() -> None:
    book = make_book()
    (told,) = book.add_heard(heard("20.1.0.1", seen_ms=2**62), source_host="20.1.0.1", now_ms=NOW_MS)
    assert book.entries()[0].last_seen_ms == told.last_seen_ms == NOW_MS


def test_hearsay_does_not_change_what_is_known_of_an_address_that_works() -> None:
    book = make_book()
    tell(book, ["20.1.0.1"], SOURCE)
    book.on_success("20.1.0.1", PORT, NOW_MS)
    tell(book, ["20.1.0.1"], SOURCE, NOW_MS + 10 * DAY_MS)
    assert book.entries()[0].last_seen_ms == NOW_MS


def test_one_source_group_fills_its_share_of_the_new_table_and_no_more() -> None:
    book = make_book()
    share = book.policy.source_buckets * book.policy.slots
    flood = [
        f"{first}.{second}.{host}.9"
        for first in range(40, 60)
        for second in range(0, 250, 5)
        for host in (1, 2)
    ]
    assert len(flood) > 3 * share
    for number, host in enumerate(flood):
        tell(book, [host], f"30.1.{number % 250}.1")
    assert 0.5 * share < len(book) <= share
    others = [public_host(number) for number in range(200)]
    assert tell(book, others, "31.1.0.1") > 150


def test_addresses_of_one_group_fill_their_share_of_the_tried_table_and_no_more() -> None:
    book = make_book()
    share = book.policy.group_buckets * book.policy.slots
    for number in range(3 * share):
        host = f"20.1.{number // 250}.{1 + number % 250}"
        tell(book, [host], public_host(number))
        book.on_success(host, PORT, NOW_MS)
    assert 0.5 * share < book.counts[1] <= share


def test_loopback_nodes_that_share_an_address_all_find_a_place() -> None:
    book = make_book()
    for port in range(1, 41):
        book.add_heard(heard("127.0.0.1", port=port), source_host="127.0.0.1", now_ms=NOW_MS)
    assert len(book) >= 36


def test_a_newcomer_waits_until_the_tried_address_in_its_place_failed_a_test() -> None:
    book = make_book()
    first, second = rivals(book)
    tell(book, [first, second], SOURCE)
    book.on_success(first, PORT, NOW_MS)
    later = NOW_MS + 5 * HOUR_MS
    book.on_success(second, PORT, later)
    assert book.get((second, PORT)).tried is False  # type: ignore[union-attr]
    standing = book.to_test((), later)
    assert standing is not None
    assert standing.host == first
    book.on_tried(first, PORT, later + 1)
    book.on_failure(first, PORT)
    assert book.to_test((), later + book.policy.test_ms) is None, "its test is under way"
    assert book.to_test((), later + 2 + book.policy.test_ms) is None
    found = {entry.host: entry.tried for entry in book.entries()}
    assert found == {first: False, second: True}


def test_a_tried_address_that_passes_its_test_keeps_its_place() -> None:
    book = make_book()
    first, second = rivals(book)
    tell(book, [first, second], SOURCE)
    book.on_success(first, PORT, NOW_MS)
    later = NOW_MS + 5 * HOUR_MS
    book.on_success(second, PORT, later)
    assert book.to_test((), later) is not None
    book.on_tried(first, PORT, later + 1)
    book.on_success(first, PORT, later + 2)
    assert book.to_test((), later + DAY_MS // 24) is None
    found = {entry.host: entry.tried for entry in book.entries()}
    assert found == {first: True, second: False}


def test_a_tried_address_that_worked_lately_keeps_its_place_untested() -> None:
    book = make_book()
    first, second = rivals(book)
    tell(book, [first, second], SOURCE)
    book.on_success(first, PORT, NOW_MS)
    book.on_success(second, PORT, NOW_MS + HOUR_MS)
    assert book.to_test((), NOW_MS + 2 * HOUR_MS) is None
    assert book.to_test((), NOW_MS + DAY_MS) is None, "the newcomer waits no more"


def test_a_test_that_never_came_about_is_decided_for_the_newcomer() -> None:
    book = make_book()
    first, second = rivals(book)
    tell(book, [first, second], SOURCE)
    book.on_success(first, PORT, NOW_MS)
    later = NOW_MS + 5 * HOUR_MS
    book.on_success(second, PORT, later)
    assert book.to_test({(first, PORT)}, later + book.policy.test_window_ms + 1) is None
    assert book.get((second, PORT)).tried is True  # type: ignore[union-attr]


def test_tests_that_wait_are_bounded() -> None:
    book = make_book(tests=2, tried_buckets=1, group_buckets=1, slots=1)
    for number in range(6):
        tell(book, [public_host(number)], SOURCE)
        tell(book, [public_host(number)], public_host(number))
        book.on_success(public_host(number), PORT, NOW_MS)
    assert len(book._tests) <= 2
    assert book.counts[1] == 1


def test_every_bucket_is_chosen_alike_whatever_stands_in_it() -> None:
    book = make_book()
    for number in range(600):
        tell(book, [f"40.{number % 250}.{number // 250}.1"], "30.1.0.1")
    crowd = len(book)
    honest = {public_host(number) for number in range(30)}
    for number, host in enumerate(sorted(honest)):
        tell(book, [host], f"31.{number}.0.1")
    picked = [book.pick(lambda _: True, NOW_MS) for _ in range(400)]
    share = sum(entry is not None and entry.host in honest for entry in picked) / len(picked)
    assert crowd > 10 * len(honest)
    assert share > 0.4


def test_failures_make_a_choice_less_likely_and_not_due_means_not_chosen() -> None:
    book = make_book()
    tell(book, ["20.1.0.1", "20.2.0.1"], SOURCE)
    book.on_tried("20.1.0.1", PORT, NOW_MS)
    for _ in range(2):
        book.on_failure("20.1.0.1", PORT)
    now = {entry.host for _ in range(50) if (entry := book.pick(lambda _: True, NOW_MS))}
    assert now == {"20.2.0.1"}
    later = [entry.host for _ in range(300) if (entry := book.pick(lambda _: True, NOW_MS + HOUR_MS))]
    assert 0 < later.count("20.1.0.1") < later.count("20.2.0.1")


def test_an_answer_is_a_part_of_what_works_and_what_the_asker_may_be_told() -> None:
    book = make_book(answer_floor=5, answer_share=0.25, answer_size=40)
    tell(book, ["10.0.0.7", *(public_host(number) for number in range(100))], "10.0.0.1")
    book.on_failure(public_host(3), PORT)
    told = [item.host for _ in range(100) for item in book.answer("33.1.0.1", NOW_MS)]
    assert len(book.answer("33.1.0.1", NOW_MS)) == int(0.25 * len(book))
    assert "10.0.0.7" not in told
    assert public_host(3) not in told
    assert "10.0.0.7" in {item.host for _ in range(200) for item in book.answer("10.9.9.9", NOW_MS)}
    assert len(make_book(answer_floor=5).answer("33.1.0.1", NOW_MS)) == 0


def test_what_the_configuration_named_is_forgotten_with_it_and_what_was_added_is_not() -> None:
    book = make_book()
    book.add_manual("node.example", PORT, lasting=False)
    book.add_manual("20.1.0.1", PORT, lasting=False)
    book.on_success("20.1.0.1", PORT, NOW_MS)
    book.add_manual("20.2.0.1", PORT)
    book.add_manual("added.example", PORT)
    later = make_book()
    later.restore(book.to_store())
    assert {entry.host: entry.manual for entry in later.entries()} == {
        "20.1.0.1": False,
        "20.2.0.1": True,
        "added.example": True,
    }


def test_a_removed_manual_peer_keeps_what_it_earned() -> None:
    book = make_book()
    book.add_manual("20.1.0.1", PORT)
    book.add_manual("20.2.0.1", PORT)
    book.on_success("20.1.0.1", PORT, NOW_MS)
    assert book.remove_manual("20.1.0.1", PORT)
    assert book.remove_manual("20.2.0.1", PORT)
    assert not book.remove_manual("20.2.0.1", PORT)
    assert [(entry.host, entry.manual, entry.tried) for entry in book.entries()] == [
        ("20.1.0.1", False, True)
    ]


def test_a_place_holds_one_address() -> None:
    table = PlaceTable()
    table.put((1, 1), ("a", 1))
    with pytest.raises(ValueError, match="expected an empty one"):
        table.put((1, 1), ("b", 1))
    table.clear((1, 1))
    assert len(table) == 0
    assert table.at((1, 1)) is None


def test_stored_rows_round_trip_and_nothing_else_is_read() -> None:
    value = AddressEntry(host="20.0.0.1", port=1, last_seen_ms=2, failures=3, manual=True, tried=True)
    encoded = value.encode()
    assert AddressEntry.decode(encoded) == value
    for cut in range(len(encoded)):
        with pytest.raises(DecodeError):
            AddressEntry.decode(encoded[:cut])
