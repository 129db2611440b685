"""A store in memory that honours the whole contract of `port`, for tests and simulations.

Owns sorted tables and their versions. Keeps nothing when the process ends: "durable" means visible to every
later read. A table is copied only when it changes under an open read. `on_operation` is called before
each operation, so that a test can make the n-th one fail as a crash would.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from threading import Lock
from types import TracebackType
from typing import Final, Self, TypeVar

from .errors import StoreClosed
from .gate import Gate
from .port import Reader, Writer
from .schema import BUCKETS, check_bounds, check_bucket, check_key, check_value

T = TypeVar("T")

_INSORT_KEYS_MAX: Final = 16
"""New keys up to which inserting one by one beats sorting the whole list again."""


class Operation(StrEnum):
    """What a fault hook is told: each operation before it happens, and a commit also after it."""

    READ = "read"
    TRANSACT = "transact"
    GET = "get"
    SCAN = "scan"
    COUNT = "count"
    PUT = "put"
    DELETE = "delete"
    COMMIT = "commit"
    COMMITTED = "committed"


FaultHook = Callable[[Operation], None]
"""Called at each operation; what it raises ends the transaction, uncommitted unless at `COMMITTED`."""


class _Table:
    """Rows of one bucket, with their keys in order; shared by the store and `readers` open reads."""

    __slots__ = ("keys", "readers", "rows")

    def __init__(self, rows: dict[bytes, bytes], keys: list[bytes]) -> None:
        self.rows = rows
        self.keys = keys
        self.readers = 0

    def between(self, start: bytes, stop: bytes | None, *, reverse: bool) -> Iterator[bytes]:
        low = bisect_left(self.keys, start)
        high = len(self.keys) if stop is None else bisect_left(self.keys, stop)
        indexes = range(low, high)
        return map(self.keys.__getitem__, reversed(indexes) if reverse else indexes)

    def changed(self, changes: Mapping[bytes, bytes | None]) -> _Table:
        """Return the table after `changes`: this one, unless a read still needs it as it is."""
        table = _Table(self.rows.copy(), self.keys.copy()) if self.readers else self
        gone = {key for key, value in changes.items() if value is None and key in table.rows}
        for key in gone:
            del table.rows[key]
        if gone:
            table.keys = [key for key in table.keys if key not in gone]
        put = {key: value for key, value in changes.items() if value is not None}
        new = [key for key in put if key not in table.rows]
        table.rows.update(put)
        if len(new) <= _INSORT_KEYS_MAX:
            for key in new:
                insort(table.keys, key)
        else:
            table.keys.extend(new)
            table.keys.sort()
        return table


class _MemoryReader:
    """One version of all tables."""

    def __init__(self, tables: dict[str, _Table], hook: FaultHook) -> None:
        self._tables = tables
        self._hook = hook
        self._ended = False

    def get(self, bucket: str, key: bytes, /) -> bytes | None:
        table = self._table(Operation.GET, bucket)
        check_key(key)
        return table.rows.get(key)

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
        table = self._table(Operation.SCAN, bucket)
        check_bounds(start, stop, limit)
        return self._rows(bucket, table.between(start, stop, reverse=reverse), limit)

    def count(self, bucket: str, /) -> int:
        return len(self._table(Operation.COUNT, bucket).rows)

    def end(self) -> None:
        """Refuse any further use."""
        self._ended = True

    def _rows(self, bucket: str, keys: Iterator[bytes], limit: int | None) -> Iterator[tuple[bytes, bytes]]:
        left = limit
        while left is None or left > 0:
            self._check_live()
            key = next(keys, None)
            if key is None:
                return
            value = self._value(bucket, key)
            if value is None:
                continue
            yield key, value
            left = None if left is None else left - 1

    def _value(self, bucket: str, key: bytes) -> bytes | None:
        return self._tables[bucket].rows.get(key)

    def _table(self, operation: Operation, bucket: str) -> _Table:
        self._check_live()
        self._hook(operation)
        check_bucket(bucket)
        return self._tables[bucket]

    def _check_live(self) -> None:
        if self._ended:
            raise StoreClosed("a reader was used after its transaction ended; read inside the transaction")


class _MemoryWriter(_MemoryReader):
    """Changes on top of the newest version, which nobody else can change meanwhile."""

    def __init__(self, tables: dict[str, _Table], hook: FaultHook) -> None:
        super().__init__(tables, hook)
        self.changes: dict[str, dict[bytes, bytes | None]] = {bucket: {} for bucket in BUCKETS}

    def get(self, bucket: str, key: bytes, /) -> bytes | None:
        self._table(Operation.GET, bucket)
        check_key(key)
        return self._value(bucket, key)

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
        table = self._table(Operation.SCAN, bucket)
        check_bounds(start, stop, limit)
        new = [key for key in self.changes[bucket] if key not in table.rows]
        fresh = (key for key in sorted(new, reverse=reverse) if start <= key and (stop is None or key < stop))
        known = table.between(start, stop, reverse=reverse)
        return self._rows(bucket, heapq.merge(known, fresh, reverse=reverse), limit)

    def count(self, bucket: str, /) -> int:
        table = self._table(Operation.COUNT, bucket)
        change = sum((value is not None) - (key in table.rows) for key, value in self.changes[bucket].items())
        return len(table.rows) + change

    def put(self, bucket: str, key: bytes, value: bytes, /) -> None:
        self._table(Operation.PUT, bucket)
        check_key(key)
        check_value(value)
        self.changes[bucket][key] = bytes(value)

    def put_many(self, bucket: str, rows: Iterable[tuple[bytes, bytes]], /) -> None:
        for key, value in rows:
            self.put(bucket, key, value)

    def delete(self, bucket: str, key: bytes, /) -> None:
        self._table(Operation.DELETE, bucket)
        check_key(key)
        self.changes[bucket][key] = None

    def _value(self, bucket: str, key: bytes) -> bytes | None:
        changes = self.changes[bucket]
        return changes[key] if key in changes else super()._value(bucket, key)


def _no_fault(operation: Operation) -> None:
    """Let `operation` happen."""


class MemoryStore:
    """A `port.Store` whose content ends with the object; close() keeps it for `reopen`."""

    def __init__(self, *, on_operation: FaultHook = _no_fault) -> None:
        self._tables = {bucket: _Table({}, []) for bucket in BUCKETS}
        self._hook = on_operation
        self._gate = Gate()
        self._versions = Lock()

    @classmethod
    def open(cls, *, on_operation: FaultHook = _no_fault) -> MemoryStore:
        """Return an empty store."""
        return cls(on_operation=on_operation)

    def reopen(self, *, on_operation: FaultHook = _no_fault) -> MemoryStore:
        """Return a new store with what was committed to this one, as after a crash or a restart."""
        store = MemoryStore(on_operation=on_operation)
        with self._versions:
            store._tables = {name: _Table(t.rows.copy(), t.keys.copy()) for name, t in self._tables.items()}
        return store

    @contextmanager
    def read(self) -> Iterator[Reader]:
        """See `port.Store.read`."""
        with self._gate.reading():
            self._hook(Operation.READ)
            with self._versions:
                tables = self._tables.copy()
                for table in tables.values():
                    table.readers += 1
            reader = _MemoryReader(tables, self._hook)
            try:
                yield reader
            finally:
                reader.end()
                with self._versions:
                    for table in tables.values():
                        table.readers -= 1

    def transact(self, change: Callable[[Writer], T], /) -> T:
        """See `port.Store.transact`."""
        with self._gate.writing():
            self._hook(Operation.TRANSACT)
            writer = _MemoryWriter(self._tables, self._hook)
            try:
                result = change(writer)
            finally:
                writer.end()
            self._hook(Operation.COMMIT)
            with self._versions:
                for bucket, changes in writer.changes.items():
                    if changes:
                        self._tables[bucket] = self._tables[bucket].changed(changes)
            self._hook(Operation.COMMITTED)
            return result

    def close(self) -> None:
        """See `port.Store.close`."""
        self._gate.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
