"""The levels of a check: a sound store passes them all, and one changed row of any table is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from facechain.consensus.kv import Bucket, Delta
from facechain.node.chain_index import TIP_KEY
from facechain.node.maintenance.damage import MaintenanceRefused, StoreDamage
from facechain.node.maintenance.verify import Level, Verification, verify_store
from facechain.node.meta_keys import CHECKPOINT_KEY, GENESIS_KEY, NETWORK_KEY
from facechain.node.store.errors import StoreCorrupt, StoreLocked
from facechain.node.store.lmdb_store import LmdbStore
from facechain.node.store.port import Writer
from facechain.node.store.schema import PROBE_KEY, Table, height_key
from support.stored_chain import StoredChain, fill_store


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StoredChain]:
    folder = tmp_path_factory.mktemp("template")
    return folder, fill_store(folder)


@pytest.fixture
def stored(tmp_path: Path, template: tuple[Path, StoredChain]) -> StoredChain:
    shutil.copyfile(template[0] / "data.mdb", tmp_path / "data.mdb")
    return template[1]


def check(folder: Path, level: Level = Level.STATE) -> Verification:
    return verify_store(folder, level)


def change(folder: Path, work: Callable[[Writer], None]) -> None:
    with LmdbStore.open(folder) as store:
        store.transact(work)


@pytest.mark.parametrize("level", Level)
def test_a_sound_store_passes_and_the_report_says_what_was_checked(
    tmp_path: Path, stored: StoredChain, level: Level
) -> None:
    report = check(tmp_path, level)
    assert (report.height, report.tip) == (8, stored.active[-1].hash)
    assert {item.level for item in report.checks} == set(range(level + 1))
    assert report.not_checked


@pytest.mark.usefixtures("stored")
def test_what_a_death_between_probe_and_removal_leaves_is_no_damage(tmp_path: Path) -> None:
    change(tmp_path, lambda writer: writer.put(Table.META, PROBE_KEY, bytes(10_000)))
    assert check(tmp_path).height == 8


def test_a_check_writes_nothing(tmp_path: Path, stored: StoredChain) -> None:
    before = (tmp_path / "data.mdb").read_bytes()
    check(tmp_path)
    assert (tmp_path / "data.mdb").read_bytes() == before


def test_a_store_in_use_is_refused(tmp_path: Path, stored: StoredChain) -> None:
    with LmdbStore.open(tmp_path), pytest.raises(StoreLocked):
        check(tmp_path)


def test_no_store_is_refused_and_none_is_made(tmp_path: Path) -> None:
    with pytest.raises(MaintenanceRefused, match="expected a node's store"):
        check(tmp_path / "missing")
    assert not (tmp_path / "missing").exists()


CHANGED = [
    *(
        table
        for table in Table
        if table not in {Table.PEERS, Table.BANS, Table.TESTS, Table.PRUNED, Table.PIXELS, Table.FILES}
    ),
]


@pytest.mark.parametrize("table", CHANGED)
@pytest.mark.parametrize("how", ["value", "lost", "added"])
def test_one_changed_row_of_any_table_is_found_by_level_3(
    tmp_path: Path, stored: StoredChain, table: Table, how: str
) -> None:
    if how == "lost" and table == Table.MEMPOOL:
        return  # nothing else in the store knows of a promise

    def damage(writer: Writer) -> None:
        rows = list(writer.scan(table))
        key, value = rows[len(rows) // 2]
        if how == "lost":
            writer.delete(table, key)
        elif how == "added":
            writer.put(table, key[:-1] + bytes([key[-1] ^ 1]), value)
        elif value:
            writer.put(table, key, value[:-1] + bytes([value[-1] ^ 1]))
        else:
            writer.put(table, key, b"\x01")

    change(tmp_path, damage)
    with pytest.raises((StoreDamage, StoreCorrupt)):
        check(tmp_path, Level.INDEXES)


def claim_more_rows(rows: dict[bytes, bytes]) -> None:
    key = min(rows)
    rows[key] = rows[key][:9] + b"\x7f" * 8


def forget_the_newest_run(rows: dict[bytes, bytes]) -> None:
    del rows[max(key for key in rows if key.startswith(b"\x00"))]


def pretend_a_merge(rows: dict[bytes, bytes]) -> None:
    rows[b"\x01\x00" + (1).to_bytes(8, "big")] = rows[min(rows)]


@pytest.mark.parametrize("damage", [claim_more_rows, forget_the_newest_run, pretend_a_merge])
def test_a_directory_that_is_not_that_of_the_chain_is_found(
    tmp_path: Path, stored: StoredChain, damage: Callable[[dict[bytes, bytes]], None]
) -> None:
    def apply(writer: Writer) -> None:
        before = dict(writer.scan(Table.RUNS))
        after = dict(before)
        damage(after)
        for key in before:
            writer.delete(Table.RUNS, key)
        writer.put_many(Table.RUNS, after.items())

    change(tmp_path, apply)
    with pytest.raises(StoreDamage, match="run"):
        check(tmp_path, Level.INDEXES)


@pytest.mark.parametrize("table", [Table.PIXEL_RUNS, Table.FILE_RUNS])
def test_rows_that_are_cut_into_other_chunks_are_found(
    tmp_path: Path, stored: StoredChain, table: Table
) -> None:
    def cut(writer: Writer) -> None:
        key, value = next(writer.scan(table))
        writer.put(table, key[:8] + value[:48], value[:48])
        writer.put(table, key, value[48:])

    change(tmp_path, cut)
    with pytest.raises(StoreDamage, match=f"table '{table}', run of heights 1 to 1"):
        check(tmp_path, Level.INDEXES)


@pytest.mark.parametrize("key", [NETWORK_KEY, GENESIS_KEY, TIP_KEY, CHECKPOINT_KEY, b"unknown"])
def test_every_key_of_meta_counts(tmp_path: Path, stored: StoredChain, key: bytes) -> None:
    change(tmp_path, lambda writer: writer.put(Table.META, key, height_key(99)))
    with pytest.raises(StoreDamage, match="meta"):
        check(tmp_path, Level.BODIES)


def test_a_state_that_agrees_with_its_undo_data_is_still_compared_with_the_state_root(
    tmp_path: Path, stored: StoredChain
) -> None:
    """The last block's own change is forged in both places: only the header's root tells."""

    def damage(writer: Writer) -> None:
        undo = Delta.decode(writer.get(Table.UNDO, stored.active[-1].hash) or b"")
        forged = tuple(
            item._replace(new=item.new[:-1] + bytes([item.new[-1] ^ 1]))
            if item.bucket is Bucket.SEQUENCES_TREE and item.new
            else item
            for item in undo
        )
        assert forged != undo.changes
        writer.put(Table.UNDO, stored.active[-1].hash, Delta(changes=forged).encode())
        for item in forged:
            if item.new is not None:
                writer.put(item.bucket, item.key, item.new)

    change(tmp_path, damage)
    with pytest.raises(StoreDamage, match="state root"):
        check(tmp_path, Level.INDEXES)


def test_level_4_recomputes_what_level_3_compares(tmp_path: Path, stored: StoredChain) -> None:
    def damage(writer: Writer) -> None:
        key, value = next(writer.scan(Bucket.SEQUENCES))
        writer.put(Bucket.SEQUENCES, key, value[:-1] + bytes([value[-1] ^ 2]))

    change(tmp_path, damage)
    assert check(tmp_path, Level.BODIES).height == 8
    with pytest.raises(StoreDamage):
        check(tmp_path, Level.STATE)


def test_a_torn_page_is_found_before_lmdb_sees_the_file(tmp_path: Path, stored: StoredChain) -> None:
    path = tmp_path / "data.mdb"
    data = bytearray(path.read_bytes())
    for start in range(2 * 4096, len(data), 4096):
        data[start + 10] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(StoreCorrupt, match="sound pages"):
        check(tmp_path, Level.FILE)
