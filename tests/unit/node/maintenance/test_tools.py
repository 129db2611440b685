"""The tools on a store that nobody else uses: what they change, what they refuse, and that the result verifies."""

from __future__ import annotations

from pathlib import Path

import pytest

from facechain.node.chain_index import ChainReader, Place
from facechain.node.chain_runner import open_tip
from facechain.node.chainstate import ChainState
from facechain.node.data_dir import DataDir
from facechain.node.maintenance.backup import back_up
from facechain.node.maintenance.damage import MaintenanceRefused, SnapshotDamage, StoreDamage
from facechain.node.maintenance.prune import prune
from facechain.node.maintenance.reindex import reindex
from facechain.node.maintenance.rollback import roll_back
from facechain.node.maintenance.snapshot import export_snapshot, import_snapshot
from facechain.node.maintenance.stats import read_stats
from facechain.node.maintenance.verify import Level, verify_store
from facechain.node.mempool import DurableMempool
from facechain.node.meta_keys import BASE_KEY
from facechain.node.store.errors import StoreLocked
from facechain.node.store.lmdb_store import LmdbStore
from facechain.node.store.port import Writer
from facechain.node.store.schema import Table
from support.stored_chain import NOW_MS, StoredChain, busy_block, fill_store, stored_rows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def stored(folder: Path) -> StoredChain:
    return fill_store(folder)


def tip_of(folder: Path, stored: StoredChain) -> bytes:
    """Start a chain state on the store, as a node does."""
    with LmdbStore.open(folder) as store:
        return ChainState.open(store, stored.builder.genesis).tree.tip.hash


def test_stats_count_rows_and_bytes(folder: Path, stored: StoredChain) -> None:
    found = read_stats(folder)
    tables = {table.name: table for table in found.tables}
    assert (found.height, found.tip) == (8, stored.active[-1].hash)
    assert found.bodies == 1 + len(stored.active) + len(stored.side)
    assert (found.records, found.runs) == (9, 3)
    assert tables["pixel-runs"].rows == 3
    assert tables["bodies"].size_bytes > 0
    assert found.used_bytes + found.free_bytes <= found.file_bytes
    assert found.map_bytes >= found.file_bytes


def test_rollback_keeps_statements_and_the_node_takes_the_blocks_again(
    folder: Path, stored: StoredChain
) -> None:
    done = roll_back(folder, 5)
    assert (done.height, done.tip, done.blocks, done.statements) == (5, stored.active[4].hash, 3, 3)
    assert verify_store(folder, Level.STATE).height == 5
    with LmdbStore.open(folder) as store:
        chain = ChainState.open(store, stored.builder.genesis)
        pool = DurableMempool.open(store, chain.params, chain.network_id, lambda: open_tip(chain))
        waiting = [item.leaf for block in stored.active[5:] for item in block.body.statements]
        assert [item.leaf for item in pool.select()] == [*waiting, stored.promised.leaf]
        for block in stored.active[5:]:
            chain.accept_block(block, now_ms=NOW_MS)
        assert chain.tree.tip.hash == stored.active[-1].hash
    assert verify_store(folder, Level.STATE).height == 8


def test_rollback_with_refuse_does_not_go_back_there(folder: Path, stored: StoredChain) -> None:
    roll_back(folder, 5, refuse=True)
    assert verify_store(folder, Level.STATE).height == 5
    with LmdbStore.open(folder) as store:
        chain = ChainState.open(store, stored.builder.genesis)
        assert chain.tree.nodes[stored.active[5].hash].invalid


def test_rollback_needs_force_below_a_checkpoint(folder: Path, stored: StoredChain) -> None:
    with pytest.raises(MaintenanceRefused, match="checkpoint 1"):
        roll_back(folder, 0)
    done = roll_back(folder, 0, force=True)
    assert done.blocks == 8
    assert verify_store(folder, Level.STATE).height == 0
    assert tip_of(folder, stored) == stored.builder.genesis_block.hash


@pytest.mark.parametrize("height", [-1, 9])
def test_rollback_refuses_a_height_that_is_not_there(folder: Path, stored: StoredChain, height: int) -> None:
    with pytest.raises(MaintenanceRefused, match="from 0 to 8"):
        roll_back(folder, height)


def test_reindex_makes_the_same_rows(folder: Path, stored: StoredChain) -> None:
    before = stored_rows(folder)
    with LmdbStore.open(folder) as store:

        def empty(writer: Writer) -> None:
            for table in (
                Table.PIXEL_RUNS,
                Table.RUNS,
                Table.STATEMENTS,
                Table.UNDO,
                Table.ROLES,
                Table.HISTORY,
            ):
                for key, _ in list(writer.scan(table)):
                    writer.delete(table, key)

        store.transact(empty)
    done = reindex(folder)
    assert (done.height, done.side_blocks, done.left_out) == (8, 1, 0)
    assert stored_rows(folder) == before
    assert verify_store(folder, Level.STATE).height == 8


def test_reindex_leaves_out_what_does_not_read_back(folder: Path, stored: StoredChain) -> None:
    broken = stored.active[6].hash
    with LmdbStore.open(folder) as store:
        store.transact(lambda writer: writer.put(Table.BODIES, broken, b"\x91\x90"))
    done = reindex(folder)
    assert (done.height, done.left_out) == (6, 1)
    assert broken.hex() in done.named[0]
    assert verify_store(folder, Level.STATE).height == 6


def test_reindex_that_is_interrupted_leaves_the_old_file(
    folder: Path, stored: StoredChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (folder / "data.mdb").read_bytes()

    def stop(part: str, done: int, total: int, /) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reindex(folder, stop)
    assert (folder / "data.mdb").read_bytes() == before
    assert reindex(folder).height == 8


def test_prune_keeps_headers_state_and_signed_headers(folder: Path, stored: StoredChain) -> None:
    done = prune(folder, 3, shrink=True)
    assert (done.pruned_below, done.blocks) == (6, 5)
    assert done.dropped_bytes > 0
    assert verify_store(folder, Level.INDEXES).pruned_below == 6
    with pytest.raises(MaintenanceRefused, match="pruned below 6"):
        verify_store(folder, Level.STATE)
    with LmdbStore.open(folder) as store:
        chain = ChainState.open(store, stored.builder.genesis)
        assert chain.pruned_below == 6
        assert chain.block(stored.active[4].hash) is None
        assert chain.block(stored.active[5].hash) == stored.active[5]
        assert chain.sealed_header(stored.active[0].hash) == stored.active[0].sealed
        stage, batch = stored.active[0].body.statements
        with chain.snapshot() as reader:
            assert reader.statement(stage.id) == (Place(1, 0), stage)
            assert reader.statement(batch.id) is None
            assert reader.place_of(batch.id) == Place(1, 1)
        chain.accept_block(busy_block(stored.builder, "after"), now_ms=NOW_MS)
        assert chain.tree.tip.height == 9
    assert prune(folder, 3).pruned_below == 7
    assert verify_store(folder, Level.INDEXES).height == 9


def test_a_pruned_node_reorganises_down_to_where_its_bodies_end(folder: Path, stored: StoredChain) -> None:
    prune(folder, 2)
    builder = stored.builder
    with LmdbStore.open(folder) as store:
        chain = ChainState.open(store, builder.genesis)
        assert chain.lowest_fork == 6
        for fork, moves in ((5, False), (6, True)):
            branch = [busy_block(builder, f"fork {fork}", parent=stored.active[fork - 1])]
            while branch[-1].header.height < 10 + moves:
                branch.append(busy_block(builder, f"fork {fork} {len(branch)}", parent=branch[-1]))
            for block in branch:
                chain.accept_block(block, now_ms=NOW_MS)
            assert (chain.tree.tip.hash == branch[-1].hash) == moves


def test_a_changed_row_of_a_dropped_payload_is_found(folder: Path, stored: StoredChain) -> None:
    prune(folder, 1)
    with LmdbStore.open(folder) as store:

        def damage(writer: Writer) -> None:
            key, value = next(writer.scan(Table.PIXEL_RUNS))
            writer.put(Table.PIXEL_RUNS, key, value[:31] + bytes([value[31] ^ 1]) + value[32:])

        store.transact(damage)
    with pytest.raises(StoreDamage, match="sum over index rows"):
        verify_store(folder, Level.INDEXES)


@pytest.mark.parametrize("work", ["reindex", "rollback", "snapshot"])
def test_a_pruned_store_refuses_what_needs_its_bodies(
    tmp_path: Path, folder: Path, stored: StoredChain, work: str
) -> None:
    prune(folder, 3)
    with pytest.raises(MaintenanceRefused):
        if work == "reindex":
            reindex(folder)
        elif work == "rollback":
            roll_back(folder, 4)
        else:
            export_snapshot(folder, tmp_path / "out")
    assert verify_store(folder, Level.INDEXES).height == 8


def test_backup_beside_a_writer_is_one_moment(tmp_path: Path, folder: Path, stored: StoredChain) -> None:
    done = back_up(DataDir(root=tmp_path), tmp_path / "copy")
    assert done.height == 8
    assert verify_store(tmp_path / "copy" / "store", Level.STATE).tip == stored.active[-1].hash
    assert stored_rows(tmp_path / "copy" / "store") == stored_rows(folder)
    with pytest.raises(MaintenanceRefused, match="new or empty folder"):
        back_up(DataDir(root=tmp_path), tmp_path / "copy")


def test_a_snapshot_makes_a_store_that_goes_on(tmp_path: Path, folder: Path, stored: StoredChain) -> None:
    file, other = tmp_path / "chain.snapshot", tmp_path / "other"
    done = export_snapshot(folder, file)
    tip = stored.active[-1]
    assert (done.height, done.block_hash, done.state_root) == (8, tip.hash, tip.header.state_root)
    import_snapshot(other, file, expected=tip.hash, network=stored.builder.network_id)
    assert verify_store(other, Level.STATE).base_height == 8
    kept = {Table.META, Table.UNDO, Table.MEMPOOL, Table.HEADERS, Table.BODIES}
    ours, theirs = stored_rows(folder), stored_rows(other)
    assert {name: rows for name, rows in ours.items() if name not in kept} == {
        name: rows for name, rows in theirs.items() if name not in kept
    }
    with LmdbStore.open(other) as store:
        chain = ChainState.open(store, stored.builder.genesis)
        assert chain.lowest_fork == 8
        chain.accept_block(stored.builder.forge([stored.promised], parent=tip), now_ms=NOW_MS)
        assert chain.tree.tip.height == 9
    assert verify_store(other, Level.STATE).height == 9
    with pytest.raises(MaintenanceRefused, match="8 or above"):
        roll_back(other, 7)
    assert reindex(other).left_out == 0
    with LmdbStore.open(other) as store, store.read() as reader:
        assert reader.get(Table.META, BASE_KEY) is None
        assert ChainReader(reader).block_hash(8) == tip.hash


def test_a_snapshot_of_another_block_or_network_or_with_a_flipped_bit_is_refused(
    tmp_path: Path, folder: Path, stored: StoredChain
) -> None:
    file, other = tmp_path / "chain.snapshot", tmp_path / "other"
    done = export_snapshot(folder, file)
    with pytest.raises(MaintenanceRefused, match="expected block"):
        import_snapshot(other, file, expected=bytes(32))
    with pytest.raises(MaintenanceRefused, match="expected network"):
        import_snapshot(other, file, expected=done.block_hash, network=bytes(32))
    whole = file.read_bytes()
    for position in range(0, len(whole), 397):
        file.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        with pytest.raises((SnapshotDamage, MaintenanceRefused)):
            import_snapshot(other, file, expected=done.block_hash)
        assert not (other / "data.mdb").exists()
    for garbage, words in (
        (whole[:-1], "got the end of the file"),
        (b"garbage", "expected 'facechain snapshot 1'"),
    ):
        file.write_bytes(garbage)
        with pytest.raises(SnapshotDamage) as found:
            import_snapshot(other, file, expected=done.block_hash)
        line = found.value.diagnostics()
        assert line.startswith(f"snapshot-damage: {file}: snapshot: ")
        assert words in line
        assert "fetch the file again" in line
        assert "reindex" not in line
    with pytest.raises(MaintenanceRefused, match="expected no store"):
        import_snapshot(folder, file, expected=done.block_hash)


def test_tools_refuse_a_store_in_use(tmp_path: Path, folder: Path, stored: StoredChain) -> None:
    with LmdbStore.open(folder):
        for work in (
            lambda: roll_back(folder, 5),
            lambda: prune(folder, 3),
            lambda: reindex(folder),
            lambda: verify_store(folder, Level.OPEN),
        ):
            with pytest.raises(StoreLocked, match="in use by this process"):
                work()
