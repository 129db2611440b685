"""What a record costs when a block is connected, at 100,000 records and at millions; prints a JSON line.

Run: PYTHONPATH=tests python tests/bench/bench_store_scale.py [RECORDS] [RECORDS_PER_BLOCK] [FOLDER]

Blocks with random records go through `ChainState.accept_block` into a store on disk (in FOLDER, default the system's
temporary folder; 10 million records take 3 GB), each in a transaction of its own, as at the tip. Making the blocks
is not counted. The last whole cycle of merges of the large store is measured, and in turns with its blocks, so that
the machine's other work falls on both alike, small stores are filled from 0 to 200,000 records. `cpu` is the time
of the thread alone, without waiting; `parts` tells where the time goes (the rest is the commit, and the
body; `add_block` are the sorted runs, a part of `write_index`).
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from facechain.consensus.block import Block, seal_header
from facechain.consensus.records import RECORD_BYTES
from facechain.node import block_store, chain_index, chainstate
from facechain.node.chainstate import ChainState
from facechain.node.runs.directory import FAN, MAX_RUN_ROWS, live_runs
from facechain.node.store.lmdb_file import DATA_NAME
from facechain.node.store.lmdb_store import LmdbStore
from support.chain import PRODUCER, ChainBuilder, make_genesis, pack_batch, seed, solve
from support.memory import resident_kib, sampled

SMALL_RECORDS = 200_000
"""Size at which a small store ends: on average it has half of that."""
LOOKUPS = 2_000
SAMPLE_SECONDS = 0.02
MIB = 2**20

Costs = dict[str, float]


@dataclass
class Parts:
    """Seconds spent in parts of connecting, by name, since they were last taken."""

    seconds: dict[str, float] = field(default_factory=dict)

    def watch(self, module: Any, name: str) -> None:
        """Time every call of a function of a module."""
        inner: Callable[..., Any] = getattr(module, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return inner(*args, **kwargs)
            finally:
                spent = time.perf_counter() - started
                self.seconds[name] = self.seconds.get(name, 0.0) + spent

        setattr(module, name, timed)

    def take(self) -> dict[str, float]:
        taken, self.seconds = self.seconds, {}
        return taken


class Memory:
    """The highest RssAnon and RssFile that were seen."""

    def __init__(self) -> None:
        self.anon = self.file = 0

    def look(self) -> None:
        found = resident_kib()
        self.anon = max(self.anon, found["RssAnon"])
        self.file = max(self.file, found["RssFile"])


class Chain:
    """A chain whose blocks hold one batch of random records each."""

    def __init__(self, store: LmdbStore, per_block: int) -> None:
        self.builder = ChainBuilder(make_genesis())
        self.chain = ChainState.open(store, self.builder.genesis)
        self.per_block = per_block
        self.random = np.random.default_rng(1)
        self.known: list[bytes] = []
        """A few of the registered pixel hashes."""

    def next_block(self, number: int) -> Block:
        packed = self.random.bytes(self.per_block * RECORD_BYTES)
        payload, header = pack_batch(packed, batch_seed=seed(f"batch {number}"))
        statement = self.builder.statement(PRODUCER, payload, batch=header, sequence=number)
        genesis = self.builder.genesis
        now_ms = genesis.time_ms + (number + 1) * genesis.params.spacing_ms
        template = self.chain.make_template([statement], producer=PRODUCER.public, now_ms=now_ms)
        if number % 7 == 0:
            self.known.append(packed[:32])
        return Block(seal_header(PRODUCER, genesis.network_id, solve(template.header)), template.body)

    def connect(self, parts: Parts) -> Costs:
        """Connect a new block; return the seconds by part, `connect` and `cpu` being those of the whole."""
        block = self.next_block(self.chain.tree.tip.height)
        parts.take()
        started, cpu = time.perf_counter(), time.thread_time()
        update = self.chain.accept_block(block, now_ms=block.header.time_ms)
        whole = {"connect": time.perf_counter() - started, "cpu": time.thread_time() - cpu}
        if not update.connected:
            raise ValueError(f"expected a block that is connected, got {update}")
        return {**whole, **parts.take()}


def merge_cycle(per_block: int) -> int:
    """Return after how many blocks the largest merge comes again."""
    blocks = 1
    while blocks * FAN * per_block <= MAX_RUN_ROWS:
        blocks *= FAN
    return blocks


def window(blocks: list[Costs], per_block: int) -> dict[str, Any]:
    """Return the cost per record over some blocks, in µs."""

    def cost(name: str) -> float:
        return round(statistics.fmean(block.get(name, 0.0) for block in blocks) / per_block * 1e6, 3)

    names = sorted({name for block in blocks for name in block} - {"connect", "cpu"})
    return {
        "blocks": len(blocks),
        "us_per_record": cost("connect"),
        "cpu_us_per_record": cost("cpu"),
        "median_block_us_per_record": round(
            statistics.median(block["connect"] for block in blocks) / per_block * 1e6, 3
        ),
        "slowest_block_ms": round(max(block["connect"] for block in blocks) * 1e3, 1),
        "parts": {name: cost(name) for name in names},
    }


def lookups(chain: ChainState, known: list[bytes]) -> dict[str, float]:
    """Look up hashes that are registered and hashes that are not; µs of one look-up in its own read."""
    choice, spent = random.Random(1), []
    for number in range(LOOKUPS):
        digest = choice.choice(known) if number % 2 else choice.randbytes(32)
        started = time.perf_counter()
        with chain.snapshot() as reader:
            found = reader.claims_of_pixels(digest, limit=8)
        spent.append(time.perf_counter() - started)
        if bool(found) != bool(number % 2):
            raise ValueError(f"{digest.hex()}: expected {number % 2} claims, got {found}")
    spent.sort()
    return {
        "p50_us": round(spent[LOOKUPS // 2] * 1e6, 1),
        "p99_us": round(spent[LOOKUPS * 99 // 100] * 1e6, 1),
    }


def measure(place: Path, records: int, per_block: int) -> dict[str, Any]:
    parts, memory = Parts(), Memory()
    for module, name in (
        (chainstate, "connect_block"),
        (block_store, "write_parts"),
        (block_store, "apply_delta"),
        (block_store, "write_index"),
        (chain_index, "add_block"),
    ):
        parts.watch(module, name)
    blocks, cycle = -(-records // per_block), merge_cycle(per_block)
    small_blocks = max(SMALL_RECORDS // per_block, 1)
    small_costs: list[Costs] = []
    with LmdbStore.open(place / "large") as store:
        with sampled(memory.look, seconds=SAMPLE_SECONDS), ExitStack() as stores:
            large = Chain(store, per_block)
            for _ in range(blocks - cycle):
                large.connect(parts)
            large_costs: list[Costs] = []
            for number in range(cycle):
                if number % small_blocks == 0:
                    stores.close()
                    small = Chain(stores.enter_context(LmdbStore.open(place / f"small {number}")), per_block)
                small_costs.append(small.connect(parts))
                large_costs.append(large.connect(parts))
        with store.read() as reader:
            runs = len(live_runs(reader))
        found = lookups(large.chain, large.known)
        map_bytes = store.map_bytes
    start, end = window(small_costs, per_block), window(large_costs, per_block)
    return {
        "bench": "store-scale",
        "records": blocks * per_block,
        "records_per_block": per_block,
        "start": start,
        "end": end,
        "connect_ratio": round(end["us_per_record"] / start["us_per_record"], 2),
        "cpu_ratio": round(end["cpu_us_per_record"] / start["cpu_us_per_record"], 2),
        "index_ratio": round(end["parts"]["write_index"] / start["parts"]["write_index"], 2),
        "runs": runs,
        "lookup": found,
        "rss_anon_max_mib": memory.anon // 1024,
        "rss_file_max_mib": memory.file // 1024,
        "file_mib": (place / "large" / DATA_NAME).stat().st_size // MIB,
        "map_mib": map_bytes // MIB,
    }


def main(records: int, per_block: int, place: str | None) -> None:
    with tempfile.TemporaryDirectory(prefix="facechain-scale-", dir=place) as folder:
        print(json.dumps(measure(Path(folder), records, per_block)))


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000,
        int(sys.argv[2]) if len(sys.argv) > 2 else 10_000,
        sys.argv[3] if len(sys.argv) > 3 else None,
    )
