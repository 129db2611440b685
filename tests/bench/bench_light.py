"""Cost of proving a chain of headers to a light client, in both places; prints one JSON line.

Run: PYTHONPATH=tests python tests/bench/bench_light.py [BLOCKS]

Every block holds a batch of four images, so that stages, sequences and history change each time. Seconds depend on
the machine; the ratio to one seal's verification does not.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from facechain.consensus.light import LightClient
from facechain.node.chainstate import ChainState
from facechain.node.light_proofs import HeaderProver
from facechain.node.store.lmdb_store import LmdbStore
from support.chain import SUBMITTER, ChainBuilder, make_genesis

BLOCKS = 2_000
PAGE = 500
NOW_MS = 10**14


def grow(chain: ChainState, builder: ChainBuilder, count: int) -> None:
    """Mine blocks into both; the builder keeps only the newest states."""
    for number in range(count):
        block = builder.mine([builder.batch(SUBMITTER, count=4, name=str(number))])
        builder.states.pop(block.header.previous)
        chain.accept_block(block, now_ms=NOW_MS)


def measure(chain: ChainState, count: int) -> dict[str, float]:
    """Return microseconds per header and bytes per header."""
    prover, client = HeaderProver(), LightClient.from_genesis(chain.genesis)
    proving = checking = sealing = 0.0
    size = 0
    while client.tip.height < count:
        start = time.perf_counter()
        with chain.snapshot() as reader:
            items = prover.prove(reader, client.tip.height + 1, PAGE)
        proving += time.perf_counter() - start
        start = time.perf_counter()
        for item in items:
            client.accept(item, now_ms=NOW_MS)
        checking += time.perf_counter() - start
        start = time.perf_counter()
        for item in items:
            item.sealed.has_valid_seal(chain.network_id)
        sealing += time.perf_counter() - start
        size += sum(len(item.encode()) for item in items)
    return {
        "blocks": count,
        "bytes_per_header": round(size / count, 1),
        "us_to_prove": round(proving / count * 1e6, 1),
        "us_to_check": round(checking / count * 1e6, 1),
        "us_of_the_seal": round(sealing / count * 1e6, 1),
        "check_by_seal": round(checking / sealing, 2),
    }


def main() -> None:
    """Measure one chain."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else BLOCKS
    with tempfile.TemporaryDirectory() as folder, LmdbStore.open(Path(folder) / "store") as store:
        builder = ChainBuilder(make_genesis())
        chain = ChainState.open(store, builder.genesis)
        grow(chain, builder, count)
        print(json.dumps(measure(chain, count)))


if __name__ == "__main__":
    main()
