"""Cost of a state root at a million entries: O(changes * log entries), shown at several sizes; prints a JSON line.

Run: PYTHONPATH=.layout python tests/bench/bench_state.py [ENTRIES]
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time

from facechain.consensus.kinds import Kind
from facechain.consensus.kv import Bucket
from facechain.consensus.state import StageEntry, State

CHANGES = 1_000
BLOCKS = 5
FILL = 100_000


class CountingState:
    """All buckets in one dict; counts what blocks read."""

    def __init__(self) -> None:
        self.entries: dict[tuple[Bucket, bytes], bytes] = {}
        self.reads = 0

    def get(self, bucket: Bucket, key: bytes, /) -> bytes | None:
        self.reads += 1
        return self.entries.get((bucket, key))

    def take(self, state: State) -> int:
        """Write a block's changes and return how many keys they are."""
        delta = state.overlay.delta()
        for change in delta:
            if change.new is None:
                del self.entries[change.bucket, change.key]
            else:
                self.entries[change.bucket, change.key] = change.new
        return len(delta)


def _id(number: int) -> bytes:
    return hashlib.sha256(number.to_bytes(8, "big")).digest()


def _fill(store: CountingState, start: int, stop: int) -> None:
    """Add entries, half of them sequences and half stages."""
    for first in range(start, stop, FILL):
        _change(store, first, min(first + FILL, stop), height=1)


def _change(store: CountingState, start: int, stop: int, *, height: int) -> tuple[float, int]:
    state = State(store)
    for number in range(start, stop):
        key = _id(number)
        if number % 2:
            state.put_sequence(key, height)
        else:
            state.put_stage(key, StageEntry(kind=Kind.STAGE, stage_type=1, height=height, author=key))
    began = time.perf_counter()
    state.root()
    seconds = time.perf_counter() - began
    return seconds, store.take(state)


def _measure(store: CountingState, entries: int) -> dict[str, float]:
    """Change existing and add new entries, as blocks of `CHANGES` statements do."""
    seconds, written, reads = 0.0, 0, 0
    for block in range(BLOCKS):
        first = block * entries // BLOCKS - block * entries // BLOCKS % 2
        store.reads = 0
        spent, keys = _change(store, first, first + CHANGES, height=2 + block)
        seconds, written, reads = seconds + spent, written + keys, reads + store.reads
    changes = CHANGES * BLOCKS
    return {
        "entries": entries,
        "us_per_change": round(seconds / changes * 1e6, 1),
        "reads_per_change": round(reads / changes, 1),
        "writes_per_change": round(written / changes, 1),
    }


def main(entries: int) -> None:
    store = CountingState()
    sizes = [size for size in (1_000, 10_000, 100_000, 1_000_000, entries) if size <= entries]
    rows, filled = [], 0
    for size in sorted(set(sizes)):
        _fill(store, filled, size)
        filled = size
        rows.append(_measure(store, size))
    result = {
        "bench": "state",
        "changes_per_block": CHANGES,
        "sizes": rows,
        "max_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
