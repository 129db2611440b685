"""`db stats`: how much of what a store holds. Reads beside a running node and changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..chain_index import TIP_KEY
from ..meta_keys import BASE_KEY, PRUNED_KEY
from ..runs.directory import live_runs
from ..store.lmdb_file import DATA_NAME
from ..store.schema import SCHEMA_VERSION, Table
from .offline import ReadOnlyStore


@dataclass(frozen=True, slots=True, kw_only=True)
class TableStats:
    """One table: its rows and the pages that they take."""

    name: str
    rows: int
    size_bytes: int
    depth: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStats:
    """What a store holds at one moment."""

    schema: int
    height: int
    tip: bytes
    pruned_below: int
    base_height: int
    bodies: int
    records: int
    """Registered images."""
    runs: int
    """Sorted runs of the record index that a look-up goes through."""
    file_bytes: int
    used_bytes: int
    """Pages that hold something, meta pages included."""
    free_bytes: int
    """Pages that the next transactions will use again."""
    map_bytes: int
    """How far the file can grow before the node enlarges its map."""
    readers: int
    """Reads that are open now, this one included."""
    tables: tuple[TableStats, ...]


def read_stats(folder: Path) -> StoreStats:
    """Count what the store in `folder` holds; raises as `ReadOnlyStore.open`."""
    with ReadOnlyStore.open(folder) as store, store.read() as reader:
        tables = []
        with store.environment.begin() as transaction:
            page = transaction.stat(store.databases[Table.META])["psize"]
            for name in sorted(store.databases):
                stat = transaction.stat(store.databases[name])
                pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
                tables.append(
                    TableStats(name=name, rows=stat["entries"], size_bytes=pages * page, depth=stat["depth"])
                )
        info = store.environment.info()
        runs = live_runs(reader)
        file_bytes = (folder / DATA_NAME).stat().st_size
        total = (info["last_pgno"] + 1) * page
        used = sum(table.size_bytes for table in tables) + 2 * page
        return StoreStats(
            schema=SCHEMA_VERSION,
            height=reader.count(Table.ACTIVE) - 1,
            tip=reader.get(Table.META, TIP_KEY) or b"",
            pruned_below=int.from_bytes(reader.get(Table.META, PRUNED_KEY) or b"", "big"),
            base_height=int.from_bytes(reader.get(Table.META, BASE_KEY) or b"", "big"),
            bodies=reader.count(Table.BODIES),
            records=sum(run.rows for run in runs),
            runs=len(runs),
            file_bytes=file_bytes,
            used_bytes=used,
            free_bytes=max(total - used, 0),
            map_bytes=info["map_size"],
            readers=info["num_readers"],
            tables=tuple(tables),
        )
