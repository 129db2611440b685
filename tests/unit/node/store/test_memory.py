"""The memory store's own: crashes at any operation, and what they leave."""

from facechain.node.store.memory import MemoryStore, Operation
from facechain.node.store.port import Writer
from facechain.node.store.schema import Table

T = Table.TESTS


class Crash(BaseException):
    """The process ends here."""


class CrashAt:
    """A fault hook that lets `operations` happen."""

    def __init__(self, operations: int) -> None:
        self.left = operations
        self.last: Operation | None = None

    def __call__(self, operation: Operation) -> None:
        self.last = operation
        if self.left == 0:
            raise Crash
        self.left -= 1


def change(writer: Writer) -> None:
    for key, _ in list(writer.scan(T)):
        writer.delete(T, key)
    writer.put_many(T, [(b"c", b""), (b"d", b"")])
    writer.count(T)
    writer.get(T, b"c")


def test_crash_at_every_operation_leaves_all_or_nothing() -> None:
    seen = []
    for operations in range(20):
        base = MemoryStore.open()
        base.transact(lambda writer: writer.put_many(T, [(b"a", b""), (b"b", b"")]))
        hook = CrashAt(operations)
        store = base.reopen(on_operation=hook)
        try:
            store.transact(change)
        except Crash:
            seen.append(hook.last)
        else:
            break
        with store.reopen().read() as reader:
            kept = "".join(key.decode() for key, _ in reader.scan(T))
        assert kept == ("cd" if hook.last is Operation.COMMITTED else "ab")
    assert seen == [
        *(
            Operation.TRANSACT,
            Operation.SCAN,
            Operation.DELETE,
            Operation.DELETE,
            Operation.PUT,
            Operation.PUT,
        ),
        *(Operation.COUNT, Operation.GET, Operation.COMMIT, Operation.COMMITTED),
    ]


def test_reopen_is_independent_of_the_store_before() -> None:
    first = MemoryStore.open()
    first.transact(lambda writer: writer.put(T, b"a", b""))
    second = first.reopen()
    second.transact(lambda writer: writer.put(T, b"b", b""))
    with first.read() as reader:
        assert [key for key, _ in reader.scan(T)] == [b"a"]
