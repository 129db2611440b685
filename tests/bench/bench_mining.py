"""Hashes per second of the search, of a plain loop beside it, and of the worker processes; one JSON line.

Run: PYTHONPATH=.layout python tests/bench/bench_mining.py [SECONDS] [WORKERS]
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from facechain.node.mining.search import PREFIX_BYTES, search
from facechain.node.mining.worker import REPORT_SECONDS
from facechain.node.mining.workers import HashlibWorkers

PREFIX = bytes(range(PREFIX_BYTES))
CHUNK = 50_000
NEVER = 1
"""A target that no hash of this bench meets."""


def plain_search(prefix: bytes, target: int, start: int, count: int) -> int | None:
    """Hash the whole header for every nonce: two updates, three compressions."""
    for nonce in range(start, start + count):
        state = hashlib.sha256()
        state.update(prefix)
        state.update(nonce.to_bytes(8, "big"))
        if int.from_bytes(state.digest(), "big") < target:
            return nonce
    return None


def hashes_per_second(find: Callable[[bytes, int, int, int], int | None], seconds: float) -> float:
    done, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        find(PREFIX, NEVER, done, CHUNK)
        done += CHUNK
    return done / (time.perf_counter() - begun)


async def workers_hashes_per_second(count: int, seconds: float) -> float:
    async with HashlibWorkers(count) as workers:
        with suppress(TimeoutError):
            await asyncio.wait_for(workers.mine(PREFIX, NEVER), seconds + 2 * REPORT_SECONDS)
        return workers.hashes_per_second


def main(seconds: float, workers: int) -> None:
    one = hashes_per_second(search, seconds)
    plain = hashes_per_second(plain_search, seconds)
    result = {
        "bench": "mining",
        "search_hashes_per_second": round(one),
        "plain_hashes_per_second": round(plain),
        "speedup": round(one / plain, 2),
        "workers": workers,
        "workers_hashes_per_second": round(asyncio.run(workers_hashes_per_second(workers, seconds))),
        "cores": os.cpu_count(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(
        float(sys.argv[1]) if len(sys.argv) > 1 else 2.0,
        int(sys.argv[2]) if len(sys.argv) > 2 else os.cpu_count() or 1,
    )
