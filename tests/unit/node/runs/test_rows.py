"""The order of rows is that of their bytes, also where an adversary chose the first ones."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from facechain.node.runs.placed import ROW_BYTES, PlacedRecords, plain_rows
from facechain.node.runs.rows import block_rows, chunks, heights_of, is_ascending, order_of

ROWS = st.lists(
    st.one_of(
        st.binary(min_size=ROW_BYTES, max_size=ROW_BYTES),
        # Few values in few places: equal prefixes, trailing zeros, and bytes on both sides of the sign bit.
        st.tuples(st.sampled_from([b"\x00", b"\x7f", b"\x80", b"\xff"]), st.integers(0, 47)).map(
            lambda item: bytes(item[1]) + item[0] + bytes(47 - item[1])
        ),
    ),
    unique=True,
    max_size=60,
)


def array_of(rows: list[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, ROW_BYTES)


@given(rows=ROWS)
@settings(deadline=None, max_examples=200)
def test_the_order_is_that_of_the_bytes(rows: list[bytes]) -> None:
    array = array_of(rows)
    ordered = array[order_of(array)]
    assert [row.tobytes() for row in ordered] == sorted(rows)
    assert is_ascending(ordered)
    assert is_ascending(array) == (rows == sorted(rows))
    assert heights_of(array).tolist() == [int.from_bytes(row[32:40], "big") for row in rows]


def test_a_row_twice_is_not_ascending() -> None:
    assert not is_ascending(array_of([bytes(48), bytes(48)]))


@given(data=st.data(), column=st.sampled_from([0, 32]))
@settings(deadline=None, max_examples=60)
def test_rows_of_a_block_are_the_plain_ones_in_order(data: st.DataObject, column: int) -> None:
    records = st.binary(min_size=70, max_size=70)
    batches = [
        PlacedRecords(
            data.draw(st.integers(0, 2**32 - 1)), b"".join(data.draw(st.lists(records, max_size=5)))
        )
        for _ in range(data.draw(st.integers(1, 4)))
    ]
    height = data.draw(st.integers(0, 2**64 - 1))
    expected = sorted(plain_rows(height, batches, column))
    assert [row.tobytes() for row in block_rows(height, batches, column)] == expected


def test_chunks_are_full_but_the_last_and_keyed_by_their_last_row() -> None:
    count = 50 * 341 + 5
    rows = np.random.default_rng(1).integers(0, 256, (count, ROW_BYTES), dtype=np.uint8)
    order = order_of(rows)
    cut = list(chunks(7, rows, order))
    assert cut == list(chunks(7, rows[order]))
    assert [len(value) // ROW_BYTES for _, value in cut] == [341] * 50 + [5]
    assert b"".join(value for _, value in cut) == rows[order].tobytes()
    assert [key for key, _ in cut] == [(7).to_bytes(8, "big") + value[-ROW_BYTES:] for _, value in cut]
