"""Cost of changing the sparse tree at a million entries; prints one JSON line.

Run: PYTHONPATH=.layout python tests/bench/bench_sparse.py [ENTRIES]
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time

from facechain.consensus import sparse

BATCH = 1_000
BATCHES = 10


class DictNodes(dict[bytes, bytes]):
    """The store that costs nothing, with its reads and writes counted."""

    reads = 0
    writes = 0

    def get(self, key: bytes, default: bytes | None = None, /) -> bytes | None:  # type: ignore[override]
        self.reads += 1
        return super().get(key, default)

    def put(self, key: bytes, value: bytes, /) -> None:
        self.writes += 1
        self[key] = value

    def delete(self, key: bytes, /) -> None:
        self.writes += 1
        self.pop(key, None)


def _key(number: int) -> bytes:
    return hashlib.sha256(number.to_bytes(8, "big")).digest()


def _timed(nodes: DictNodes, batches: list[dict[bytes, bytes | None]]) -> dict[str, float]:
    nodes.reads = nodes.writes = 0
    start = time.perf_counter()
    for batch in batches:
        sparse.update(nodes, batch)
    seconds = time.perf_counter() - start
    changes = sum(map(len, batches))
    return {
        "us_per_change": round(seconds / changes * 1e6, 1),
        "reads_per_change": round(nodes.reads / changes, 2),
        "writes_per_change": round(nodes.writes / changes, 2),
    }


def _batches(
    first: int, step: int, size: int, count: int, value: bytes | None
) -> list[dict[bytes, bytes | None]]:
    return [{_key(first + (batch * size + i) * step): value for i in range(size)} for batch in range(count)]


def main(entries: int) -> None:
    nodes = DictNodes()
    start = time.perf_counter()
    sparse.update(nodes, {_key(number): b"old" for number in range(entries)})
    result: dict[str, object] = {
        "bench": "sparse",
        "entries": entries,
        "batch": BATCH,
        "build_seconds": round(time.perf_counter() - start, 2),
    }
    step = max(1, entries // (BATCH * BATCHES))
    result["replace"] = _timed(nodes, _batches(0, step, BATCH, BATCHES, b"new"))
    result["insert"] = _timed(nodes, _batches(entries, 1, BATCH, BATCHES, b"new"))
    result["delete"] = _timed(nodes, _batches(entries, 1, BATCH, BATCHES, None))
    result["insert_single"] = _timed(nodes, _batches(2 * entries, 1, 1, BATCH, b"new"))
    start = time.perf_counter()
    for number in range(BATCH):
        sparse.prove(nodes, _key(number * step))
    result["prove_us"] = round((time.perf_counter() - start) / BATCH * 1e6, 1)
    result["max_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps(result))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
