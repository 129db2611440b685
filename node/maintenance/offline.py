"""Entering a store as a tool does: read-only beside a running node, or alone with the instance lock held.

Owns the read-only environment and the refusals (no store, in use). It creates no store and writes no data file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

import lmdb

from ..store.errors import StoreCorrupt, StoreError, StoreSchema
from ..store.lmdb_errors import store_error
from ..store.lmdb_file import DATA_NAME, check_file
from ..store.lmdb_store import DATABASES_MAX, READERS_MAX
from ..store.lmdb_transaction import LmdbReader
from ..store.lock import InstanceLock
from ..store.schema import BUCKETS, OLDEST_SCHEMA, SCHEMA_KEY, SCHEMA_VERSION, Table
from .damage import MaintenanceRefused

SPARE_MAP_BYTES: Final = 1 << 30
"""Map beyond twice the file: the node may grow the file between the look at it and the first read."""
ADDED_LATER: Final = frozenset(
    table.value for table in (Table.PRUNED, Table.RUNS, Table.PIXEL_RUNS, Table.FILE_RUNS)
)
"""Buckets that a sound store of schema 1 may lack: they are made when a node opens it."""


class TolerantReader(LmdbReader):
    """A reader to which a bucket that was added later, and is not in this file yet, is empty."""

    def get(self, bucket: str, key: bytes, /) -> bytes | None:
        """See `port.Reader.get`."""
        return super().get(bucket, key) if bucket in self._databases else None

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
        if bucket not in self._databases:
            return iter(())
        return super().scan(bucket, start=start, stop=stop, reverse=reverse, limit=limit)

    def count(self, bucket: str, /) -> int:
        """See `port.Reader.count`."""
        return super().count(bucket) if bucket in self._databases else 0


class ReadOnlyStore:
    """One LMDB environment opened without the right to write. A context manager made by :meth:`open`."""

    def __init__(
        self, folder: Path, environment: lmdb.Environment, databases: dict[str, lmdb._Database]
    ) -> None:
        """Keep an open environment."""
        self.folder = folder
        self.environment = environment
        self.databases = databases

    @classmethod
    def open(cls, folder: Path, *, oldest: int = SCHEMA_VERSION) -> Self:
        """Open the store in `folder`; `oldest` is the oldest schema that will do for what is to be read.

        Raises MaintenanceRefused (no store there), StoreCorrupt, StoreSchema or StoreError.
        """
        path = require_store(folder)
        check_file(folder)
        size = path.stat().st_size
        try:
            environment = lmdb.Environment(
                str(folder),
                map_size=2 * size + SPARE_MAP_BYTES,
                readonly=True,
                create=False,
                max_readers=READERS_MAX,
                max_dbs=DATABASES_MAX,
            )
        except lmdb.Error as error:
            raise store_error(error, folder) from error
        try:
            return cls(folder, environment, _databases(folder, environment, oldest))
        except BaseException:
            environment.close()
            raise

    @contextmanager
    def read(self) -> Iterator[LmdbReader]:
        """Read all buckets as of one moment."""
        try:
            transaction = self.environment.begin()
        except lmdb.Error as error:
            raise store_error(error, self.folder) from error
        reader = TolerantReader(transaction, self.databases, self.folder)
        try:
            yield reader
        finally:
            reader.end()
            transaction.abort()

    def copy_to(self, folder: Path) -> None:
        """Write the live pages of one moment to a new file in an empty folder; StoreError when it cannot."""
        try:
            self.environment.copy(str(folder), compact=True)
        except lmdb.Error as error:
            raise store_error(error, folder) from error

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the environment."""
        self.environment.close()


def require_store(folder: Path) -> Path:
    """Return the data file of a store that exists; MaintenanceRefused otherwise."""
    path = folder / DATA_NAME
    if not path.is_file() or path.stat().st_size == 0:
        raise MaintenanceRefused(f"{path}: expected a node's store, got nothing; check --data-dir")
    return path


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the store's instance lock; StoreLocked names the process that has it."""
    require_store(folder)
    with InstanceLock.acquire(folder):
        yield


def _databases(folder: Path, environment: lmdb.Environment, oldest: int) -> dict[str, lmdb._Database]:
    found: dict[str, lmdb._Database] = {}
    try:
        if environment.stat()["entries"] == 0:
            raise never_begun(folder)
        for bucket in BUCKETS:
            try:
                found[bucket] = environment.open_db(bucket.encode(), create=False)
            except lmdb.NotFoundError:
                if bucket not in ADDED_LATER:
                    raise _missing(folder, bucket) from None
        with environment.begin() as transaction:
            schema = transaction.get(SCHEMA_KEY, db=found[Table.META])
    except lmdb.Error as error:
        raise store_error(error, folder) from error
    got = None if schema is None else int.from_bytes(schema, "big")
    if got is None or not oldest <= got <= SCHEMA_VERSION:
        raise StoreSchema(folder, expected=SCHEMA_VERSION, got=got, oldest=OLDEST_SCHEMA)
    return found


def never_begun(folder: Path | str) -> MaintenanceRefused:
    """Return the refusal of a store that was made and holds no chain: its first start was cut short."""
    return MaintenanceRefused(f"{folder}: expected a chain, got a store that was never begun; start the node")


def _missing(folder: Path, bucket: str) -> StoreError:
    return StoreCorrupt(folder / DATA_NAME, expected=f"the table {bucket!r}", got="a file without it")
