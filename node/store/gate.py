"""Who may enter a store now: many readers, one writer, nobody while the map is being replaced.

Owns the waiting and the refusals that both stores share, and touches no data. Threads are told apart by
their identity, so that a thread which would wait for itself is refused instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, get_ident
from typing import Final

from .errors import StoreBusy, StoreClosed, StoreMisuse

DRAIN_SECONDS_MAX: Final = 30.0
"""How long growing or closing waits for open reads; a read held longer than this is a fault of its holder."""


class Gate:
    """Admission to one open store."""

    def __init__(self, *, drain_seconds: float = DRAIN_SECONDS_MAX) -> None:
        self._condition = Condition()
        self._readers: Counter[int] = Counter()
        self._writer: int | None = None
        self._draining = False
        self._closed = False
        self._drain_seconds = drain_seconds

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold a place among the readers. A thread that has one already is never made to wait for itself."""
        me = get_ident()
        with self._condition:
            while self._draining and me not in self._readers:
                self._condition.wait()
            self._check_open()
            self._readers[me] += 1
        try:
            yield
        finally:
            with self._condition:
                self._readers[me] -= 1
                if not self._readers[me]:
                    del self._readers[me]
                self._condition.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the only writer's place, waiting for the one before."""
        me = get_ident()
        with self._condition:
            if self._writer == me:
                raise StoreMisuse("transact: expected no transaction in this thread, got a nested one")
            self._refuse_own_read("transact")
            while self._writer is not None:
                self._condition.wait()
            self._check_open()
            self._writer = me
        try:
            yield
        finally:
            with self._condition:
                self._writer = None
                self._condition.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no read is open and keep new ones out; StoreBusy when that takes too long."""
        with self._condition:
            self._draining = True
            try:
                self._drain()
                yield
            finally:
                self._draining = False
                self._condition.notify_all()

    def close(self) -> bool:
        """Wait for everybody to leave and let nobody in again. False when it was closed before."""
        me = get_ident()
        with self._condition:
            if self._closed:
                return False
            if self._writer == me:
                raise StoreMisuse("close: expected no transaction in this thread, got one that is running")
            self._refuse_own_read("close")
            if not self._condition.wait_for(lambda: self._writer is None, self._drain_seconds):
                raise StoreBusy(
                    f"a transaction ran for over {self._drain_seconds:g} s; let it end, then close"
                )
            self._drain()
            self._closed = True
            return True

    def _drain(self) -> None:
        if not self._condition.wait_for(lambda: not self._readers, self._drain_seconds):
            raise StoreBusy(
                f"expected open reads to end within {self._drain_seconds:g} s, "
                f"got {self._readers.total()} still open; keep reads short and try again"
            )

    def _refuse_own_read(self, what: str) -> None:
        if get_ident() in self._readers:
            raise StoreMisuse(f"{what}: expected no open read in this thread, got one; leave it first")

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosed("the store is closed; open it again")
