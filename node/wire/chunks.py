"""Filling frames: how many statements of a body, or of an answer, one frame takes.

Frames are filled up to `CHUNK_BYTES`, above which one statement of the largest size still fits; only the leaves
of an unusually long body make a larger frame.
"""

from __future__ import annotations

from collections.abc import Sequence

from .codec import encode
from .limits import CHUNK_BYTES, MAX_INVENTORY
from .messages import BodyChunk, Statements

_PREFIX_BYTES = 5
"""Largest length prefix of an item, and of the array that holds the items."""


def cut_body_chunk(
    *, block_hash: bytes, leaves: Sequence[bytes], byte_count: int, statements: Sequence[bytes], start: int
) -> BodyChunk:
    """Return the largest chunk of a body that begins with statement `start`.

    `statements` are those of the whole body, `leaves` all of them or none (as `GetBody.with_leaves` asked for).
    ValueError when `start` is past the last statement.
    """
    if start and start >= len(statements):
        raise ValueError(f"start: expected less than {len(statements)}, got {start}")
    empty = BodyChunk(
        block_hash=block_hash,
        leaves=tuple(leaves),
        byte_count=byte_count,
        start=start,
        statements=(),
    )
    count = _fitting(statements, start, CHUNK_BYTES - len(encode(empty)))
    return BodyChunk(
        block_hash=block_hash,
        leaves=empty.leaves,
        byte_count=byte_count,
        start=start,
        statements=tuple(statements[start : start + count]),
    )


def cut_statements(statements: Sequence[bytes]) -> Statements:
    """Return the first of the encoded `statements`, as many as one frame holds."""
    budget = CHUNK_BYTES - len(encode(Statements(statements=())))
    return Statements(statements=tuple(statements[: min(_fitting(statements, 0, budget), MAX_INVENTORY)]))


def _fitting(items: Sequence[bytes], start: int, budget_bytes: int) -> int:
    """Return how many items from `start` on fit into a budget, with the longest prefixes."""
    left = budget_bytes - _PREFIX_BYTES
    count = 0
    for position in range(start, len(items)):
        left -= _PREFIX_BYTES + len(items[position])
        if left < 0:
            break
        count += 1
    return count
