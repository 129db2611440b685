"""What a block costs the nodes of a full mesh, by how many peers announce with leaves; prints a JSON line.

Every node knows the block's statements; messages arrive in random order, the hardest case for a few announcers.

Run: PYTHONPATH=tests python tests/bench/bench_announcers.py [NODES] [BLOCKS] [STATEMENTS]
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from facechain.consensus.payloads import Cancel
from facechain.node.protocol.sync import DEFAULT_LIMITS, SyncLimits
from support.chain import SUBMITTER, ChainBuilder, make_genesis
from support.gossip import Gossip


def per_block(announcers: int, nodes: int, blocks: int, statements: int) -> dict[str, float]:
    """Return the counters of all nodes, divided by the blocks that they took from peers."""
    builder = ChainBuilder(make_genesis())
    net = Gossip(builder.genesis, nodes, seed=1, limits=SyncLimits(announcers=announcers))
    for left in range(nodes):
        for right in range(left):
            net.connect(left, right)
    net.run()
    for number in range(blocks):
        fresh = [builder.statement(SUBMITTER, Cancel(note=f"{number} {item}")) for item in range(statements)]
        net.submit(number % nodes, *fresh)
        net.run()
        net.give(number % nodes, builder.mine(fresh))
        net.run()
        net.tick(11.0)
    counts = [asdict(node.sync.counts) for node in net.nodes]
    taken = sum(item["blocks"] for item in counts)
    names = ("block_bytes", "announcements", "announcements_known", "statements_fetched")
    return {name: round(sum(item[name] for item in counts) / taken, 1) for name in names}


def main() -> None:
    """Measure and print."""
    nodes, blocks, statements = [*(int(item) for item in sys.argv[1:4]), *(10, 20, 100)[len(sys.argv) - 1 :]]
    report: dict[str, object] = {"nodes": nodes, "blocks": blocks, "statements": statements}
    for name, announcers in (("few", DEFAULT_LIMITS.announcers), ("all", nodes), ("none", 0)):
        report[name] = per_block(announcers, nodes, blocks, statements)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
