"""The store on disk: durability, growth, schema version and damaged files."""

import os
import random
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import lmdb
import pytest

from facechain.node.store import lmdb_store
from facechain.node.store.errors import StoreCorrupt, StoreError, StoreFull, StoreLocked, StoreSchema
from facechain.node.store.lmdb_file import DATA_NAME, find_damage
from facechain.node.store.lmdb_store import LmdbStore
from facechain.node.store.port import Writer
from facechain.node.store.schema import OLDEST_SCHEMA, SCHEMA_KEY, SCHEMA_VERSION, Table, height_key

T = Table.TESTS
MIB = 1 << 20


def put(store: LmdbStore, key: bytes, value: bytes) -> None:
    store.transact(lambda writer: writer.put(T, key, value))


def test_commits_are_there_after_reopening(tmp_path: Path) -> None:
    with LmdbStore.open(tmp_path / "deep" / "store") as store:
        put(store, b"a", b"1")
    with LmdbStore.open(tmp_path / "deep" / "store") as store, store.read() as reader:
        assert list(reader.scan(T)) == [(b"a", b"1")]


def test_files_are_private(tmp_path: Path) -> None:
    with LmdbStore.open(tmp_path / "store"):
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "store").iterdir()}
    assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o700
    assert set(modes.values()) == {0o600}


def test_commits_are_synced(tmp_path: Path) -> None:
    with LmdbStore.open(tmp_path) as store:
        flags = store._environment.flags()
    assert (flags["sync"], flags["metasync"], flags["writemap"], flags["map_async"]) == (
        True,
        True,
        False,
        False,
    )


def test_value_larger_than_the_map_makes_it_grow(tmp_path: Path) -> None:
    value = random.Random(1).randbytes(5 * MIB)
    with LmdbStore.open(tmp_path, map_bytes=MIB) as store:
        assert store.map_bytes == MIB
        put(store, b"big", value)
        assert store.map_bytes > 5 * MIB
        with store.read() as reader:
            assert reader.get(T, b"big") == value
    with LmdbStore.open(tmp_path, map_bytes=MIB) as store, store.read() as reader:
        assert reader.get(T, b"big") == value


def test_map_grows_over_several_sizes_and_nothing_is_lost(tmp_path: Path) -> None:
    sizes = set()
    with LmdbStore.open(tmp_path, map_bytes=MIB) as store:
        for height in range(60):
            put(store, height_key(height), bytes([height]) * 300_000)
            sizes.add(store.map_bytes)
        with store.read() as reader:
            rows = list(reader.scan(T))
    assert rows == [(height_key(height), bytes([height]) * 300_000) for height in range(60)]
    assert sorted(sizes) == [MIB << power for power in range(6)]
    assert find_damage(tmp_path) is None


def test_retry_starts_from_the_same_state(tmp_path: Path) -> None:
    runs = []

    def change(writer: Writer) -> bytes:
        runs.append(writer.get(T, b"count"))
        writer.put(T, b"count", b"changed")
        writer.put_many(T, [(height_key(height), bytes(200_000)) for height in range(20)])
        return b"done"

    with LmdbStore.open(tmp_path, map_bytes=MIB) as store:
        put(store, b"count", b"first")
        assert store.transact(change) == b"done"
    assert len(runs) > 1
    assert set(runs) == {b"first"}


def test_full_map_counts_even_where_the_change_hides_it(tmp_path: Path) -> None:
    def swallow(writer: Writer) -> None:
        try:
            writer.put(T, b"swallowed", bytes(3 * MIB))
        except StoreError:
            return

    def replace(writer: Writer) -> None:
        try:
            writer.put(T, b"replaced", bytes(9 * MIB))
        except StoreError as error:
            raise ValueError("something else") from error

    with LmdbStore.open(tmp_path, map_bytes=MIB) as store:
        store.transact(swallow)
        store.transact(replace)
        with store.read() as reader:
            assert [key for key, _ in reader.scan(T)] == [b"replaced", b"swallowed"]


def test_growth_waits_for_reads_of_other_threads(tmp_path: Path) -> None:
    opened, leave = Event(), Event()

    with LmdbStore.open(tmp_path, map_bytes=MIB) as store, ThreadPoolExecutor(2) as pool:
        put(store, b"a", b"before")

        def read() -> list[bytes]:
            with store.read() as reader:
                opened.set()
                assert leave.wait(30)
                return [value for _, value in reader.scan(T)]

        def change(writer: Writer) -> None:
            writer.put(T, b"a", bytes(4 * MIB))

        def tried(writer: Writer) -> None:
            leave.set()
            change(writer)

        reading = pool.submit(read)
        assert opened.wait(30)
        pool.submit(store.transact, tried).result()
        assert reading.result() == [b"before"]


def test_largest_map_ends_growth_with_an_error_and_a_readable_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lmdb_store, "MAP_BYTES_MAX", 2 * MIB)
    with LmdbStore.open(tmp_path, map_bytes=MIB) as store:
        put(store, b"a", b"kept")
        with pytest.raises(StoreFull, match="expected at most 2097152 bytes"):
            put(store, b"b", bytes(3 * MIB))
        put(store, b"c", b"fits")
        with store.read() as reader:
            assert [key for key, _ in reader.scan(T)] == [b"a", b"c"]


def test_second_open_is_refused_and_leaves_the_first_at_work(tmp_path: Path) -> None:
    with LmdbStore.open(tmp_path) as store:
        with pytest.raises(StoreLocked, match="this process"):
            LmdbStore.open(tmp_path)
        put(store, b"a", b"")
    LmdbStore.open(tmp_path).close()


@pytest.mark.parametrize(
    "stored, message",
    [
        (SCHEMA_VERSION + 1, "expected store schema 2, got 3; install the newer facechain"),
        (OLDEST_SCHEMA - 1, "expected store schema 2, got 0; remove the folder"),
    ],
)
def test_other_schema_version_is_refused(tmp_path: Path, stored: int, message: str) -> None:
    with LmdbStore.open(tmp_path) as store:
        store.transact(lambda writer: writer.put(Table.META, SCHEMA_KEY, stored.to_bytes(4, "big")))
    for _ in range(2):
        with pytest.raises(StoreSchema, match=message) as caught:
            LmdbStore.open(tmp_path)
        assert str(tmp_path) in caught.value.diagnostics()


def test_environment_without_schema_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    with lmdb.Environment(str(tmp_path), max_dbs=4) as foreign:
        foreign.open_db(b"somebody else's")
    with pytest.raises(StoreSchema, match="got none"):
        LmdbStore.open(tmp_path)
    with lmdb.Environment(str(tmp_path), max_dbs=4) as foreign:
        assert foreign.stat()["entries"] == 1


def filled(folder: Path) -> Path:
    with LmdbStore.open(folder) as store:
        store.transact(lambda writer: writer.put_many(T, [(height_key(n), bytes(900)) for n in range(2000)]))
    return folder / DATA_NAME


def cut(size: int) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, size)


def cut_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def garbage(path: Path) -> None:
    path.write_bytes(random.Random(2).randbytes(100_000))


def garbage_after_the_metas(path: Path) -> None:
    noise = random.Random(3).randbytes(path.stat().st_size - 8192)
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(noise)


def text(path: Path) -> None:
    path.write_text("not a database\n" * 1000)


@pytest.mark.parametrize(
    "damage",
    [
        cut(1),
        cut(100),
        cut(4096),
        cut(5000),
        cut(8192),
        cut(9000),
        cut_half,
        garbage,
        garbage_after_the_metas,
        text,
    ],
)
def test_damaged_file_is_one_clear_line(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = filled(tmp_path)
    damage(path)
    with pytest.raises(StoreCorrupt) as caught:
        LmdbStore.open(tmp_path)
    line = caught.value.diagnostics()
    assert line.startswith(f"store-corrupt: {path}: expected ")
    assert "restore a backup" in line
    assert "\n" not in line


def test_cut_last_page_is_found(tmp_path: Path) -> None:
    path = filled(tmp_path)
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(StoreCorrupt, match="expected a file of"):
        LmdbStore.open(tmp_path)


def test_sound_file_has_no_damage(tmp_path: Path) -> None:
    filled(tmp_path)
    assert find_damage(tmp_path) is None


def test_creation_that_was_cut_short_begins_again(tmp_path: Path) -> None:
    (tmp_path / DATA_NAME).touch()
    with LmdbStore.open(tmp_path) as store:
        put(store, b"a", b"1")
        with store.read() as reader:
            assert reader.get(T, b"a") == b"1"
    assert find_damage(tmp_path) is None


def test_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="expected a folder that can be made"):
        LmdbStore.open(tmp_path / "file" / "store")


def test_errors_that_are_kept_hold_no_place_of_a_reader(tmp_path: Path) -> None:
    """As a list of refused statements does: each error's traceback names the read that it went through."""

    def refuse(store: LmdbStore) -> Exception:
        try:
            with store.read() as reader:
                raise ValueError(reader.get(Table.META, b"key"))
        except ValueError as error:
            return error

    with LmdbStore.open(tmp_path) as store:
        kept = [refuse(store) for _ in range(lmdb_store.READERS_MAX + 10)]
        assert all(error.__traceback__ is not None for error in kept)
        with store.read() as reader:
            assert reader.get(Table.META, b"key") is None
