"""Level 3 of `db verify`, the record index: each run made again from the bodies, and compared byte for byte.

Owns no other table. Rows of dropped bodies cannot be made again: of those the order is checked, and their sum,
which was kept when they were dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..pruned_body import RowSum
from ..runs.directory import Run, RunsDamaged, directory_of, live_runs
from ..runs.placed import ROW_BYTES, PlacedRecords, count_rows
from ..runs.table import LOGICAL_NAMES, RUN_TABLES, chunk_rows, read_run
from ..store.schema import Table
from .damage import StoreDamage, check_same, compare_rows
from .verify import Job, Level

if TYPE_CHECKING:
    from ..runs.rows import Rows


class RunsCheck:
    """Takes the records of the active chain block by block; :meth:`finish` says how many rows were checked."""

    def __init__(self, job: Job) -> None:
        """Start at block 0."""
        self._job = job
        self._live = live_runs(job.reader)
        self._next = 0
        self._leaves: list[Run] = []
        self._rows: dict[Table, list[Rows]] = {table: [] for table, _ in RUN_TABLES}
        self._waiting = 0
        self._chunks = dict.fromkeys(self._rows, 0)
        self.dropped = RowSum()
        """Sum over the rows of dropped bodies."""

    def add(self, height: int, batches: tuple[PlacedRecords, ...]) -> None:
        """Take the records of a block whose body is here."""
        from ..runs.rows import block_rows  # noqa: PLC0415 - numpy

        if not batches:
            return
        for table, column in RUN_TABLES:
            self._rows[table].append(block_rows(height, batches, column))
        self._end_block(height, count_rows(batches))

    def add_dropped(self, height: int, count: int) -> None:
        """Take the number of records of a block whose body was dropped."""
        if count:
            self._end_block(height, count)

    def finish(self) -> int:
        """Check that the directory says what the chain leads to, and that no chunk is besides it."""
        rows = self._job.reader.scan(Table.RUNS)
        compare_rows("directory of runs", directory_of(self._leaves), rows)
        for table, chunks in self._chunks.items():
            if chunks != (got := self._job.reader.count(table)):
                raise StoreDamage(f"table '{table}'", expected=f"{chunks} chunks", got=f"{got} chunks")
        return len(RUN_TABLES) * sum(leaf.rows for leaf in self._leaves)

    def _end_block(self, height: int, count: int) -> None:
        self._leaves.append(Run.of_block(height, count))
        self._waiting += count
        run = self._live[self._next] if self._next < len(self._live) else None
        if run is None or self._waiting > run.rows:
            got = "no run" if run is None else f"{run.rows} rows in the {run}"
            raise StoreDamage(f"record index at height {height}", expected=f"{self._waiting} rows", got=got)
        if run.last <= height:
            for table in self._rows:
                self._compare(table, run)
            self._next += 1
            self._waiting = 0

    def _compare(self, table: Table, run: Run) -> None:
        """Compare one run of one table with what its blocks have, and its chunks with how runs are cut."""
        import numpy as np  # noqa: PLC0415

        from ..runs.rows import chunks, heights_of, is_ascending, order_of  # noqa: PLC0415

        place = f"table '{table}', {run}"
        try:
            stored = read_run(self._job.reader, table, run)
        except RunsDamaged as damaged:
            raise StoreDamage(place, expected="its rows", got=str(damaged)) from damaged
        if not is_ascending(stored):
            raise StoreDamage(place, expected="ascending rows", got="rows out of order")
        held = np.concatenate([np.empty((0, ROW_BYTES), np.uint8), *self._rows[table]])
        self._rows[table].clear()
        is_held = heights_of(stored) >= self._job.report.pruned_below
        ours, theirs = held[order_of(held)], stored[is_held]
        if not np.array_equal(ours, theirs):
            shared = min(len(ours), len(theirs))
            wrong = int(np.argmax(np.append((ours[:shared] != theirs[:shared]).any(axis=1), True)))
            sides = [rows[wrong : wrong + 1].tobytes() or None for rows in (ours, theirs)]
            check_same(f"{place}, row {wrong}", *sides)
        name = LOGICAL_NAMES[table]
        self.dropped = self.dropped.add((name, row.tobytes(), b"") for row in stored[~is_held])
        cut = list(chunks(run.first, stored))
        compare_rows(place, cut, chunk_rows(self._job.reader, table, run))
        self._chunks[table] += len(cut)


def note_runs(job: Job, rows: int) -> None:
    """Say in the report what was checked."""
    what = "record index: every run made again from bodies and compared, its directory, nothing besides"
    job.report.note(Level.INDEXES, what, rows)
    left = job.reader.count(Table.PIXELS) + job.reader.count(Table.FILES)
    if left:
        job.report.not_checked.append(
            f"{left} rows of schema 1: nothing reads them; starting the node removes them"
        )
