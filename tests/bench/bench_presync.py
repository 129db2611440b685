"""What a header costs a synchroniser, stored as it comes or looked at twice; prints a JSON line.

Processor time per header, seals apart; the median of several rounds, the ways in turn.

Run: PYTHONPATH=tests python tests/bench/bench_presync.py [HEADERS] [ROUNDS]
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence

from facechain.consensus.block import SealedHeader
from facechain.node.chainstate import ChainState
from facechain.node.protocol.presync import HeaderRules
from facechain.node.protocol.sync import Synchronizer, SyncLimits
from facechain.node.store.memory import MemoryStore
from facechain.node.wire.limits import MAX_HEADERS
from support.chain import make_genesis, seed
from support.gossip import FAR_FUTURE_MS
from support.long_chain import LongChain

GENESIS = make_genesis()
PEER = 1


def rules() -> HeaderRules:
    """Return the rules of the network, with a salt of the bench."""
    return HeaderRules(params=GENESIS.params, salt=seed("bench"))


def synchronizer(minimum: int, rules: HeaderRules | None) -> Synchronizer:
    """Return one at block 0, with a peer."""
    chain = ChainState.open(MemoryStore.open(), GENESIS)
    sync = Synchronizer(chain, lambda _leaf: None, SyncLimits(minimum_chainwork=minimum), rules)
    sync.on_connected(PEER, 0.0)
    return sync


def microseconds(sync: Synchronizer, headers: Sequence[SealedHeader], passes: int) -> float:
    """Return what one header costs when all are shown `passes` times."""
    started = time.process_time()
    for _ in range(passes):
        for start in range(0, len(headers), MAX_HEADERS):
            sync.on_headers(
                PEER, headers[start : start + MAX_HEADERS], now=0.0, now_ms=FAR_FUTURE_MS, seals_checked=True
            )
    return 1e6 * (time.process_time() - started) / len(headers)


def main() -> None:
    """Measure and print."""
    count, rounds = [*(int(item) for item in sys.argv[1:3]), *(10_000, 5)[len(sys.argv) - 1 :]]
    line = LongChain(GENESIS)
    headers = [line.mine().sealed for _ in range(count)]
    whole = synchronizer(0, None)
    microseconds(whole, headers, 1)
    work = whole._chain.tree.best_header.chainwork
    found: dict[str, list[float]] = {"stored": [], "sifted": [], "twice": [], "first_pass": []}
    for _ in range(rounds):
        found["stored"].append(microseconds(synchronizer(0, None), headers, 1))
        found["sifted"].append(microseconds(synchronizer(0, rules()), headers, 1))
        twice = synchronizer(work, rules())
        found["twice"].append(microseconds(twice, headers, 2))
        if twice._chain.tree.best_header.height != count:
            raise ValueError(f"expected {count} headers, got {twice._chain.tree.best_header.height}")
        found["first_pass"].append(microseconds(synchronizer(2**255, rules()), headers, 1))
    report = {f"{name}_us_per_header": round(statistics.median(times), 1) for name, times in found.items()}
    print(json.dumps({"headers": count, "rounds": rounds, **report}))


if __name__ == "__main__":
    main()
