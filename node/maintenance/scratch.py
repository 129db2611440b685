"""A state on the side: its own LMDB file in a temporary folder, thrown away at the end.

Owns the file. Nothing in it is durable, and its size is bounded by the disk, not by memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import lmdb

from ...consensus.kv import Bucket, Delta

MAP_BYTES: Final = 1 << 38


class ScratchState:
    """Every bucket of a state, to be changed freely. A `consensus.kv.StateReader`; made by :func:`scratch_state`."""

    def __init__(self, transaction: lmdb.Transaction[bytes], databases: dict[str, lmdb._Database]) -> None:
        """Work inside one transaction."""
        self._transaction = transaction
        self._databases = databases

    def get(self, bucket: Bucket, key: bytes, /) -> bytes | None:
        """Return the value under `key`, None when there is none."""
        return self._transaction.get(key, db=self._databases[bucket])

    def put(self, bucket: Bucket, key: bytes, value: bytes, /) -> None:
        """Keep `value` under `key`."""
        self._transaction.put(key, value, db=self._databases[bucket])

    def rows(self, bucket: Bucket, /) -> Iterator[tuple[bytes, bytes]]:
        """Yield every row of a bucket, ascending."""
        with self._transaction.cursor(self._databases[bucket]) as cursor:
            yield from cursor

    def apply(self, delta: Delta) -> None:
        """Write a change set; ValueError when it does not replace what is here."""
        for change in delta:
            if self.get(change.bucket, change.key) != change.old:
                raise ValueError(f"change of {change.bucket} {change.key.hex()}: it replaces another value")
            if change.new is None:
                self._transaction.delete(change.key, db=self._databases[change.bucket])
            else:
                self.put(change.bucket, change.key, change.new)


@contextmanager
def scratch_state() -> Iterator[ScratchState]:
    """Open an empty state, removed at the end."""
    with (
        tempfile.TemporaryDirectory(prefix="facechain-state-") as folder,
        lmdb.Environment(
            folder, map_size=MAP_BYTES, max_dbs=len(Bucket), sync=False, lock=False
        ) as environment,
    ):
        databases = {str(bucket): environment.open_db(bucket.encode()) for bucket in Bucket}
        transaction = environment.begin(write=True)
        try:
            yield ScratchState(transaction, databases)
        finally:
            transaction.abort()
