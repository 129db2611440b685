"""The stored address book, bans and anchors."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from facechain.node.config_kinds import PeerPattern
from facechain.node.peer_store import (
    ANCHORS_KEY,
    SECRET_KEY,
    PeerMemory,
    load_memory,
    save_picture,
    take_picture,
)
from facechain.node.store.errors import StoreFull
from facechain.node.store.lmdb_store import LmdbStore
from facechain.node.store.memory import MemoryStore, Operation
from facechain.node.store.port import Store
from facechain.node.store.schema import Table
from support.peer_books import DAY_MS, NOW_MS, SECRET, public_host, tell

PORT = 7440
ANCHORS = (("20.1.0.1", PORT), ("20.2.0.1", PORT))
KEY = PeerPattern(node_key=b"\x01" * 32)
NET = PeerPattern.parse("20.9.0.0/16")


def load(store: Store) -> PeerMemory:
    return load_memory(store, random=random.Random(1), new_secret=lambda: SECRET)


def filled(store: Store) -> PeerMemory:
    """Return what a node knows that has met some peers."""
    memory = load(store)
    memory.book.add_manual("node.example", PORT)
    tell(memory.book, [public_host(number) for number in range(50)], "30.1.0.1")
    memory.book.on_success(public_host(3), PORT, NOW_MS)
    memory.bans.ban(KEY, "bad-seal: for the test", now_ms=NOW_MS, ban_ms=DAY_MS)
    memory.bans.ban(NET, "no", now_ms=NOW_MS, ban_ms=DAY_MS, by_operator=True)
    return memory


def save(store: Store, memory: PeerMemory, anchors: tuple[tuple[str, int], ...] = ()) -> None:
    save_picture(store, take_picture(memory.book, memory.bans, NOW_MS, anchors))


def test_addresses_and_bans_outlive_the_process(tmp_path: Path) -> None:
    with LmdbStore.open(tmp_path / "store") as store:
        memory = filled(store)
        save(store, memory)
    with LmdbStore.open(tmp_path / "store") as store:
        loaded = load(store)
    assert set(loaded.book.to_store()) == set(memory.book.to_store())
    assert loaded.book.counts == memory.book.counts
    assert loaded.book.secret == memory.book.secret
    assert loaded.bans.active(NOW_MS) == memory.bans.active(NOW_MS)


def test_a_node_makes_its_secret_once() -> None:
    store = MemoryStore.open()
    secrets = iter([b"\x01" * 32, b"\x02" * 32])
    first = load_memory(store, random=random.Random(1), new_secret=lambda: next(secrets))
    save(store, first)
    again = load_memory(store, random=random.Random(1), new_secret=lambda: next(secrets))
    assert first.book.secret == again.book.secret == b"\x01" * 32


def test_anchors_are_there_for_one_start_after_a_stop_in_order() -> None:
    store = MemoryStore.open()
    save(store, filled(store), ANCHORS)
    assert load(store).anchors == ANCHORS
    assert load(store).anchors == (), "a node that was killed since has none"


def test_a_save_in_between_leaves_no_anchors() -> None:
    store = MemoryStore.open()
    memory = filled(store)
    save(store, memory, ANCHORS)
    save(store, memory)
    assert load(store).anchors == ()


def test_a_store_that_takes_nothing_does_not_keep_a_node_from_starting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = MemoryStore.open()
    save(store, filled(store), ANCHORS)

    def full(_change: object) -> None:
        raise StoreFull("no space left on device")

    monkeypatch.setattr(store, "transact", full)
    assert load(store).anchors == ANCHORS


def test_what_is_no_longer_known_leaves_the_store() -> None:
    store = MemoryStore.open()
    memory = filled(store)
    save(store, memory)
    memory.book.forget(public_host(3), PORT)
    memory.bans.unban(KEY)
    save_picture(store, take_picture(memory.book, memory.bans, NOW_MS + 2 * DAY_MS))
    loaded = load(store)
    assert loaded.book.get((public_host(3), PORT)) is None
    assert loaded.bans.active(NOW_MS) == {}


def test_rows_that_cannot_be_read_are_passed_over() -> None:
    store = MemoryStore.open()
    memory = filled(store)
    save(store, memory, ANCHORS)

    def damage(key: bytes, value: bytes, table: Table) -> None:
        store.transact(lambda writer: writer.put(table, key, value))

    damage(b"damaged", b"\xc1", Table.PEERS)
    damage(ANCHORS_KEY, b"\xc1", Table.PEERS)
    damage(b"damaged", b"\xc1", Table.BANS)
    damage(str(KEY).encode(), b"\xc1", Table.BANS)
    damage(b"\xff\xfe", b"\xc1", Table.BANS)
    loaded = load(store)
    assert len(loaded.book) == len(memory.book)
    assert loaded.anchors == ()
    assert list(loaded.bans.active(NOW_MS)) == [NET]
    damage(SECRET_KEY, b"short", Table.PEERS)
    assert load(store).book.secret == SECRET


def test_a_picture_is_not_touched_by_later_changes() -> None:
    store = MemoryStore.open()
    memory = filled(store)
    picture = take_picture(memory.book, memory.bans, NOW_MS)
    memory.bans.unban(KEY)
    save_picture(store, picture)
    assert set(load(store).bans.active(NOW_MS)) == {KEY, NET}


def test_nothing_is_written_when_nothing_changed() -> None:
    seen: list[Operation] = []
    store = MemoryStore.open(on_operation=seen.append)
    memory = filled(store)
    save(store, memory)
    seen.clear()
    save(store, memory)
    assert Operation.COMMIT not in seen
