"""Start of a node on a long chain: time, memory and cost of a header; prints a JSON line.

The chain is made through the real chain state: empty blocks a spacing apart, every twentieth with a sibling. Each
figure is measured in a process of its own, several times, and the median is printed. Mapped pages of the store's
file are counted apart (`mapped_mib`): the system takes them back when it needs them.

Run: PYTHONPATH=tests python tests/bench/bench_startup.py [BLOCKS] [RUNS]
"""

from __future__ import annotations

import gc
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from facechain.consensus.block import Block, Header
from facechain.consensus.chain import BlockTree
from facechain.consensus.params import Genesis
from facechain.node.chain_runner import ChainRunner
from facechain.node.chainstate import ChainState
from facechain.node.genesis_file import GenesisDocument, write_document
from facechain.node.service import clock_ms
from facechain.node.store.lmdb_store import LmdbStore
from support.chain import easy_params, make_genesis, seed
from support.long_chain import LongChain, connect_all
from support.node_processes import NodeProcess
from support.trees import header

BLOCKS, RUNS = 100_000, 5
SIBLING_EVERY = 20
GENESIS_BYTES = "genesis.bin"
TREE_HEADERS = (100_000, 300_000)
TREE_SIDES = (0.05, 0.5)
"""Shares of headers that are on a side chain; the second is the worst case, a sibling for every block."""
REAL_BITS = 0x1B7FFFFF
"""About 2^41 hashes a block."""


def memory_mib(pid: int | str = "self") -> dict[str, float]:
    """Return anonymous, mapped and highest resident memory of a process."""
    names = {"RssAnon": "anonymous_mib", "RssFile": "mapped_mib", "VmHWM": "peak_with_mapped_mib"}
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {names[row[0][:-1]]: int(row[1]) / 1024 for row in lines if row[0][:-1] in names}


def build(folder: Path, blocks: int) -> Genesis:
    """Make a store of `blocks` blocks and siblings, and the genesis beside it."""
    genesis = make_genesis(time_ms=clock_ms() - (blocks + 10) * 10_000)
    chain = LongChain(genesis)

    def mined() -> Iterator[Block]:
        for number in range(blocks):
            if number % SIBLING_EVERY == SIBLING_EVERY - 1:
                yield chain.mine(keep=False, delay_ms=9_999)
            yield chain.mine(delay_ms=10_000)

    with LmdbStore.open(folder / "store") as store:
        state = ChainState.open(store, genesis)
        connect_all(state, mined(), now_ms=clock_ms())
        store.transact(state.flush_pending)
    (folder / GENESIS_BYTES).write_bytes(genesis.encode())
    write_document(folder / "genesis.json", GenesisDocument.of(genesis))
    return genesis


def opening(folder: Path) -> dict[str, float]:
    """Open store, chain and mempool in this process."""
    genesis = Genesis.decode((folder / GENESIS_BYTES).read_bytes())
    gc.collect()
    before = memory_mib()["anonymous_mib"]
    started, cpu = time.perf_counter(), time.process_time()
    with LmdbStore.open(folder / "store") as store:
        chain = ChainState.open(store, genesis)
        runner = ChainRunner.open(chain, clock_ms)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
        after = memory_mib()
        headers = len(runner.chain.tree.nodes)
    grown = (after["anonymous_mib"] - before) * 2**20
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "bytes_per_header": grown / headers, **after}


def process_start(folder: Path) -> dict[str, float]:
    """Start a whole node and wait until it takes connections."""
    started = time.perf_counter()
    with NodeProcess(folder, folder / "genesis.json") as node:
        seconds = time.perf_counter() - started
        found = memory_mib(node.pid)
        node.end()
    return {"seconds": seconds, **found}


def tree_headers(count: int, sides: float) -> Iterator[tuple[Header, bool]]:
    """Yield headers with the numbers of a real network, and whether each one goes on from the tip."""
    choose = random.Random(1)
    below = tip = header(bytes(32), 0, 0).header
    for number in range(1, count):
        is_side = tip.height > 0 and choose.random() < sides
        above = below if is_side else tip
        made = replace(
            above,
            height=above.height + 1,
            previous=above.hash,
            time_ms=1_790_000_000_000 + 10_000 * above.height,
            bits=REAL_BITS,
            producer=seed(f"producer {number % 5}"),
            nonce=number,
        )
        if not is_side:
            below, tip = tip, made
        yield made, not is_side


def tree_cost(count: int, sides: float, *, traced: bool) -> float:
    """Return the bytes per header of a tree, by the allocator's calls or by resident memory."""
    tree = BlockTree(header(bytes(32), 0, 0), easy_params())
    gc.collect()
    if traced:
        tracemalloc.start()
    before = memory_mib()["anonymous_mib"]
    for made, on_main in tree_headers(count, sides):
        # As a store hands it over: bytes of its own, none of which the tree may keep but the hash.
        node = tree.restore_encoded(bytes(bytearray(made.hash)), made.encode())
        tree.mark_body(node)
        if on_main:
            tree.set_tip(node)
    gc.collect()
    if traced:
        return tracemalloc.get_traced_memory()[0] / count
    return (memory_mib()["anonymous_mib"] - before) * 2**20 / count


def in_child(*words: str) -> dict[str, float]:
    """Run one part of this script in a process of its own."""
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure."""
    return {name: round(statistics.median(run[name] for run in runs), 3) for name in runs[0]}


def measure(blocks: int, runs: int) -> dict[str, Any]:
    """Measure everything."""
    trees = {
        f"{count} headers, {sides:.0%} on side chains": in_child("--tree", str(count), str(sides))
        for count in TREE_HEADERS
        for sides in TREE_SIDES
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        started = time.perf_counter()
        build(folder, blocks)
        built = time.perf_counter() - started
        size = (folder / "store" / "data.mdb").stat().st_size
        return {
            "bench": "startup",
            "blocks": blocks,
            "store_mib": round(size / 2**20, 1),
            "build_seconds": round(built, 1),
            "opening": medians([in_child("--open", scratch) for _ in range(runs)]),
            "process": medians([process_start(folder) for _ in range(runs)]),
            "tree_bytes_per_header": trees,
        }


def main(words: list[str]) -> None:
    """Measure, or do one part for the parent."""
    if words[:1] == ["--open"]:
        print(json.dumps(opening(Path(words[1]))))
    elif words[:1] == ["--tree"]:
        count, sides = int(words[1]), float(words[2])
        resident = tree_cost(count, sides, traced=False)
        traced = tree_cost(count, sides, traced=True)
        print(json.dumps({"resident": round(resident, 1), "traced": round(traced, 1)}))
    else:
        numbers = [int(word) for word in words]
        blocks, runs = [*numbers, *(BLOCKS, RUNS)[len(numbers) :]]
        print(json.dumps(measure(blocks, runs)))


if __name__ == "__main__":
    main(sys.argv[1:])
