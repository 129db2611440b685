"""The record index in the store: adding and removing a block's records, and looking a hash up.

Owns the rows of the run tables. Everything works inside a transaction of the caller. What the tables hold is a
function of the active chain: connecting a block and disconnecting it leaves them as they were, byte for byte.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from ..store.port import Reader, Writer
from ..store.schema import Table, height_key, prefix_stop
from .directory import Run, RunsDamaged, due_runs, live_runs, newest_runs, put_live, put_merged, take_parts
from .placed import CHUNK_ROWS, HASH_BYTES, ROW_BYTES, PlacedRecords, count_rows

if TYPE_CHECKING:
    from .rows import Rows

RUN_TABLES: Final[tuple[tuple[Table, int], ...]] = ((Table.PIXEL_RUNS, 0), (Table.FILE_RUNS, 32))
"""Each table with the place of its hash in a record."""
LOGICAL_NAMES: Final = {Table.PIXEL_RUNS: Table.PIXELS, Table.FILE_RUNS: Table.FILES}
"""Under which name a row counts in the kept sum over rows of dropped bodies: that of schema 1."""


def add_block(writer: Writer, height: int, batches: Sequence[PlacedRecords]) -> None:
    """Add the records of a connected block, and merge the runs that are due."""
    if not count_rows(batches):
        return
    from . import rows  # noqa: PLC0415 - numpy

    newest = newest_runs(writer, 1)
    if newest and newest[0].last >= height:
        raise RunsDamaged("record index", expected=f"runs below height {height}", got=str(newest[0]))
    for table, column in RUN_TABLES:
        writer.put_many(table, rows.chunks(height, rows.block_rows(height, batches, column)))
    put_live(writer, Run.of_block(height, count_rows(batches)))
    while group := due_runs(writer):
        _merge(writer, group)


def remove_block(writer: Writer, height: int) -> None:
    """Remove the records of the block at the tip, undoing the merges that it brought; raises RunsDamaged."""
    newest = newest_runs(writer, 1)
    if not newest or newest[0].last != height:
        got = str(newest[0]) if newest else "nothing"
        raise RunsDamaged("record index", expected=f"a run that ends at height {height}", got=got)
    run = newest[0]
    while run.level:
        run = _split(writer, run)
    for table, _ in RUN_TABLES:
        for key in _chunk_keys(writer, table, run):
            writer.delete(table, key)
    writer.delete(Table.RUNS, run.live_key)


def find(reader: Reader, table: Table, digest: bytes, *, limit: int) -> list[bytes]:
    """Return the places (16 bytes) of at most `limit` records with this hash, oldest first."""
    places: list[bytes] = []
    for run in live_runs(reader):
        if len(places) >= limit:
            break
        places.extend(_find_in(reader, table, run, digest, limit - len(places)))
    return places


def read_run(reader: Reader, table: Table, run: Run) -> Rows:
    """Return all rows of a run as they are stored; raises RunsDamaged when they are not as many as they should."""
    import numpy as np  # noqa: PLC0415

    if run.rows > reader.count(table) * CHUNK_ROWS:
        raise _miscounted(table, run, f"at most {reader.count(table)} chunks in the table")
    rows = np.empty((run.rows, ROW_BYTES), np.uint8)
    _read_into(reader, table, run, rows)
    return rows


def _read_into(reader: Reader, table: Table, run: Run, target: Rows) -> list[bytes]:
    """Copy a run into an array of its size; return the keys of its chunks."""
    import numpy as np  # noqa: PLC0415

    keys, start = [], 0
    for key, value in chunk_rows(reader, table, run):
        part = np.frombuffer(value, np.uint8)
        stop = start + len(value) // ROW_BYTES
        if len(value) % ROW_BYTES or stop > len(target):
            raise _miscounted(table, run, f"a chunk of {len(value)} bytes after {start} rows")
        target[start:stop] = part.reshape(-1, ROW_BYTES)
        keys.append(key)
        start = stop
    if start != len(target):
        raise _miscounted(table, run, f"{start} rows")
    return keys


def _merge(writer: Writer, group: Sequence[Run]) -> None:
    """Make one run of adjacent ones, one table after the other, so that memory holds one table's rows."""
    import numpy as np  # noqa: PLC0415

    from .rows import chunks, order_of  # noqa: PLC0415

    whole = put_merged(writer, group)
    for table, _ in RUN_TABLES:
        rows = np.empty((whole.rows, ROW_BYTES), np.uint8)
        start = 0
        for run in group:
            for key in _read_into(writer, table, run, rows[start : start + run.rows]):
                writer.delete(table, key)
            start += run.rows
        writer.put_many(table, chunks(whole.first, rows, order_of(rows)))


def _split(writer: Writer, whole: Run) -> Run:
    """Undo a merge; return the last of the runs that are there again."""
    from .rows import chunks, heights_of  # noqa: PLC0415

    parts = take_parts(writer, whole)
    for table, _ in RUN_TABLES:
        rows = read_run(writer, table, whole)
        for key in _chunk_keys(writer, table, whole):
            writer.delete(table, key)
        heights = heights_of(rows)
        for part in parts:
            mine = rows[(heights >= part.first) & (heights <= part.last)]
            if len(mine) != part.rows:
                raise _miscounted(table, part, f"{len(mine)} rows")
            writer.put_many(table, chunks(part.first, mine))
    return parts[-1]


def chunk_rows(reader: Reader, table: Table, run: Run) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, value) of the chunks of a run as they are stored."""
    prefix = height_key(run.first)
    return reader.scan(table, start=prefix, stop=prefix_stop(prefix))


def _chunk_keys(reader: Reader, table: Table, run: Run) -> list[bytes]:
    return [key for key, _ in chunk_rows(reader, table, run)]


def _find_in(reader: Reader, table: Table, run: Run, digest: bytes, limit: int) -> Iterator[bytes]:
    prefix = height_key(run.first)
    start, stop = prefix + digest, prefix_stop(prefix)
    while limit > 0 and (found := next(reader.scan(table, start=start, stop=stop, limit=1), None)):
        key, value = found
        count = len(value) // ROW_BYTES
        if len(value) % ROW_BYTES or key[8:] != value[-ROW_BYTES:]:
            raise _miscounted(table, run, "a chunk that is not the one of its key")
        low = bisect_left(
            range(count), digest, key=lambda at: value[at * ROW_BYTES : at * ROW_BYTES + HASH_BYTES]
        )
        for at in range(low, min(count, low + limit)):
            row = value[at * ROW_BYTES : (at + 1) * ROW_BYTES]
            if row[:HASH_BYTES] != digest:
                return
            yield row[HASH_BYTES:]
        limit -= count - low
        start = key + b"\x00"


def _miscounted(table: Table, run: Run, got: str) -> RunsDamaged:
    return RunsDamaged(f"table '{table}', {run}", expected=f"{run.rows} rows in order", got=got)
