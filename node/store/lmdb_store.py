"""The store on disk: one LMDB environment, one named database per bucket.

Owns the environment, its growth and its lock. Every commit is synced (no nosync, no metasync off, no
writemap): what `transact` returned from survives SIGKILL and power loss, and a cut at any instruction leaves
the last commit. An environment may not be used across a fork.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import lmdb

from .errors import StoreError, StoreFull, StoreSchema
from .gate import Gate
from .lmdb_errors import store_error
from .lmdb_file import DATA_NAME, check_file
from .lmdb_transaction import LmdbReader, LmdbWriter, MapIsFull
from .lock import InstanceLock
from .port import Reader, Writer
from .schema import BUCKETS, OLDEST_SCHEMA, RETIRED, SCHEMA_KEY, SCHEMA_VERSION, Table

T = TypeVar("T")

MAP_BYTES_INITIAL: Final = 64 << 20
"""Map of a new store. The file itself grows only as far as it is written."""
MAP_STEP_BYTES_MAX: Final = 16 << 30
"""The map doubles until a step would be larger than this, and grows by this much from there on."""
MAP_BYTES_MAX: Final = 1 << 40
"""Largest map; beyond it a transaction fails with StoreFull."""
OPEN_ROOM_BYTES: Final = 1 << 20
"""Room that the map of an opened store has beyond its file, so that opening itself never meets a full map."""
READERS_MAX: Final = 512
"""Reads open at once, over all threads."""
DATABASES_MAX: Final = 64
"""Named databases that the environment has room for."""
_PAGE_BYTES: Final = 64 << 10
"""Map sizes are multiples of this, the largest page size of the platforms that LMDB runs on."""
_SCHEMA_BYTES: Final = 4


class LmdbStore:
    """A `port.Store` on disk, made by `open`."""

    def __init__(
        self,
        *,
        folder: Path,
        environment: lmdb.Environment,
        databases: dict[str, lmdb._Database],
        lock: InstanceLock,
    ) -> None:
        self._folder = folder
        self._environment = environment
        self._databases = databases
        self._lock = lock
        self._gate = Gate()

    @classmethod
    def open(cls, folder: Path, *, map_bytes: int = MAP_BYTES_INITIAL) -> LmdbStore:
        """Open the store in `folder`, which is created when missing; one of an older schema is migrated.

        Raises StoreLocked, StoreCorrupt, StoreSchema (a newer layout), StoreFull or StoreError.
        """
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{folder}: expected a folder that can be made, got {error.strerror}") from error
        with ExitStack() as undo:
            lock = undo.enter_context(InstanceLock.acquire(folder))
            try:
                check_file(folder)
                environment = undo.enter_context(_environment(folder, map_bytes))
                databases = _databases(folder, environment)
            except lmdb.Error as error:
                raise store_error(error, folder) from error
            except OSError as error:
                raise StoreError(f"{folder}: expected a readable store, got {error.strerror}") from error
            store = cls(folder=folder, environment=environment, databases=databases, lock=lock)
            store._migrate()
            undo.pop_all()
        return store

    @property
    def map_bytes(self) -> int:
        """Size of the map: how far the file may grow before the map has to."""
        return self._environment.info()["map_size"]

    @contextmanager
    def read(self) -> Iterator[Reader]:
        """See `port.Store.read`."""
        with self._gate.reading():
            try:
                transaction = self._environment.begin()
            except lmdb.Error as error:
                raise store_error(error, self._folder) from error
            reader = LmdbReader(transaction, self._databases, self._folder)
            try:
                yield reader
            finally:
                reader.end()
                transaction.abort()

    def transact(self, change: Callable[[Writer], T], /) -> T:
        """See `port.Store.transact`. Runs `change` again, on a larger map, when the map is full."""
        with self._gate.writing():
            while True:
                writer: LmdbWriter | None = None
                try:
                    with self._environment.begin(write=True) as transaction:
                        writer = LmdbWriter(transaction, self._databases, self._folder)
                        return self._attempt(change, writer)
                except (MapIsFull, lmdb.MapFullError):
                    self._grow(writer.written_bytes if writer else 0)
                except lmdb.Error as error:
                    raise store_error(error, self._folder) from error

    def close(self) -> None:
        """See `port.Store.close`."""
        if self._gate.close():
            self._environment.close()
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _migrate(self) -> None:
        with self.read() as reader:
            found = int.from_bytes(reader.get(Table.META, SCHEMA_KEY) or b"", "big")
            is_current = found == SCHEMA_VERSION and not any(map(reader.count, RETIRED))
        if not is_current:
            from ..migrations import bring_up_to_date  # noqa: PLC0415 - it works through the port, on any store

            bring_up_to_date(self)

    def _attempt(self, change: Callable[[Writer], T], writer: LmdbWriter) -> T:
        """Run `change` once. A full map counts even where `change` caught or replaced the error."""
        try:
            result = change(writer)
        except Exception as error:
            if writer.map_is_full and not isinstance(error, MapIsFull):
                raise MapIsFull("the map is full") from error
            raise
        finally:
            writer.end()
        if writer.map_is_full:
            raise MapIsFull("the map is full")
        return result

    def _grow(self, written_bytes: int) -> None:
        """Replace the map by a larger one, with no transaction alive in this process."""
        now = self.map_bytes
        if now >= MAP_BYTES_MAX:
            raise StoreFull(f"{self._folder}: expected at most {MAP_BYTES_MAX} bytes of store; prune it")
        step = max(min(now, MAP_STEP_BYTES_MAX), written_bytes)
        with self._gate.alone():
            try:
                self._environment.reader_check()  # a tool that was killed would keep freed pages from use
                self._environment.set_mapsize(min(_round_up(now + step), MAP_BYTES_MAX))
            except lmdb.Error as error:
                raise store_error(error, self._folder) from error


def _environment(folder: Path, map_bytes: int) -> lmdb.Environment:
    data = folder / DATA_NAME
    stored_bytes = data.stat().st_size if data.exists() else 0
    return lmdb.Environment(
        str(folder),
        map_size=_round_up(max(map_bytes, stored_bytes + OPEN_ROOM_BYTES)),
        mode=0o600,
        max_readers=READERS_MAX,
        max_dbs=DATABASES_MAX,
    )


def _databases(folder: Path, environment: lmdb.Environment) -> dict[str, lmdb._Database]:
    """Open every bucket, creating those that are missing, after the schema was found to be ours or older."""
    is_new = environment.stat()["entries"] == 0
    with environment.begin(write=True) as transaction:
        meta = environment.open_db(Table.META.encode(), txn=transaction)
        ours = SCHEMA_VERSION.to_bytes(_SCHEMA_BYTES, "big")
        if is_new:
            transaction.put(SCHEMA_KEY, ours, db=meta)
        found = transaction.get(SCHEMA_KEY, db=meta)
        got = None if found is None else int.from_bytes(found, "big")
        if got is None or not OLDEST_SCHEMA <= got <= SCHEMA_VERSION:
            raise StoreSchema(folder, expected=SCHEMA_VERSION, got=got, oldest=OLDEST_SCHEMA)
        return {bucket: environment.open_db(bucket.encode(), txn=transaction) for bucket in BUCKETS}


def _round_up(size: int) -> int:
    return -(-size // _PAGE_BYTES) * _PAGE_BYTES
