"""Reading and writing inside one LMDB transaction.

Owns the port's reader and writer over py-lmdb, and how a scan is stepped. Begins and ends no transaction:
that is the store's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import lmdb

from .errors import StoreClosed, StoreError, StoreFull
from .lmdb_errors import store_error
from .schema import check_bounds, check_bucket, check_key, check_value

SCAN_ROWS: Final = (16, 512)
"""Rows copied per step of a scan: of the first step, and at most."""
SCAN_BYTES_MAX: Final = 1 << 20
"""A step of a scan ends when it holds this much."""


class MapIsFull(StoreFull):
    """The transaction needs a larger map; raised through the caller's function, which is then run again."""


class LmdbReader:
    """All buckets as seen by one LMDB transaction."""

    def __init__(
        self, transaction: lmdb.Transaction[bytes], databases: dict[str, lmdb._Database], folder: Path
    ) -> None:
        self._transaction = transaction
        self._databases = databases
        self._folder = folder
        self._ended = False

    def get(self, bucket: str, key: bytes, /) -> bytes | None:
        """See `port.Reader.get`."""
        check_key(key)
        database = self._database(bucket)
        try:
            return self._transaction.get(key, db=database)
        except lmdb.Error as error:
            raise store_error(error, self._folder) from error

    def scan(
        self,
        bucket: str,
        /,
        *,
        start: bytes = b"",
        stop: bytes | None = None,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[bytes, bytes]]:
        """See `port.Reader.scan`."""
        check_bounds(start, stop, limit)
        self._database(bucket)
        return self._rows(bucket, start, stop, reverse=reverse, limit=limit)

    def count(self, bucket: str, /) -> int:
        """See `port.Reader.count`."""
        database = self._database(bucket)
        try:
            return self._transaction.stat(database)["entries"]
        except lmdb.Error as error:
            raise store_error(error, self._folder) from error

    def end(self) -> None:
        """Refuse any further use.

        The transaction is let go of: lmdb frees the place of a reader with that object only, and an error whose
        traceback names this reader may be kept for long.
        """
        self._ended = True
        del self._transaction

    def _rows(
        self, bucket: str, start: bytes, stop: bytes | None, *, reverse: bool, limit: int | None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield copied rows step by step, so that no cursor stays open between two of the caller's steps."""
        size, largest = SCAN_ROWS
        after: bytes | None = None
        while limit is None or limit > 0:
            size = size if limit is None else min(size, limit)
            rows, ended = self._step(bucket, start, stop, after, reverse=reverse, size=size)
            yield from rows
            if ended:
                return
            after = rows[-1][0]
            limit = None if limit is None else limit - len(rows)
            size = min(2 * size, largest)

    def _step(
        self, bucket: str, start: bytes, stop: bytes | None, after: bytes | None, *, reverse: bool, size: int
    ) -> tuple[list[tuple[bytes, bytes]], bool]:
        """Return up to `size` rows beyond key `after`, and whether they are the last."""
        rows: list[tuple[bytes, bytes]] = []
        held = 0
        database = self._database(bucket)
        try:
            with self._transaction.cursor(database) as cursor:
                if reverse:
                    found = _seek_below(cursor, stop if after is None else after)
                    walk = cursor.iterprev()
                else:
                    found = _seek_from(cursor, start, after)
                    walk = cursor.iternext()
                for key, value in walk if found else ():
                    if key < start or (stop is not None and key >= stop):
                        return rows, True
                    rows.append((key, value))
                    held += len(value)
                    if len(rows) == size or held >= SCAN_BYTES_MAX:
                        return rows, False
                return rows, True
        except lmdb.Error as error:
            raise store_error(error, self._folder) from error

    def _database(self, bucket: str) -> lmdb._Database:
        if self._ended:
            raise StoreClosed("a reader was used after its transaction ended; read inside the transaction")
        check_bucket(bucket)
        return self._databases[bucket]


class LmdbWriter(LmdbReader):
    """The one write transaction."""

    def __init__(
        self, transaction: lmdb.Transaction[bytes], databases: dict[str, lmdb._Database], folder: Path
    ) -> None:
        super().__init__(transaction, databases, folder)
        self.map_is_full = False
        self.written_bytes = 0

    def put(self, bucket: str, key: bytes, value: bytes, /) -> None:
        """See `port.Writer.put`."""
        check_key(key)
        check_value(value)
        database = self._database(bucket)
        self.written_bytes += len(key) + len(value)
        try:
            self._transaction.put(key, value, db=database)
        except lmdb.Error as error:
            raise self._failure(error) from error

    def put_many(self, bucket: str, rows: Iterable[tuple[bytes, bytes]], /) -> None:
        """See `port.Writer.put_many`."""
        database, put = self._database(bucket), self._transaction.put
        try:
            for key, value in rows:
                check_key(key)
                check_value(value)
                self.written_bytes += len(key) + len(value)
                put(key, value, db=database)
        except lmdb.Error as error:
            raise self._failure(error) from error

    def delete(self, bucket: str, key: bytes, /) -> None:
        """See `port.Writer.delete`."""
        check_key(key)
        database = self._database(bucket)
        try:
            self._transaction.delete(key, db=database)
        except lmdb.Error as error:
            raise self._failure(error) from error

    def _failure(self, error: lmdb.Error) -> StoreError:
        if isinstance(error, lmdb.MapFullError):
            self.map_is_full = True
            return MapIsFull("the map is full; the transaction is run again on a larger one")
        return store_error(error, self._folder)


def _seek_from(cursor: lmdb.Cursor[bytes], start: bytes, after: bytes | None) -> bool:
    """Put the cursor on the first key that is >= start, or > after when that is given."""
    if after is None:
        return cursor.set_range(start)
    return cursor.set_range(after) and (cursor.key() != after or cursor.next())


def _seek_below(cursor: lmdb.Cursor[bytes], stop: bytes | None) -> bool:
    """Put the cursor on the last key that is < stop, or on the last of all."""
    if stop is None:
        return cursor.last()
    if stop == b"":
        return False
    return cursor.prev() if cursor.set_range(stop) else cursor.last()
