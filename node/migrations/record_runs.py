"""Schema 1 to 2: the record index, one key for each record before, becomes sorted runs.

Owns the transactions. Rows come from the old tables, not from bodies, so a pruned store is migrated too. The old
keys are the new rows, in the same order; they are read in passes of bounded memory, and each run of each table is
one transaction. A mark names the tip that the runs are made for: if an older facechain moved the tip in between,
the runs are made anew.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from ..runs.directory import LIVE, Run, RunsDamaged, directory_of
from ..runs.placed import ROW_BYTES
from ..runs.rows import chunks, heights_of
from ..runs.table import RUN_TABLES
from ..store.port import Reader, Store, Writer
from ..store.schema import RETIRED, SCHEMA_KEY, Table, height_key, prefix_stop

if TYPE_CHECKING:
    from ..runs.rows import Rows

PASS_ROWS: Final = 3 << 19
"""Rows that one pass over an old table keeps in memory, when a single run is not larger."""
STEP_ROWS: Final = 1 << 16
"""Rows that are read, or removed, in one step."""

MARK: Final = b"\x02"
"""Key in `Table.RUNS` while a migration is under way: the tip that it is for."""

_TIP_KEY: Final = b"tip"
_SCHEMA_2: Final = (2).to_bytes(4, "big")
_SOURCES: Final = {Table.PIXEL_RUNS: Table.PIXELS, Table.FILE_RUNS: Table.FILES}

_log = logging.getLogger(__name__)


def build_runs(store: Store) -> None:
    """Make runs and their directory, then declare the store to be of schema 2; raises StoreError."""
    _begin(store)
    with store.read() as reader:
        leaves = _leaves(reader)
    directory = directory_of(leaves)
    live = [Run.decode(key, value) for key, value in directory if key.startswith(LIVE)]
    total, done = sum(run.rows for run in live), 0
    for group in _passes(live):
        for table, _ in RUN_TABLES:
            _write_pass(store, table, group)
        done += sum(run.rows for run in group)
        _log.info("record index: %d of %d records", done, total)
    for rows in _steps(directory):
        store.transact(lambda writer, rows=rows: writer.put_many(Table.RUNS, rows))  # type: ignore[misc]
    store.transact(_declare)


def remove_retired(store: Store) -> None:
    """Remove the rows of tables that this schema has no use for, step by step; raises StoreError."""
    for table in RETIRED:
        _empty(store, table)


def _begin(store: Store) -> None:
    """Go on with the runs that are there, if they were begun for this tip; else begin."""
    with store.read() as reader:
        tip = reader.get(Table.META, _TIP_KEY) or b""
        mark = reader.get(Table.RUNS, MARK)
    if mark != tip:
        store.transact(lambda writer: writer.delete(Table.RUNS, MARK))
        for table in (Table.RUNS, *_SOURCES):
            _empty(store, table)
        store.transact(lambda writer: writer.put(Table.RUNS, MARK, tip))


def _declare(writer: Writer) -> None:
    writer.delete(Table.RUNS, MARK)
    writer.put(Table.META, SCHEMA_KEY, _SCHEMA_2)


def _empty(store: Store, table: Table) -> None:
    def some(writer: Writer) -> int:
        keys = [key for key, _ in writer.scan(table, limit=STEP_ROWS)]
        for key in keys:
            writer.delete(table, key)
        return len(keys)

    while store.transact(some):
        pass


def _leaves(reader: Reader) -> list[Run]:
    """Count the records of every block, in both tables; RunsDamaged when the tables disagree."""
    pixels, files = (_counts(reader, source) for source in _SOURCES.values())
    if not np.array_equal(pixels, files):
        height = int(np.argmax(pixels != files))
        raise _damaged(Table.FILES, f"{pixels[height]} rows at height {height}", str(files[height]))
    return [Run.of_block(int(height), int(pixels[height])) for height in np.flatnonzero(pixels)]


def _counts(reader: Reader, source: Table) -> NDArray[np.int64]:
    """Return how many rows of an old table each height has."""
    top = reader.count(Table.ACTIVE)
    counts = np.zeros(top, np.int64)
    for rows in _old_rows(reader, source):
        heights = heights_of(rows)
        if heights.max() >= top:
            raise _damaged(source, f"heights below {top}", str(heights.max()))
        counts += np.bincount(heights.astype(np.int64), minlength=top)
    return counts


def _old_rows(reader: Reader, source: Table) -> Iterator[Rows]:
    """Yield the keys of an old table as rows, a step at a time."""
    for step in _steps(reader.scan(source)):
        text = b"".join(key for key, _ in step)
        if len(text) != len(step) * ROW_BYTES:
            raise _damaged(source, f"keys of {ROW_BYTES} bytes", "others")
        yield np.frombuffer(text, np.uint8).reshape(-1, ROW_BYTES)


def _steps(rows: Iterable[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
    source = iter(rows)
    while step := list(islice(source, STEP_ROWS)):
        yield step


def _passes(live: list[Run]) -> Iterator[list[Run]]:
    """Yield groups of adjacent runs that memory can hold at once, each of at least one run."""
    group: list[Run] = []
    for run in live:
        if group and sum(item.rows for item in group) + run.rows > PASS_ROWS:
            yield group
            group = []
        group.append(run)
    if group:
        yield group


def _write_pass(store: Store, table: Table, group: list[Run]) -> None:
    """Write those runs of a group that are not there yet."""
    with store.read() as reader:
        missing = [run for run in group if not _is_written(reader, table, run)]
        found = _select(reader, _SOURCES[table], missing) if missing else None
    if found is None:
        return
    heights = heights_of(found)
    for run in missing:
        mine = found[(heights >= run.first) & (heights <= run.last)]
        if len(mine) != run.rows:
            raise _damaged(_SOURCES[table], f"{run.rows} rows of the {run}", str(len(mine)))
        store.transact(lambda writer, run=run, mine=mine: writer.put_many(table, chunks(run.first, mine)))  # type: ignore[misc]


def _is_written(reader: Reader, table: Table, run: Run) -> bool:
    prefix = height_key(run.first)
    return next(reader.scan(table, start=prefix, stop=prefix_stop(prefix), limit=1), None) is not None


def _select(reader: Reader, source: Table, runs: list[Run]) -> Rows:
    """Return the old rows of adjacent runs, in order."""
    first, last = runs[0].first, runs[-1].last
    parts = [np.empty((0, ROW_BYTES), np.uint8)]
    for rows in _old_rows(reader, source):
        heights = heights_of(rows)
        parts.append(rows[(heights >= first) & (heights <= last)])
    return np.concatenate(parts)


def _damaged(source: Table, expected: str, got: str) -> RunsDamaged:
    return RunsDamaged(f"table '{source}' of schema 1", expected=expected, got=got)
