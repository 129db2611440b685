"""The directory of the record index: which runs there are, and when runs become one.

Owns the rows of `Table.RUNS` and the rule of merging. A run covers a range of heights. The list of runs is a
function of the heights and record counts of the active chain alone: each block with records adds a run of
level 0 at the end, and whenever the last `FAN` runs have one level and few enough rows together, they become
one run of the next level. Rows of merged runs stay in the directory, so that a disconnect undoes a merge exactly.
`FAN` and `MAX_RUN_ROWS` are part of the store's schema.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ..store.errors import StoreError
from ..store.port import Reader, Writer
from ..store.schema import Table, height_key, prefix_stop

FAN: Final = 8
"""Runs of one level that become one of the next."""
MAX_RUN_ROWS: Final = 3 << 18
"""Rows up to which runs are merged: bounds the pause and the memory of the block that completes a merge."""

LIVE: Final = b"\x00"
"""First byte of the key of a run that holds rows; the run's first height follows."""
MERGED: Final = b"\x01"
"""First byte of the key of a run that went into a larger one; its level and first height follow."""

_VALUE: Final = struct.Struct(">BQQ")
_LIVE_KEY_BYTES: Final = 9
_MERGED_KEY_BYTES: Final = 10


class RunsDamaged(StoreError):
    """The record index is not as it was written."""

    code = "store-damaged"

    def __init__(self, place: str, *, expected: str, got: str) -> None:
        """Name the place and keep both sides."""
        super().__init__(
            f"{place}: expected {expected}, got {got}; restore a backup, or run 'facechain db reindex'"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One sorted run in each of the two run tables, over the same records."""

    level: int
    first: int
    """Height of the first block whose records are in it."""
    last: int
    """Height of the last block whose records are in it."""
    rows: int

    @classmethod
    def of_block(cls, height: int, rows: int) -> Run:
        """Return the run that a block adds."""
        return cls(level=0, first=height, last=height, rows=rows)

    @classmethod
    def over(cls, group: Sequence[Run]) -> Run:
        """Return the run that a group of adjacent runs becomes."""
        rows = sum(run.rows for run in group)
        return cls(level=group[0].level + 1, first=group[0].first, last=group[-1].last, rows=rows)

    @property
    def live_key(self) -> bytes:
        """Key of the directory row while the run holds rows."""
        return LIVE + height_key(self.first)

    @property
    def merged_key(self) -> bytes:
        """Key of the directory row after the run went into a larger one."""
        return MERGED + bytes([self.level]) + height_key(self.first)

    def encode(self) -> bytes:
        """Return level u8, last height u64, rows u64; the first height is in the key."""
        return _VALUE.pack(self.level, self.last, self.rows)

    @classmethod
    def decode(cls, key: bytes, value: bytes) -> Run:
        """Read a directory row; raises RunsDamaged."""
        if len(value) != _VALUE.size or len(key) not in {_LIVE_KEY_BYTES, _MERGED_KEY_BYTES}:
            raise RunsDamaged(
                f"run {key.hex()}", expected=f"{_VALUE.size} bytes under a key of a run", got=value.hex()
            )
        level, last, rows = _VALUE.unpack(value)
        return cls(level=level, first=int.from_bytes(key[-8:], "big"), last=last, rows=rows)

    def __str__(self) -> str:
        """Name the run for a person."""
        return f"run of heights {self.first} to {self.last}"


def is_due(group: Sequence[Run]) -> bool:
    """Tell whether the last `FAN` runs of the directory are to become one."""
    return (
        len(group) == FAN
        and all(run.level == group[0].level for run in group)
        and sum(run.rows for run in group) <= MAX_RUN_ROWS
    )


def directory_of(leaves: Iterable[Run]) -> list[tuple[bytes, bytes]]:
    """Return all directory rows, ascending, that blocks with these level-0 runs lead to."""
    live: list[Run] = []
    rows: dict[bytes, bytes] = {}
    for leaf in leaves:
        live.append(leaf)
        while is_due(group := live[-FAN:]):
            rows.update((run.merged_key, run.encode()) for run in group)
            live[-FAN:] = [Run.over(group)]
    rows.update((run.live_key, run.encode()) for run in live)
    return sorted(rows.items())


def live_runs(reader: Reader) -> list[Run]:
    """Return the runs that hold rows, oldest first."""
    return [Run.decode(key, value) for key, value in reader.scan(Table.RUNS, start=LIVE, stop=MERGED)]


def newest_runs(reader: Reader, count: int) -> list[Run]:
    """Return the last `count` runs that hold rows, oldest of them first."""
    rows = reader.scan(Table.RUNS, start=LIVE, stop=MERGED, reverse=True, limit=count)
    return [Run.decode(key, value) for key, value in rows][::-1]


def due_runs(reader: Reader) -> list[Run]:
    """Return the newest runs if they are to become one, oldest first; else nothing."""
    group = newest_runs(reader, FAN)
    return group if is_due(group) else []


def put_live(writer: Writer, run: Run) -> None:
    """Enter a run that holds rows."""
    writer.put(Table.RUNS, run.live_key, run.encode())


def put_merged(writer: Writer, group: Sequence[Run]) -> Run:
    """Enter that a group of live runs became one; return that one."""
    for run in group:
        writer.delete(Table.RUNS, run.live_key)
        writer.put(Table.RUNS, run.merged_key, run.encode())
    whole = Run.over(group)
    put_live(writer, whole)
    return whole


def take_parts(writer: Writer, whole: Run) -> list[Run]:
    """Enter that a merged run is its parts again; return them, oldest first. Raises RunsDamaged."""
    prefix = MERGED + bytes([whole.level - 1])
    rows = writer.scan(
        Table.RUNS, start=prefix + height_key(whole.first), stop=prefix_stop(prefix), limit=FAN
    )
    parts = [Run.decode(key, value) for key, value in rows]
    if not parts or Run.over(parts) != whole:
        raise RunsDamaged(f"parts of the {whole}", expected=str(whole), got=f"{len(parts)} others")
    writer.delete(Table.RUNS, whole.live_key)
    for part in parts:
        writer.delete(Table.RUNS, part.merged_key)
        put_live(writer, part)
    return parts
