"""Bodies and answers are cut into frames that hold and that join to the whole again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facechain.node.wire.chunks import cut_body_chunk, cut_statements
from facechain.node.wire.codec import decode, encode
from facechain.node.wire.limits import CHUNK_BYTES, MAX_BODY_LEAVES, MAX_INVENTORY, MAX_STATEMENT_BYTES
from facechain.node.wire.messages import BodyChunk

HASH = b"\x07" * 32


def joined(statements: list[bytes]) -> list[bytes]:
    """What a receiver puts together from the chunks of a body."""
    leaves = [HASH] * len(statements)
    got: list[bytes] = []
    asks_leaves = True
    while True:
        chunk = cut_body_chunk(
            block_hash=HASH,
            leaves=leaves if asks_leaves else (),
            byte_count=1,
            statements=statements,
            start=len(got),
        )
        arrived = decode(encode(chunk))
        assert isinstance(arrived, BodyChunk)
        assert arrived.leaves == (tuple(leaves) if asks_leaves else ())
        assert asks_leaves or arrived.statements
        asks_leaves = False
        got += arrived.statements
        if len(got) >= len(statements):
            return got


@given(st.lists(st.sampled_from([1, 300, 90_000, MAX_STATEMENT_BYTES]), max_size=12))
def test_chunks_join_to_the_body(sizes: list[int]) -> None:
    statements = [bytes([index]) * size for index, size in enumerate(sizes)]
    assert joined(statements) == statements


def test_leaves_of_the_longest_body_leave_its_statements_to_the_next_chunk() -> None:
    statements = [b"\x01" * 40] * MAX_BODY_LEAVES
    assert joined(statements) == statements


def test_a_chunk_is_full_before_the_next_begins() -> None:
    statements = [b"\x01" * 1000] * 2000
    chunk = cut_body_chunk(
        block_hash=HASH, leaves=[HASH] * 2000, byte_count=1, statements=statements, start=0
    )
    assert CHUNK_BYTES - 5000 < len(encode(chunk)) <= CHUNK_BYTES


def test_a_start_past_the_body_is_refused() -> None:
    with pytest.raises(ValueError, match="start: expected less than 1, got 1"):
        cut_body_chunk(block_hash=HASH, leaves=[HASH], byte_count=1, statements=[b"a"], start=1)


def test_an_answer_holds_as_many_statements_as_fit() -> None:
    big = b"\x01" * MAX_STATEMENT_BYTES
    assert cut_statements([big, b"\x02", big, b"\x03"]).statements == (big, b"\x02")
    assert len(cut_statements([b"\x01"] * (MAX_INVENTORY + 5)).statements) == MAX_INVENTORY
    assert cut_statements([]).statements == ()
