"""Rows of the record index as arrays: made from the records of a block, put in order, cut into chunks.

Owns the arrays and their order; the layout of a row is in `placed`. Reads and writes nothing. It imports numpy, so it is
imported by the first block with records, not before.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...consensus.records import RECORD_BYTES
from ..store.schema import height_key
from .placed import CHUNK_ROWS, HASH_BYTES, ROW_BYTES, PlacedRecords, count_rows

CHUNKS_AT_ONCE: Final = 48
"""Chunks that are gathered in one step when a run is written."""

_PLACE: Final = struct.Struct(">QI")

Rows = NDArray[np.uint8]
"""Array of shape (rows, 48)."""


def block_rows(height: int, batches: Sequence[PlacedRecords], column: int) -> Rows:
    """Return the rows of a block in order; `column` is where the hash begins in a record."""
    rows = np.empty((count_rows(batches), ROW_BYTES), np.uint8)
    start = 0
    for batch in batches:
        records = np.frombuffer(batch.packed, np.uint8).reshape(-1, RECORD_BYTES)
        part = rows[start : start + len(records)]
        part[:, :HASH_BYTES] = records[:, column : column + HASH_BYTES]
        part[:, HASH_BYTES:44] = np.frombuffer(_PLACE.pack(height, batch.statement), np.uint8)
        part[:, 44:] = np.arange(len(records), dtype=">u4").view(np.uint8).reshape(-1, 4)
        start += len(records)
    return rows[order_of(rows)]


def order_of(rows: Rows) -> NDArray[np.intp]:
    """Return the indexes that put rows in ascending order of all their bytes.

    The first eight bytes decide nearly always; rows that share them are put in order by their whole text.
    """
    keys = np.ascontiguousarray(rows[:, :8]).view(">u8").ravel().astype(np.uint64)
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    same = ranked[1:] == ranked[:-1]
    if same.any():
        tied = np.zeros(len(rows), np.bool_)
        tied[1:] |= same
        tied[:-1] |= same
        places = np.flatnonzero(tied)
        among = order[places]
        order[places] = among[np.argsort(_texts(rows[among]), kind="stable")]
    return order


def is_ascending(rows: Rows) -> bool:
    """Tell whether every row is above the one before it."""
    texts = _texts(rows)
    return bool((texts[1:] > texts[:-1]).all())


def _texts(rows: Rows) -> NDArray[np.bytes_]:
    """Return whole rows as comparable items: of equal length, so numpy's order is that of the bytes."""
    return np.ascontiguousarray(rows).view(f"S{ROW_BYTES}").ravel()


def heights_of(rows: Rows) -> NDArray[np.uint64]:
    """Return the height in each row."""
    return np.ascontiguousarray(rows[:, HASH_BYTES:40]).view(">u8").ravel().astype(np.uint64)


def chunks(first: int, rows: Rows, order: NDArray[np.intp] | None = None) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, value) of a run's chunks, ascending; `order` puts the rows in order on the way.

    The key is the run's first height and the chunk's last row: the first key at or above a hash is the
    chunk in which that hash begins.
    """
    prefix = height_key(first)
    step = CHUNKS_AT_ONCE * CHUNK_ROWS
    for start in range(0, len(rows), step):
        part = rows[start : start + step] if order is None else rows[order[start : start + step]]
        text = part.tobytes()
        for at in range(0, len(text), CHUNK_ROWS * ROW_BYTES):
            value = text[at : at + CHUNK_ROWS * ROW_BYTES]
            yield prefix + value[-ROW_BYTES:], value
