"""The stored address book and ban list."""

from __future__ import annotations

from pathlib import Path

from facechain.node.peer_store import book_rows, load_book, save_book, save_rows
from facechain.node.protocol.peers import AddressBook, PeerPolicy
from facechain.node.store.lmdb_store import LmdbStore
from facechain.node.store.memory import MemoryStore, Operation
from facechain.node.store.schema import Table
from facechain.node.wire.messages import Address


def some_book() -> AddressBook:
    book = AddressBook()
    book.add_manual("node.example", 7440)
    book.add_heard([Address(host="10.1.0.1", port=1, last_seen_ms=5)], source_host="10.2.0.1", now_ms=9)
    book.ban(b"\x01" * 32, "bad-seal: for the test", 1_000)
    return book


def test_addresses_and_bans_outlive_the_process(tmp_path: Path) -> None:
    book = some_book()
    with LmdbStore.open(tmp_path / "store") as store:
        save_book(store, book)
    with LmdbStore.open(tmp_path / "store") as store:
        loaded = load_book(store)
    assert set(loaded.entries()) == set(book.entries())
    assert loaded.bans == book.bans


def test_what_is_no_longer_known_leaves_the_store() -> None:
    store, book = MemoryStore.open(), some_book()
    save_book(store, book)
    book.forget("10.1.0.1", 1)
    book.bans.clear()
    save_book(store, book)
    loaded = load_book(store)
    assert [entry.host for entry in loaded.entries()] == ["node.example"]
    assert not loaded.bans


def test_rows_that_cannot_be_read_are_passed_over() -> None:
    store = MemoryStore.open()
    save_book(store, some_book())
    store.transact(lambda writer: writer.put(Table.PEERS, b"damaged", b"\xc1"))
    store.transact(lambda writer: writer.put(Table.BANS, b"damaged", b"\xc1"))
    loaded = load_book(store)
    assert len(loaded) == 2
    assert list(loaded.bans) == [b"\x01" * 32]


def test_rows_are_a_picture_that_later_changes_do_not_touch() -> None:
    book = some_book()
    rows = book_rows(book)
    book.ban(b"\x02" * 32, "later", 1_000)
    store = MemoryStore.open()
    save_rows(store, rows)
    assert list(load_book(store).bans) == [b"\x01" * 32]


def test_nothing_is_written_when_nothing_changed() -> None:
    seen: list[Operation] = []
    store = MemoryStore.open(on_operation=seen.append)
    save_book(store, some_book())
    seen.clear()
    save_book(store, some_book())
    assert Operation.COMMIT not in seen


def test_bans_are_bounded_and_those_that_end_first_go() -> None:
    book = AddressBook(PeerPolicy(bans=3))
    for number in range(6):
        book.ban(bytes([number]) * 32, "flood", 1_000 + number)
    assert list(book.bans) == [bytes([number]) * 32 for number in (3, 4, 5)]


def test_an_operators_address_is_known_as_such() -> None:
    book = some_book()
    assert book.is_manual(("node.example", 7440))
    assert not book.is_manual(("10.1.0.1", 1))
    assert not book.is_manual(("nowhere", 1))
