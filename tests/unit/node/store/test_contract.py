"""What `node.store.port` promises, asked of both stores."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from facechain.consensus.kv import Bucket, Overlay, StateReader
from facechain.node.store.errors import StoreClosed, StoreMisuse
from facechain.node.store.port import Reader, Store, Writer
from facechain.node.store.schema import KEY_BYTES_MAX, Table, height_key, prefix_stop

T = Table.TESTS


def fill(store: Store, *keys: bytes) -> None:
    store.transact(lambda writer: writer.put_many(T, [(key, b"value of " + key) for key in keys]))


def keys_of(rows: Iterator[tuple[bytes, bytes]]) -> list[bytes]:
    return [key for key, _ in rows]


def test_put_then_get(store: Store) -> None:
    fill(store, b"a")
    with store.read() as reader:
        assert reader.get(T, b"a") == b"value of a"
        assert reader.get(T, b"b") is None
        assert reader.get(Table.META, b"a") is None


def test_put_replaces_and_delete_forgets(store: Store) -> None:
    fill(store, b"a", b"b")

    def change(writer: Writer) -> None:
        writer.put(T, b"a", b"")
        writer.delete(T, b"b")
        writer.delete(T, b"never there")

    store.transact(change)
    with store.read() as reader:
        assert list(reader.scan(T)) == [(b"a", b"")]
        assert reader.count(T) == 1


def test_transact_returns_what_its_function_returns(store: Store) -> None:
    assert store.transact(lambda writer: 7) == 7


def test_writer_reads_its_own_changes(store: Store) -> None:
    fill(store, b"a", b"b", b"d")

    def change(writer: Writer) -> None:
        writer.put(T, b"c", b"new")
        writer.put(T, b"a", b"changed")
        writer.delete(T, b"b")
        assert writer.get(T, b"a") == b"changed"
        assert writer.get(T, b"b") is None
        assert keys_of(writer.scan(T)) == [b"a", b"c", b"d"]
        assert keys_of(writer.scan(T, reverse=True, limit=2)) == [b"d", b"c"]
        assert keys_of(writer.scan(T, start=b"b", stop=b"d")) == [b"c"]
        assert writer.count(T) == 3

    store.transact(change)


def test_exception_keeps_nothing(store: Store) -> None:
    fill(store, b"a")

    def change(writer: Writer) -> None:
        writer.put(T, b"b", b"")
        writer.delete(T, b"a")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.transact(change)
    with store.read() as reader:
        assert keys_of(reader.scan(T)) == [b"a"]


@pytest.mark.parametrize(
    "bounds, expected",
    [
        ({}, "abcd"),
        ({"reverse": True}, "dcba"),
        ({"start": b"b"}, "bcd"),
        ({"stop": b"c"}, "ab"),
        ({"start": b"b", "stop": b"d"}, "bc"),
        ({"start": b"b", "stop": b"d", "reverse": True}, "cb"),
        ({"start": b"bb", "stop": b"cc"}, "c"),
        ({"start": b"bb", "stop": b"cc", "reverse": True}, "c"),
        ({"start": b"e"}, ""),
        ({"start": b"e", "reverse": True}, ""),
        ({"stop": b""}, ""),
        ({"stop": b"", "reverse": True}, ""),
        ({"stop": b"z", "reverse": True}, "dcba"),
        ({"start": b"d", "stop": b"a"}, ""),
        ({"start": b"d", "stop": b"a", "reverse": True}, ""),
        ({"limit": 2}, "ab"),
        ({"limit": 2, "reverse": True}, "dc"),
        ({"limit": 0}, ""),
        ({"limit": 9}, "abcd"),
    ],
)
def test_scan_bounds(store: Store, bounds: dict[str, object], expected: str) -> None:
    fill(store, b"d", b"a", b"c", b"b")

    def scan(reader: Reader) -> str:
        scanning: Callable[..., Iterator[tuple[bytes, bytes]]] = reader.scan
        return b"".join(keys_of(scanning(T, **bounds))).decode()

    with store.read() as reader:
        assert scan(reader) == expected
    assert store.transact(scan) == expected


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("rows", [0, 1, 15, 16, 17, 47, 48, 49, 3000])
def test_scan_of_any_length_gives_every_row_once(store: Store, rows: int, *, reverse: bool) -> None:
    expected = [(height_key(height), b"x" * (height % 5000)) for height in range(rows)]
    store.transact(lambda writer: writer.put_many(T, expected))
    with store.read() as reader:
        assert list(reader.scan(T, reverse=reverse)) == (expected[::-1] if reverse else expected)
        assert reader.count(T) == rows


def test_scan_order_is_that_of_bytes(store: Store) -> None:
    keys = [
        b"\x00",
        b"\x00\x00",
        b"a",
        b"a\x00",
        b"aa",
        b"b",
        b"\xff",
        b"\xff\xff",
        height_key(9),
        height_key(10),
    ]
    fill(store, *keys)
    with store.read() as reader:
        assert keys_of(reader.scan(T)) == sorted(keys)


def test_scan_of_a_prefix(store: Store) -> None:
    fill(store, b"a", b"p", b"p\x00", b"p\xff\xff", b"q")
    with store.read() as reader:
        assert keys_of(reader.scan(T, start=b"p", stop=prefix_stop(b"p"))) == [b"p", b"p\x00", b"p\xff\xff"]


def test_rows_can_be_deleted_while_they_are_scanned(store: Store) -> None:
    fill(store, *(height_key(height) for height in range(100)))

    def change(writer: Writer) -> int:
        seen = 0
        for key, _ in writer.scan(T):
            writer.delete(T, key)
            seen += 1
        return seen

    assert store.transact(change) == 100
    with store.read() as reader:
        assert reader.count(T) == 0


def test_read_sees_one_moment(store: Store) -> None:
    fill(store, b"a", b"b")
    with ThreadPoolExecutor(1) as writing, store.read() as before:
        scan = before.scan(T)
        assert next(scan)[0] == b"a"
        writing.submit(fill, store, b"c").result()
        writing.submit(store.transact, lambda writer: writer.delete(T, b"a")).result()
        assert keys_of(before.scan(T)) == [b"a", b"b"]
        assert before.get(T, b"c") is None
        assert before.count(T) == 2
        assert keys_of(scan) == [b"b"]
        with store.read() as after:
            assert keys_of(after.scan(T)) == [b"b", b"c"]


def test_uncommitted_changes_are_invisible(store: Store) -> None:
    wrote, looked = Event(), Event()

    def change(writer: Writer) -> None:
        writer.put(T, b"a", b"")
        wrote.set()
        assert looked.wait(30)

    with ThreadPoolExecutor(1) as writing:
        running = writing.submit(store.transact, change)
        assert wrote.wait(30)
        with store.read() as reader:
            assert reader.get(T, b"a") is None
        looked.set()
        running.result()
    with store.read() as reader:
        assert reader.get(T, b"a") == b""


def test_one_writer_at_a_time(store: Store) -> None:
    def count_up(writer: Writer) -> None:
        value = writer.get(T, b"counter") or bytes(4)
        writer.put(T, b"counter", (int.from_bytes(value, "big") + 1).to_bytes(4, "big"))

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(store.transact, count_up) for _ in range(40)]:
            done.result()
    with store.read() as reader:
        assert reader.get(T, b"counter") == (40).to_bytes(4, "big")


def test_every_bucket_is_its_own(store: Store) -> None:
    buckets = sorted({*map(str, Bucket), *Table})

    def change(writer: Writer) -> None:
        for name in buckets:
            writer.put(name, b"key", name.encode())

    store.transact(change)
    with store.read() as reader:
        assert [reader.get(name, b"key") for name in buckets] == [name.encode() for name in buckets]


def test_reader_serves_the_consensus_state(store: Store) -> None:
    store.transact(lambda writer: writer.put(Bucket.ROLES, b"k", b"old"))
    with store.read() as reader:
        state: StateReader = reader
        overlay = Overlay(state)
        overlay.put(Bucket.ROLES, b"k", b"new")
        assert overlay.delta().changes[0].old == b"old"


def test_longest_key_is_kept(store: Store) -> None:
    longest = b"\xff" * KEY_BYTES_MAX
    fill(store, longest, b"a")
    with store.read() as reader:
        assert keys_of(reader.scan(T, start=longest)) == [longest]
        assert keys_of(reader.scan(T, reverse=True, stop=longest)) == [b"a"]


@pytest.mark.parametrize("key", [b"", b"x" * (KEY_BYTES_MAX + 1)])
@pytest.mark.parametrize("use", ["get", "put", "delete"])
def test_keys_that_do_not_fit_are_refused(store: Store, key: bytes, use: str) -> None:
    uses: dict[str, Callable[[Writer], object]] = {
        "get": lambda writer: writer.get(T, key),
        "put": lambda writer: writer.put(T, key, b""),
        "delete": lambda writer: writer.delete(T, key),
    }
    with pytest.raises(StoreMisuse, match=f"expected 1 to 511 bytes, got {len(key)}"):
        store.transact(uses[use])


@pytest.mark.parametrize("bounds", [{"start": bytes(512)}, {"stop": bytes(512)}, {"limit": -1}])
def test_scan_bounds_that_make_no_sense_are_refused(store: Store, bounds: dict[str, object]) -> None:
    with store.read() as reader, pytest.raises(StoreMisuse, match="scan"):
        scanning: Callable[..., object] = reader.scan
        scanning(T, **bounds)


@pytest.mark.parametrize("use", ["get", "scan", "count"])
def test_unknown_bucket_is_refused(store: Store, use: str) -> None:
    with store.read() as reader, pytest.raises(StoreMisuse, match=r"bucket: expected .* got 'nonsense'"):
        getattr(reader, use)("nonsense", *([b"k"] if use == "get" else []))


def test_transactions_do_not_nest(store: Store) -> None:
    with pytest.raises(StoreMisuse, match="nested"):
        store.transact(lambda writer: fill(store, b"a"))
    fill(store, b"b")


def test_transact_under_an_open_read_of_the_thread_is_refused(store: Store) -> None:
    with store.read(), pytest.raises(StoreMisuse, match="open read"):
        fill(store, b"a")
    fill(store, b"a")


def test_reads_nest_and_may_be_opened_inside_a_transaction(store: Store) -> None:
    fill(store, b"a")

    def change(writer: Writer) -> bytes | None:
        writer.put(T, b"a", b"changed")
        with store.read() as reader, store.read() as second:
            assert second.get(T, b"a") == b"value of a"
            return reader.get(T, b"a")

    assert store.transact(change) == b"value of a"


def test_reader_is_of_no_use_after_its_transaction(store: Store) -> None:
    fill(store, b"a", b"b")
    with store.read() as reader:
        scan = reader.scan(T)
        late = reader.scan(T)
        next(scan)
    leaked = store.transact(lambda writer: writer)
    for use in (
        lambda: reader.get(T, b"a"),
        lambda: reader.count(T),
        lambda: reader.scan(T),
        lambda: next(late),
        lambda: leaked.put(T, b"a", b""),
        lambda: leaked.delete(T, b"a"),
    ):
        with pytest.raises(StoreClosed, match="after its transaction ended"):
            use()


def test_closed_store_refuses(store: Store) -> None:
    store.close()
    store.close()
    with pytest.raises(StoreClosed, match="open it again"):
        fill(store, b"a")
    with pytest.raises(StoreClosed), store.read():
        pass


def test_close_inside_a_transaction_is_refused(store: Store) -> None:
    with store.read(), pytest.raises(StoreMisuse, match="close"):
        store.close()
    with pytest.raises(StoreMisuse, match="close"):
        store.transact(lambda writer: store.close())
