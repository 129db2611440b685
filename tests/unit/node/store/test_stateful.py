"""Both stores against a dictionary, with any mixture of changes, aborts, open reads and reopening."""

import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from facechain.node.store.lmdb_store import LmdbStore
from facechain.node.store.memory import MemoryStore
from facechain.node.store.port import Reader, Store, Writer
from facechain.node.store.schema import Table

BUCKETS = (Table.TESTS, Table.PIXEL_RUNS)
SNAPSHOTS_MAX = 3

Model = dict[str, dict[bytes, bytes]]
keys = st.binary(min_size=1, max_size=2)
values = st.one_of(st.binary(max_size=3), st.sampled_from([5_000, 70_000]))  # bytes, or how many zeros
buckets = st.sampled_from(BUCKETS)
changes = st.lists(st.tuples(buckets, keys, st.one_of(st.none(), values)), max_size=30)
bounds = st.tuples(st.binary(max_size=2), st.one_of(st.none(), st.binary(max_size=2)))
limits = st.one_of(st.none(), st.integers(0, 20))


class Abort(Exception):
    """Raised on purpose inside a transaction."""


def copied(model: Model) -> Model:
    return {bucket: dict(rows) for bucket, rows in model.items()}


def check_same(reader: Reader, model: Model) -> None:
    for bucket, rows in model.items():
        assert list(reader.scan(bucket)) == sorted(rows.items())
        assert reader.count(bucket) == len(rows)


class StoreMachine(RuleBasedStateMachine):
    """One store; its snapshots are opened in a thread of their own, as a read refuses its thread's writes."""

    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.model: Model = {bucket: {} for bucket in BUCKETS}
        self.snapshots: list[tuple[ExitStack, Reader, Model]] = []
        self.reading = ThreadPoolExecutor(1)
        self.folder = tempfile.TemporaryDirectory()
        self.store = self.opened()

    def opened(self) -> Store:
        raise NotImplementedError

    @rule(changes=changes, abort=st.booleans())
    def transact(self, changes: Iterable[tuple[str, bytes, bytes | int | None]], *, abort: bool) -> None:
        model = copied(self.model)

        def change(writer: Writer) -> None:
            for bucket, key, value in changes:
                if value is None:
                    writer.delete(bucket, key)
                    model[bucket].pop(key, None)
                else:
                    model[bucket][key] = bytes(value)
                    writer.put(bucket, key, bytes(value))
            check_same(writer, model)
            if abort:
                raise Abort

        try:
            self.store.transact(change)
        except Abort:
            return
        self.model = model

    @rule(bucket=buckets, bounds=bounds, limit=limits, reverse=st.booleans())
    def scan(
        self, bucket: str, bounds: tuple[bytes, bytes | None], limit: int | None, *, reverse: bool
    ) -> None:
        start, stop = bounds
        rows = sorted(self.model[bucket].items(), reverse=reverse)
        expected = [row for row in rows if start <= row[0] and (stop is None or row[0] < stop)][:limit]
        with self.store.read() as reader:
            assert list(reader.scan(bucket, start=start, stop=stop, limit=limit, reverse=reverse)) == expected

    @rule(bucket=buckets, key=keys)
    def get(self, bucket: str, key: bytes) -> None:
        with self.store.read() as reader:
            assert reader.get(bucket, key) == self.model[bucket].get(key)

    @precondition(lambda self: len(self.snapshots) < SNAPSHOTS_MAX)
    @rule()
    def open_snapshot(self) -> None:
        stack = ExitStack()
        reader = self.reading.submit(lambda: stack.enter_context(self.store.read())).result()
        self.snapshots.append((stack, reader, copied(self.model)))

    @precondition(lambda self: bool(self.snapshots))
    @rule()
    def check_snapshots(self) -> None:
        for _, reader, model in self.snapshots:
            check_same(reader, model)

    @precondition(lambda self: bool(self.snapshots))
    @rule()
    def close_snapshot(self) -> None:
        stack, reader, model = self.snapshots.pop(0)
        check_same(reader, model)
        self.reading.submit(stack.close).result()

    @rule()
    def reopen(self) -> None:
        while self.snapshots:
            self.close_snapshot()
        self.store.close()
        self.store = self.opened()
        with self.store.read() as reader:
            check_same(reader, self.model)

    def teardown(self) -> None:
        while self.snapshots:
            self.close_snapshot()
        self.reading.shutdown()
        self.store.close()
        self.folder.cleanup()


class LmdbMachine(StoreMachine):
    def opened(self) -> Store:
        return LmdbStore.open(Path(self.folder.name))


class MemoryMachine(StoreMachine):
    def opened(self) -> Store:
        before = getattr(self, "store", None)
        return before.reopen() if isinstance(before, MemoryStore) else MemoryStore.open()


SETTINGS = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestLmdb = LmdbMachine.TestCase
TestLmdb.settings = SETTINGS
TestMemory = MemoryMachine.TestCase
TestMemory.settings = SETTINGS
