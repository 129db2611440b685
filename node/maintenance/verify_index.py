"""Level 3 of `db verify`, first half: every index row, in both directions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from ...consensus.apply import Checked
from ...consensus.block import Body
from ..chain_index import (
    BODY_DECODE_BYTES_MAX,
    Place,
    batch_references,
    block_rows,
    placed_records,
    references,
)
from ..pruned_body import PRUNED_ROWS_KEY, PrunedBody, Row, RowSum
from ..store.port import Reader
from ..store.schema import Table, height_key
from .damage import StoreDamage, at, check_same
from .progress import STEP_ROWS
from .verify import Job, Level
from .verify_runs import RunsCheck, note_runs

INDEX_TABLES = (
    Table.ACTIVE,
    Table.STATEMENTS,
    Table.BATCHES,
    Table.LOOKS,
    Table.REFERENCES,
)


def decoded(body: Body) -> list[Checked]:
    """Return the statements of a stored body with their payloads; raises DecodeError."""
    return [Checked(statement, statement.decode_payload()) for statement in body.statements]


def pruned_rows(height: int, block_hash: bytes, body: PrunedBody) -> Iterator[Row]:
    """Return all index rows of a block but those that are made from the payloads of its batches."""
    yield Table.ACTIVE, height_key(height), block_hash
    for index, stub in enumerate(body.stubs):
        place = Place(height, index).encode()
        yield Table.STATEMENTS, stub.id, place
        batch, statement = stub.header.batch, stub.statement()
        if batch is not None:
            yield Table.BATCHES, stub.header.author + batch.records_root + place, stub.id
            named = batch_references(batch)
        else:
            named = () if statement is None else references(Checked(statement, statement.decode_payload()))
        for item in named:
            yield Table.REFERENCES, item + place, bytes([stub.header.kind])


def read_body(reader: Reader, block_hash: bytes) -> Body:
    """Return a stored body; raises StoreDamage."""
    with at(f"body of block {block_hash.hex()}"):
        return Body.decode(reader.get(Table.BODIES, block_hash) or b"", max_bytes=BODY_DECODE_BYTES_MAX)


def check_indexes(job: Job) -> None:
    """Derive every row from the bodies and look it up; then nothing else may be in the tables."""
    counted: Counter[str] = Counter()
    runs = RunsCheck(job)
    last = len(job.active)
    for height, block_hash in enumerate(job.active):
        counted.update(_check_rows(job.reader, height, _block_rows(job, height, block_hash, runs)))
        if height % STEP_ROWS == 0:
            job.progress("indexes", height, last)
    job.progress("indexes", last, last)
    counted.update(_check_dropped(job, runs.dropped))
    for table in INDEX_TABLES:
        expected, got = counted[table], job.reader.count(table)
        if expected != got:
            raise StoreDamage(f"table '{table}'", expected=f"{expected} rows", got=f"{got} rows")
    job.report.note(
        Level.INDEXES, "index rows: derived from bodies, looked up, none besides", sum(counted.values())
    )
    note_runs(job, runs.finish())


def _block_rows(job: Job, height: int, block_hash: bytes, runs: RunsCheck) -> Iterable[Row]:
    """Return the rows of a block but those of its records, which `runs` takes."""
    with at(f"index rows of block {block_hash.hex()}"):
        if 0 < height < job.report.pruned_below:
            kept = PrunedBody.decode(job.reader.get(Table.PRUNED, block_hash) or b"")
            batches = (stub.header.batch for stub in kept.stubs)
            runs.add_dropped(height, sum(batch.record_count for batch in batches if batch is not None))
            return list(pruned_rows(height, block_hash, kept))
        checked = decoded(read_body(job.reader, block_hash))
        runs.add(height, placed_records(checked))
        return list(block_rows(height, block_hash, checked))


def _check_rows(reader: Reader, height: int, rows: Iterable[Row]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for table, key, value in rows:
        counted[table] += 1
        found = reader.get(table, key)
        if found != value:
            check_same(f"table '{table}', key {key.hex()} (height {height})", value, found)
    return counted


def _check_dropped(job: Job, found: RowSum) -> Counter[str]:
    """Rows of dropped payloads cannot be derived again: their sum was kept when they were dropped."""
    counted: Counter[str] = Counter()
    if not job.report.pruned_below:
        return counted
    for key, value in job.reader.scan(Table.LOOKS, stop=height_key(job.report.pruned_below)):
        found = found.add([(Table.LOOKS, key, value)])
        counted[Table.LOOKS] += 1
    kept = RowSum.decode(job.reader.get(Table.META, PRUNED_ROWS_KEY))
    check_same("sum over index rows of dropped bodies", kept.encode(), found.encode())
    job.report.note(Level.INDEXES, "index rows of dropped payloads: against their kept sum", found.count)
    return counted
