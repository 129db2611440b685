"""From schema 1 to 2: nothing is lost, whatever instant the process dies at, also when an old node wrote between."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import pytest

from facechain.consensus.kv import Bucket
from facechain.node.chain_index import ChainReader
from facechain.node.chainstate import ChainState
from facechain.node.maintenance.damage import MaintenanceRefused
from facechain.node.maintenance.offline import ReadOnlyStore
from facechain.node.maintenance.prune import prune
from facechain.node.maintenance.reindex import reindex
from facechain.node.maintenance.verify import Level, verify_store
from facechain.node.migrations import bring_up_to_date, record_runs
from facechain.node.runs import directory
from facechain.node.runs.directory import Run, RunsDamaged, directory_of
from facechain.node.store import lmdb_store
from facechain.node.store.errors import StoreSchema
from facechain.node.store.lmdb_store import LmdbStore
from facechain.node.store.memory import MemoryStore, Operation
from facechain.node.store.port import Store, Writer
from facechain.node.store.schema import BUCKETS, SCHEMA_KEY, Table
from support.schema_1 import put_back, unpack_stored
from support.stored_chain import NOW_MS, busy_block, fill_store, stored_rows

Rows = dict[str, dict[bytes, bytes]]
NEW = (Table.RUNS, Table.PIXEL_RUNS, Table.FILE_RUNS)
OLD = (Table.PIXELS, Table.FILES)


class Died(Exception):
    """The process ended here."""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every pass, step and merge small, so that a few records need many transactions."""
    monkeypatch.setattr(record_runs, "PASS_ROWS", 30)
    monkeypatch.setattr(record_runs, "STEP_ROWS", 32)
    monkeypatch.setattr(directory, "FAN", 3)
    monkeypatch.setattr(directory, "MAX_RUN_ROWS", 24)


@pytest.fixture(scope="module")
def old_rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The rows of the stored file, read without any of our code."""
    folder = unpack_stored(tmp_path_factory.mktemp("schema-1"))
    with (
        lmdb.Environment(str(folder), max_dbs=64, readonly=True) as environment,
        environment.begin() as reader,
    ):
        names = [bytes(key) for key, _ in reader.cursor()]
        databases = {name: environment.open_db(name, txn=reader, create=False) for name in names}
        return {name.decode(): dict(reader.cursor(databases[name])) for name in names}


def in_memory(rows: Rows) -> MemoryStore:
    store = MemoryStore.open()

    def copy(writer: Writer) -> None:
        for bucket, items in rows.items():
            writer.put_many(bucket, sorted(items.items()))

    store.transact(copy)
    return store


def rows_of(store: Store) -> Rows:
    with store.read() as reader:
        return {bucket: dict(reader.scan(bucket)) for bucket in BUCKETS}


def dying_at(number: int) -> Callable[[Operation], None]:
    counter: Iterator[int] = iter(range(number))

    def hook(_: Operation) -> None:
        if next(counter, None) is None:
            raise Died

    return hook


def check_migrated(old: Rows, new: Rows) -> None:
    """Everything is as it was, but the record index, which says the same in the other form."""
    assert new[Table.META].pop(SCHEMA_KEY) == (2).to_bytes(4, "big")
    for bucket in old.keys() - {*OLD, *NEW, Table.META}:
        assert new[bucket] == old[bucket]
    assert new[Table.META] == {key: value for key, value in old[Table.META].items() if key != SCHEMA_KEY}
    for before, after in zip(OLD, NEW[1:], strict=True):
        assert not new[before]
        text = b"".join(value for _, value in sorted(new[after].items()))
        assert sorted(text[at : at + 48] for at in range(0, len(text), 48)) == sorted(old[before])
    heights = sorted(int.from_bytes(key[32:40], "big") for key in old[Table.PIXELS])
    leaves = [Run.of_block(height, heights.count(height)) for height in sorted(set(heights))]
    assert new[Table.RUNS] == dict(directory_of(leaves))


def test_a_store_of_schema_1_opens_with_every_claim(
    tmp_path: Path, old_rows: Rows, caplog: pytest.LogCaptureFixture
) -> None:
    folder = unpack_stored(tmp_path / "store")
    with caplog.at_level(logging.WARNING), LmdbStore.open(folder) as store:
        assert "the store has schema 1: bringing it to 2" in caplog.text
        with store.read() as reader:
            chain = ChainReader(reader)
            for table, claims in zip(OLD, (chain.claims_of_pixels, chain.claims_of_file), strict=True):
                for key in old_rows[table]:
                    places = [item for item in old_rows[table] if item[:32] == key[:32]]
                    assert len(claims(key[:32], limit=9)) == len(places)
        check_migrated(old_rows, rows_of(store))
    caplog.clear()
    with LmdbStore.open(folder):
        assert not caplog.text


def test_tools_that_only_read_say_what_to_do_first(tmp_path: Path) -> None:
    folder = unpack_stored(tmp_path / "store")
    before = (folder / "data.mdb").read_bytes()
    with pytest.raises(StoreSchema, match="expected store schema 2, got 1; start the node: it brings"):
        ReadOnlyStore.open(folder)
    assert (folder / "data.mdb").read_bytes() == before


@pytest.mark.usefixtures("small")
def test_a_migration_that_dies_anywhere_goes_on(old_rows: Rows) -> None:
    first = in_memory(old_rows)
    clean = first.reopen()
    bring_up_to_date(clean)
    expected = rows_of(clean)
    check_migrated(old_rows, rows_of(clean))
    for number in range(100_000):
        store = first.reopen(on_operation=dying_at(number))
        try:
            bring_up_to_date(store)
        except Died:
            left = rows_of(store.reopen())
            if left[Table.META][SCHEMA_KEY] == (1).to_bytes(4, "big"):  # whole for the older facechain
                assert all(left[bucket] == rows for bucket, rows in old_rows.items())
            again = store.reopen()
            bring_up_to_date(again)
            assert rows_of(again) == expected, f"after a death at operation {number}"
        else:
            break
    assert number > 200


@pytest.mark.usefixtures("small")
def test_runs_that_were_begun_for_another_tip_are_made_anew(old_rows: Rows) -> None:
    """An older facechain went on between two attempts: its tip is another, and so are its rows."""
    clean = in_memory(old_rows)
    bring_up_to_date(clean)
    for number in range(60, 3000, 120):
        store = in_memory(old_rows).reopen(on_operation=dying_at(number))
        with pytest.raises(Died):
            bring_up_to_date(store)
        left = store.reopen()
        if rows_of(left)[Table.META][SCHEMA_KEY] != (1).to_bytes(4, "big"):
            break

        def go_on(writer: Writer) -> None:
            place = max(key for key, _ in writer.scan(Table.PIXELS))[32:]
            for table in OLD:
                key = next(key for key, _ in writer.scan(table) if key.endswith(place))
                writer.delete(table, key)
                writer.put(table, b"\xff" * 32 + (28).to_bytes(8, "big") + bytes(8), b"")
            writer.put(Table.META, b"tip", b"another")

        left.transact(go_on)
        old = rows_of(left)
        bring_up_to_date(left)
        check_migrated(old, rows_of(left))
    assert number > 60


@pytest.mark.parametrize("damage", ["lost", "high", "short"])
def test_old_rows_that_contradict_each_other_are_told_and_reindex_mends_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    folder = tmp_path / "store"
    fill_store(folder)
    expected = stored_rows(folder)

    def spoil(writer: Writer) -> None:
        key, _ = next(writer.scan(Table.FILES))
        writer.delete(Table.FILES, key)
        if damage == "high":
            writer.put(Table.FILES, key[:32] + (99).to_bytes(8, "big") + key[40:], b"")
        elif damage == "short":
            writer.put(Table.FILES, key[:-1], b"")

    with LmdbStore.open(folder) as store:
        put_back(store)
        store.transact(spoil)
    with pytest.raises(RunsDamaged, match=r"of schema 1: .*facechain db reindex"):
        LmdbStore.open(folder)
    reindex(folder)
    assert stored_rows(folder) == expected
    assert verify_store(folder, Level.STATE).height == 8


@pytest.mark.parametrize("keep", [None, 3])
def test_a_migrated_store_is_the_store_that_a_new_node_writes(tmp_path: Path, keep: int | None) -> None:
    folder = tmp_path / "store"
    stored = fill_store(folder)
    if keep:
        prune(folder, keep)
    before = stored_rows(folder)
    with LmdbStore.open(folder) as store:
        put_back(store)
        assert rows_of(store)[Table.PIXELS]
        assert not rows_of(store)[Table.RUNS]
    assert stored_rows(folder) == before
    assert verify_store(folder, Level.INDEXES).height == 8
    with LmdbStore.open(folder) as store:
        chain = ChainState.open(store, stored.builder.genesis)
        chain.accept_block(busy_block(stored.builder, "after"), now_ms=NOW_MS)
        assert chain.tree.tip.height == 9
    assert verify_store(folder, Level.INDEXES).height == 9


def test_rows_that_a_finished_migration_left_are_named_and_then_removed(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    fill_store(folder)
    with LmdbStore.open(folder) as store:
        store.transact(lambda writer: writer.put(Table.PIXELS, bytes(48), b""))
    assert "1 rows of schema 1" in verify_store(folder, Level.INDEXES).not_checked[0]
    assert not stored_rows(folder)[Table.PIXELS]
    assert not verify_store(folder, Level.INDEXES).not_checked[0].startswith("1 rows")


def test_a_store_that_was_never_begun_is_migrated_too(tmp_path: Path) -> None:
    with LmdbStore.open(tmp_path) as store:
        put_back(store)
    with LmdbStore.open(tmp_path) as store, store.read() as reader:
        assert reader.get(Table.META, SCHEMA_KEY) == (2).to_bytes(4, "big")
    with pytest.raises(MaintenanceRefused, match="never begun"):
        verify_store(tmp_path, Level.OPEN)


def test_a_map_too_small_for_the_migration_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = unpack_stored(tmp_path / "store")
    monkeypatch.setattr(lmdb_store, "OPEN_ROOM_BYTES", 64 << 10)
    with LmdbStore.open(folder, map_bytes=1) as store:
        assert rows_of(store)[Table.RUNS]
        assert rows_of(store)[Bucket.HISTORY]
