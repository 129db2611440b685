"""The store's port: a small, ordered, transactional key-value interface on which the whole node sits.

Owns the contract and does no I/O. Keys are 1 to 511 bytes, sorted as bytes; values are any bytes; buckets
are the names in `schema.BUCKETS`. What every store promises:

- A read sees one moment: commits made after it began are invisible to it.
- `transact` gives its function the only writer there is. When it returns, all changes of the function
  are durable; when the function raises, none of them is kept.
- The function may be run again from its start (a store that must grow its map does so), hence it must have
  no effect but those through its writer.
- A thread that holds a read open may not call `transact`, and transactions do not nest: either would wait
  for itself, so both are refused with `StoreMisuse`. Reads are therefore kept short and never held across
  an `await`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self, TypeVar

T = TypeVar("T")


class Reader(Protocol):
    """All buckets at one moment. It is a `consensus.kv.StateReader`. Returned bytes are copies."""

    def get(self, bucket: str, key: bytes, /) -> bytes | None:
        """Return the value under `key`, None when there is none."""
        ...

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
        """Yield (key, value) with start <= key < stop in ascending order, or descending with `reverse`.

        At most `limit` rows. A writer may change the bucket while it scans it: rows that it puts or deletes
        meanwhile may or may not be seen, every other row is seen once.
        """
        ...

    def count(self, bucket: str, /) -> int:
        """Return how many keys the bucket holds."""
        ...


class Writer(Reader, Protocol):
    """The one writer; its reads see its own changes."""

    def put(self, bucket: str, key: bytes, value: bytes, /) -> None:
        """Keep `value` under `key`, in place of what was there."""
        ...

    def put_many(self, bucket: str, rows: Iterable[tuple[bytes, bytes]], /) -> None:
        """Keep every (key, value) of `rows`; ascending keys are the fastest."""
        ...

    def delete(self, bucket: str, key: bytes, /) -> None:
        """Forget `key`; nothing happens when it is not there."""
        ...


class Store(Protocol):
    """A place where bytes stay. Opened by the class method of the implementation, closed by `with`."""

    def read(self) -> AbstractContextManager[Reader]:
        """Return a context in which the store stands still."""
        ...

    def transact(self, change: Callable[[Writer], T], /) -> T:
        """Run `change` on the writer, commit durably, and return what it returned."""
        ...

    def close(self) -> None:
        """Wait for open transactions to end and let go of the store; closing again does nothing."""
        ...

    def __enter__(self) -> Self:
        """Return the store."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close the store."""
        ...
