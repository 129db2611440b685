"""Where the records of a block come from, and the sizes of the rows that they become. Holds values only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ...consensus.records import RECORD_BYTES

HASH_BYTES: Final = 32
ROW_BYTES: Final = 48
"""Hash, height u64, statement index u32, record index u32, big-endian: sorted by hash, then by place."""
CHUNK_ROWS: Final = 341
"""Rows of a chunk, the value of one key: with LMDB's page header they fill four pages to the last byte."""


@dataclass(frozen=True, slots=True)
class PlacedRecords:
    """The packed records of one batch, and the index of its statement in the block."""

    statement: int
    packed: bytes


def count_rows(batches: Sequence[PlacedRecords]) -> int:
    """Return how many records the batches have."""
    return sum(len(batch.packed) for batch in batches) // RECORD_BYTES


def plain_rows(height: int, batches: Sequence[PlacedRecords], column: int) -> Iterator[bytes]:
    """Yield the rows of a block in the order of its records; `column` is where the hash begins in a record."""
    for batch in batches:
        place = height.to_bytes(8, "big") + batch.statement.to_bytes(4, "big")
        for number, start in enumerate(range(column, len(batch.packed), RECORD_BYTES)):
            yield batch.packed[start : start + HASH_BYTES] + place + number.to_bytes(4, "big")
