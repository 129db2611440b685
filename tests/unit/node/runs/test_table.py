"""The record index against brute force: what it finds, and that a disconnect is the exact inverse of a connect."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facechain.consensus.records import RECORD_BYTES
from facechain.node.runs import directory
from facechain.node.runs.directory import Run, RunsDamaged, directory_of, is_due, live_runs
from facechain.node.runs.placed import CHUNK_ROWS, ROW_BYTES, PlacedRecords, plain_rows
from facechain.node.runs.table import RUN_TABLES, add_block, find, read_run, remove_block
from facechain.node.store.memory import MemoryStore
from facechain.node.store.port import Store, Writer
from facechain.node.store.schema import Table

TABLES = (Table.RUNS, Table.PIXEL_RUNS, Table.FILE_RUNS)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Merge three runs at a time and up to 60 rows, so that a few blocks have every shape of directory."""
    monkeypatch.setattr(directory, "FAN", 3)
    monkeypatch.setattr(directory, "MAX_RUN_ROWS", 60)


def packed(choice: random.Random, count: int, *, hashes: int = 12) -> bytes:
    """Return records whose hashes come from a small set, so that many are claimed again and again."""
    names = [number.to_bytes(2, "big") * 16 for number in range(hashes)]
    return b"".join(choice.choice(names) + choice.choice(names) + bytes(6) for _ in range(count))


def contents(store: Store) -> dict[Table, list[tuple[bytes, bytes]]]:
    with store.read() as reader:
        return {name: list(reader.scan(name)) for name in TABLES}


def add(store: Store, height: int, batches: Sequence[PlacedRecords]) -> None:
    store.transact(lambda writer: add_block(writer, height, batches))


def blocks_of(seed: int, heights: int, *, most: int) -> dict[int, list[PlacedRecords]]:
    choice = random.Random(seed)
    return {
        height: [
            PlacedRecords(2 * index, packed(choice, choice.randrange(1, most))) for index in range(parts)
        ]
        for height in range(1, heights)
        if (parts := choice.randrange(4))
    }


@given(
    seed=st.integers(0, 2**32),
    most=st.sampled_from([2, 4, 9]),
    moves=st.lists(st.integers(-12, 12), min_size=1, max_size=12),
)
@settings(deadline=None, max_examples=60)
def test_any_walk_up_and_down_leaves_what_a_straight_way_leaves(
    seed: int, most: int, moves: list[int]
) -> None:
    blocks = blocks_of(seed, 60, most=most)
    store, height = MemoryStore.open(), 0

    def walk(writer: Writer) -> int:
        at = height
        for move in moves:
            for _ in range(abs(move)):
                if move > 0 and at < 59:
                    at += 1
                    add_block(writer, at, blocks.get(at, []))
                elif move < 0 and at > 0:
                    if at in blocks:
                        remove_block(writer, at)
                    at -= 1
        return at

    top = store.transact(walk)
    straight = MemoryStore.open()
    for at in range(1, top + 1):
        add(straight, at, blocks.get(at, []))
    assert contents(store) == contents(straight)
    leaves = [
        Run.of_block(at, sum(len(item.packed) for item in batches) // RECORD_BYTES)
        for at, batches in blocks.items()
        if at <= top
    ]
    assert contents(store)[Table.RUNS] == directory_of(leaves)
    rows = {
        name: sorted(row for at in range(top + 1) for row in plain_rows(at, blocks.get(at, []), column))
        for name, column in RUN_TABLES
    }
    with store.read() as reader:
        for name, expected in rows.items():
            for digest in {row[:32] for row in expected} | {bytes(32), b"\xff" * 32}:
                places = [row[32:] for row in expected if row[:32] == digest]
                assert find(reader, name, digest, limit=10**6) == places
                for limit in (0, 1, 2, 5):
                    assert find(reader, name, digest, limit=limit) == places[:limit]


def test_runs_of_one_level_merge_up_to_the_limit() -> None:
    store = MemoryStore.open()
    for height in range(1, 28):
        batches = [PlacedRecords(0, packed(random.Random(height), 4))]
        add(store, height, batches)
    with store.read() as reader:
        levels = [(run.level, run.first, run.last, run.rows) for run in live_runs(reader)]
    assert levels == [(2, 1, 9, 36), (2, 10, 18, 36), (2, 19, 27, 36)]  # a third level would have 108 rows


@pytest.mark.parametrize(
    "group, due",
    [
        ([(0, 20)] * 3, True),
        ([(0, 20)] * 2, False),
        ([(1, 20), (0, 20), (0, 20)], False),
        ([(0, 20), (0, 20), (0, 21)], False),
    ],
)
def test_what_is_due(group: list[tuple[int, int]], due: bool) -> None:
    runs = [Run(level=level, first=at, last=at, rows=rows) for at, (level, rows) in enumerate(group)]
    assert is_due(runs) == due


def test_a_hash_that_fills_several_chunks_is_found_whole_and_in_order() -> None:
    """An adversary registers one image in every record, and another that differs in the last byte."""
    one, other = b"\x11" * 31 + b"\x00", b"\x11" * 32
    count = 3 * CHUNK_ROWS + 7
    records = b"".join((one if number % 2 else other) + one + bytes(6) for number in range(count))
    store = MemoryStore.open()
    store.transact(lambda writer: add_block(writer, 5, [PlacedRecords(3, records)]))
    with store.read() as reader:
        run = live_runs(reader)[0]
        rows = read_run(reader, Table.PIXEL_RUNS, run).tobytes()
        assert [rows[at : at + 48] for at in range(0, len(rows), 48)] == sorted(
            plain_rows(5, [PlacedRecords(3, records)], 0)
        )
        for digest, odd in ((one, 1), (other, 0)):
            numbers = [
                int.from_bytes(place[12:], "big")
                for place in find(reader, Table.PIXEL_RUNS, digest, limit=10**6)
            ]
            assert numbers == list(range(odd, count, 2))
        assert len(find(reader, Table.FILE_RUNS, one, limit=CHUNK_ROWS + 2)) == CHUNK_ROWS + 2
        assert reader.count(Table.FILE_RUNS) == 4
        assert not find(reader, Table.FILE_RUNS, other, limit=1)


def lose_a_chunk(writer: Writer) -> None:
    key, _ = next(writer.scan(Table.FILE_RUNS))
    writer.delete(Table.FILE_RUNS, key)


def lengthen_a_chunk(writer: Writer) -> None:
    key, value = next(writer.scan(Table.FILE_RUNS))
    writer.put(Table.FILE_RUNS, key, value + bytes(ROW_BYTES))


def tear_a_chunk(writer: Writer) -> None:
    key, value = next(writer.scan(Table.FILE_RUNS))
    writer.put(Table.FILE_RUNS, key, value[:-1])


def change_a_height(writer: Writer) -> None:
    key, value = next(writer.scan(Table.PIXEL_RUNS))
    writer.put(Table.PIXEL_RUNS, key, value[:39] + b"\x09" + value[40:])


def lose_a_part(writer: Writer) -> None:
    writer.delete(Table.RUNS, next(writer.scan(Table.RUNS, start=directory.MERGED))[0])


def claim_rows_without_end(writer: Writer) -> None:
    key, value = next(writer.scan(Table.RUNS))
    writer.put(Table.RUNS, key, value[:9] + b"\x7f" * 8)


def cut_the_directory(writer: Writer) -> None:
    key, value = next(writer.scan(Table.RUNS))
    writer.put(Table.RUNS, key, value[:-1])


@pytest.mark.parametrize(
    "damage",
    [
        lose_a_chunk,
        lengthen_a_chunk,
        tear_a_chunk,
        change_a_height,
        lose_a_part,
        claim_rows_without_end,
        cut_the_directory,
    ],
)
def test_a_damaged_index_refuses_to_be_changed(damage: Callable[[Writer], None]) -> None:
    store = MemoryStore.open()
    blocks = {height: [PlacedRecords(0, packed(random.Random(height), 4))] for height in range(1, 4)}
    for height, batches in blocks.items():
        add(store, height, batches)
    store.transact(damage)
    before = contents(store)
    with pytest.raises(RunsDamaged, match="facechain db reindex"):
        store.transact(lambda writer: remove_block(writer, 3))
    assert contents(store) == before


def test_a_chunk_under_the_key_of_another_is_not_served() -> None:
    store = MemoryStore.open()
    records = packed(random.Random(1), 20)
    store.transact(lambda writer: add_block(writer, 1, [PlacedRecords(0, records)]))

    def damage(writer: Writer) -> None:
        key, value = next(writer.scan(Table.PIXEL_RUNS))
        writer.put(Table.PIXEL_RUNS, key, value[:-1] + bytes([value[-1] ^ 1]))

    store.transact(damage)
    with store.read() as reader, pytest.raises(RunsDamaged, match="pixel-runs"):
        find(reader, Table.PIXEL_RUNS, bytes(32), limit=1)


@pytest.mark.parametrize("height", [1, 2, 4])
def test_only_the_newest_block_is_removed_and_only_a_newer_one_added(height: int) -> None:
    store = MemoryStore.open()
    batches = [PlacedRecords(0, packed(random.Random(1), 2))]
    store.transact(lambda writer: add_block(writer, 3, batches))
    with pytest.raises(RunsDamaged, match=f"ends at height {height}"):
        store.transact(lambda writer: remove_block(writer, height))
    if height < 3:
        with pytest.raises(RunsDamaged, match=f"below height {height}"):
            store.transact(lambda writer: add_block(writer, height, batches))
    store.transact(lambda writer: remove_block(writer, 3))
    assert not any(contents(store).values())
    with pytest.raises(RunsDamaged, match="got nothing"):
        store.transact(lambda writer: remove_block(writer, 3))
