"""How fast a block reaches a large network, and what that costs: the real synchroniser on thousands of nodes.

    PYTHONPATH=tests .venv/bin/python tests/simulation/propagation.py --nodes 1000 10000 --blocks 50 10 \\
        --plot docs/propagation.png

Every node is the real `Synchronizer` on a header tree of its own, which also chooses who announces blocks to it with
their leaves, and changes its mind as blocks come; work, seals and state are not checked, their time is a constant. Nodes open 8 connections to random others. Latency: lognormal round trips with a median of 140 ms, a fifth
below 70 ms and a fifth above 280 ms (Saroiu, Gummadi and Gribble, "A Measurement Study of Peer-to-Peer File Sharing
Systems", MMCN 2002, figure 5): home connections of that time, so a hard case today. Frames leave a node one after
the other through an uplink of 10 Mbit/s.

Everything follows from the seed. One row of a table is printed for each size, then a line of JSON.
"""

from __future__ import annotations

import argparse
import gc
import heapq
import json
import math
import random
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from facechain.consensus.apply import genesis_block
from facechain.consensus.block import Block, Body, Header, SealedHeader
from facechain.consensus.chain import BlockTree, HeaderNode
from facechain.consensus.errors import Temporary
from facechain.consensus.kinds import Kind
from facechain.consensus.payloads import Cancel
from facechain.consensus.statement import Statement, sign_statement
from facechain.node.protocol.actions import Action, BlockReady, Send
from facechain.node.protocol.sync import Synchronizer, SyncLimits
from facechain.node.wire import messages as wire
from facechain.node.wire.chunks import cut_statements
from facechain.node.wire.codec import encode
from facechain.node.wire.handshake import PROTOCOL_VERSIONS
from facechain.node.wire.limits import MAX_ANNOUNCERS
from support.chain import PRODUCER, SUBMITTER, make_genesis, seed

OUTBOUND: Final = 8
ROUND_TRIP_MEDIAN_SECONDS: Final = 0.140
ROUND_TRIP_SIGMA: Final = math.log(2) / 0.8416
"""A fifth of round trips above twice the median: 0.8416 is that quantile of the normal distribution."""
UPLINK_BYTES_PER_SECOND: Final = 10e6 / 8
BLOCK_SECONDS: Final = 10.0
"""From one block to the next."""
CHECK_SECONDS: Final = 0.010
"""Work, seal and body root of a block, before it is passed on."""
SHARES: Final = (0.5, 0.9, 1.0)
QUANTILES: Final = (0.5, 0.9, 0.99)
GENESIS: Final = make_genesis(name="propagation")
ROOT: Final = genesis_block(GENESIS)[0]
CURVE_POINTS: Final = 100


class Port:
    """A chain that believes every header: the synchroniser's view of one node."""

    def __init__(self) -> None:
        self.tree = BlockTree(ROOT.sealed, GENESIS.params)
        self.pruned_below = 0
        self._sealed: dict[bytes, SealedHeader] = {}
        self.blocks: dict[bytes, Block] = {}

    def accept_header(self, sealed: SealedHeader, *, now_ms: int, seal_checked: bool = False) -> HeaderNode:
        """Add a header whose parent is known."""
        if self.tree.get(sealed.header.previous) is None:
            raise Temporary("missing-parent", expected="a known parent", got=sealed.header.previous.hex())
        self._sealed[sealed.hash] = sealed
        return self.tree.restore(sealed)

    def block(self, block_hash: bytes) -> Block | None:
        """Return a block that came."""
        return self.blocks.get(block_hash)

    def sealed_header(self, block_hash: bytes) -> SealedHeader | None:
        """Return a header that came."""
        return self._sealed.get(block_hash)

    def sealed_headers(self, nodes: Sequence[HeaderNode]) -> tuple[bytes, ...]:
        """Return headers of the active chain."""
        return tuple(self._sealed[node.hash].encode() for node in nodes)


@dataclass(slots=True, eq=False)
class Node:
    """One node, its peers by the number of the other node, and when its uplink is free again."""

    number: int
    port: Port
    sync: Synchronizer
    latency: dict[int, float] = field(default_factory=dict)
    lacks: set[bytes] = field(default_factory=set)
    """Leaves of statements that it does not have yet."""
    outbound: set[int] = field(default_factory=set)
    """Those of its peers that it connected to."""
    free_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """How one block went through the network."""

    reached: tuple[float, ...]
    """Seconds after the first node, of each node, ascending."""
    bytes: int
    announcements: int
    """With a block that the receiver had, or was told of, already: all but one for each node."""

    def seconds_to(self, share: float) -> float:
        """Return when this share of all nodes had the block."""
        return self.reached[math.ceil(share * len(self.reached)) - 1]


class Study:
    """A network and the blocks that go through it."""

    def __init__(
        self,
        number: int,
        nodes: int,
        *,
        statements: int,
        missing: float,
        announcers: int = MAX_ANNOUNCERS,
        warm_up: int = 0,
    ) -> None:
        """Connect a network, and pass some blocks that do not count.

        `missing`: share of a block's statements that a node does not have; `announcers`: peers that a node asks to
        announce with leaves.
        """
        self.random = random.Random(number)
        self._limits = SyncLimits(announcers=announcers)
        self._statements = statements
        self._missing = missing
        self._now = 0.0
        self._heap: list[tuple[float, int, int, int, wire.Message | Block]] = []
        self._order = 0
        self._by_leaf: dict[bytes, Statement] = {}
        self._sizes: dict[tuple[type[wire.Message], object], int] = {}
        self.nodes = [self._node(index) for index in range(nodes)]
        self._connect()
        gc.freeze()  # a large network stays: the collector need not look at it again after every block
        self._tip = ROOT
        self._sent: Counter[str] = Counter()
        self._reached: dict[int, float] = {}
        for _ in range(warm_up):
            self.pass_block()

    def _node(self, index: int) -> Node:
        port = Port()
        return Node(index, port, Synchronizer(port, lambda leaf: self._find(index, leaf), self._limits))

    def _find(self, index: int, leaf: bytes) -> Statement | None:
        return None if leaf in self.nodes[index].lacks else self._by_leaf.get(leaf)

    def _connect(self) -> None:
        """Let every node open its connections and say whom it asks to announce with leaves."""
        count = len(self.nodes)
        for node in self.nodes:
            opened = 0
            while opened < min(OUTBOUND, count - 1):
                other = self.nodes[self.random.randrange(count)]
                if other is node or other.number in node.latency:
                    if len(node.latency) >= count - 1:
                        break
                    continue
                trip = self.random.lognormvariate(math.log(ROUND_TRIP_MEDIAN_SECONDS), ROUND_TRIP_SIGMA)
                node.latency[other.number] = other.latency[node.number] = trip / 2
                node.outbound.add(other.number)
                opened += 1
        wanted: list[tuple[Node, Action]] = []
        for node in self.nodes:
            for peer in node.latency:
                outbound = peer in node.outbound
                greeting = node.sync.on_connected(peer, 0.0, outbound=outbound, version=PROTOCOL_VERSIONS[1])
                wanted += [(node, action) for action in greeting]
        for node, action in wanted:
            if isinstance(action, Send) and isinstance(action.message, wire.SendAnnouncements):
                self.nodes[action.peer].sync.on_send_announcements(node.number, action.message)
        for node in self.nodes:
            for peer in node.latency:
                node.sync.on_headers(peer, [], now=0.0, now_ms=0)

    def pass_block(self) -> Passage:
        """Let a random node find the next block, and wait until nothing moves any more."""
        block = self._next_block()
        for node in self.nodes:
            node.lacks = {item.leaf for item in block.body.statements if self.random.random() < self._missing}
        self._sent, self._reached, start = Counter(), {}, self._now
        finder = self.random.choice(self.nodes)
        finder.lacks = set()
        finder.port.accept_header(block.sealed, now_ms=0)
        self._take(finder, block)
        while self._heap:
            self._now, _, sender, receiver, what = heapq.heappop(self._heap)
            node = self.nodes[receiver]
            if isinstance(what, Block):
                self._take(node, what)
            else:
                self._perform(node, self._on_message(node, sender, what))
        self._now = max(self._now, start + BLOCK_SECONDS)
        return Passage(
            reached=tuple(sorted(at - start for at in self._reached.values())),
            bytes=self._sent["bytes"],
            announcements=self._sent["AnnounceBlock"],
        )

    def _next_block(self) -> Block:
        parent = self._tip.header
        statements = tuple(
            sign_statement(
                SUBMITTER,
                GENESIS.network_id,
                payload=Cancel(note=""),
                kind=Kind.CANCEL,
                sequence=parent.height * self._statements + number,
                claimed_time_ms=0,
            )
            for number in range(self._statements)
        )
        body = Body(statements)
        header = Header(
            version=1, height=parent.height + 1, previous=parent.hash, body_root=body.root(),
            state_root=bytes(32), time_ms=parent.time_ms + 10_000, bits=parent.bits,
            producer=PRODUCER.public, nonce=0,
        )  # fmt: skip
        self._by_leaf = {item.leaf: item for item in statements}
        self._tip = Block(SealedHeader(header, seed("seal") * 2), body)
        return self._tip

    def _take(self, node: Node, block: Block) -> None:
        """The block passed its checks here: tell peers, and make it the tip."""
        if block.hash in node.port.blocks:
            return
        self._reached[node.number] = self._now
        node.port.blocks = {block.hash: block}
        item = node.port.tree.nodes[block.hash]
        node.port.tree.mark_body(item)
        self._perform(node, node.sync.announce(block))
        node.port.tree.set_tip(item)
        self._perform(node, node.sync.on_tip_changed(self._now))

    def _on_message(  # noqa: PLR0911 - one case per message type
        self, node: Node, peer: int, message: wire.Message
    ) -> Iterable[Action]:
        match message:
            case wire.AnnounceBlock():
                return node.sync.on_announce_block(peer, message, now=self._now, now_ms=0)
            case wire.SendAnnouncements():
                return node.sync.on_send_announcements(peer, message)
            case wire.GetLeaves():
                return node.sync.on_get_leaves(peer, message)
            case wire.Leaves():
                return node.sync.on_leaves(peer, message, self._now)
            case wire.GetBody():
                return node.sync.on_get_body(peer, message)
            case wire.BodyChunk():
                return node.sync.on_body_chunk(peer, message, self._now)
            case wire.GetStatements():
                found = [self._by_leaf[leaf].encode() for leaf in message.leaves if leaf not in node.lacks]
                if not found:
                    return [Send(peer, wire.NotFound(missing=wire.Missing.STATEMENT, hashes=message.leaves))]
                return [Send(peer, cut_statements(found))]
            case wire.Statements():
                statements = [Statement.decode(item) for item in message.statements]
                node.lacks -= {item.leaf for item in statements}
                return node.sync.on_statements(peer, statements, self._now)
            case wire.NotFound():
                return node.sync.on_not_found(peer, message, self._now)
        raise TypeError(f"message: expected one about blocks, got {type(message).__name__}")

    def _perform(self, node: Node, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Send():
                    self._send(node, action.peer, action.message)
                case BlockReady():
                    self._plan(self._now + CHECK_SECONDS, action.peer, node.number, action.block)
                case _:
                    raise TypeError(f"action: expected no fault among honest nodes, got {action}")

    def _send(self, node: Node, peer: int, message: wire.Message) -> None:
        size = self._size(message)
        self._sent["bytes"] += size
        self._sent[type(message).__name__] += 1
        node.free_at = max(node.free_at, self._now) + size / UPLINK_BYTES_PER_SECOND
        self._plan(node.free_at + node.latency[peer], node.number, peer, message)

    def _size(self, message: wire.Message) -> int:
        """Return the length of a frame; announcements of one block differ in their leaves alone."""
        if not isinstance(message, wire.AnnounceBlock):
            return len(encode(message))
        key = (wire.AnnounceBlock, (message.byte_count, len(message.leaves)))
        if key not in self._sizes:
            self._sizes[key] = len(encode(message))
        return self._sizes[key]

    def _plan(self, at: float, sender: int, receiver: int, what: wire.Message | Block) -> None:
        self._order += 1
        heapq.heappush(self._heap, (at, self._order, sender, receiver, what))


def quantile(values: Iterable[float], share: float) -> float:
    """Return the nearest-rank quantile."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def report(nodes: int, passages: Sequence[Passage]) -> dict[str, object]:
    """Return the figures of one network."""
    times: dict[str, Mapping[str, float]] = {}
    for share in SHARES:
        seconds = [passage.seconds_to(share) for passage in passages]
        times[f"{share:.0%}"] = {f"p{q * 100:.0f}": round(quantile(seconds, q), 3) for q in QUANTILES}
    duplicates = [passage.announcements / nodes - 1 for passage in passages]
    return {
        "nodes": nodes,
        "blocks": len(passages),
        "seconds": times,
        "duplicates_per_node": round(sum(duplicates) / len(duplicates), 2),
        "bytes_per_node": round(sum(item.bytes for item in passages) / len(passages) / nodes),
    }


def row(figures: Mapping[str, object], name: str) -> str:
    """Return the row of docs/network.md."""
    times = figures["seconds"]
    assert isinstance(times, dict)
    cells = [" / ".join(f"{value:.2f}" for value in quantiles.values()) for quantiles in times.values()]
    return (
        f"| {figures['nodes']:,} | {name} | {figures['blocks']} | {' | '.join(cells)} "
        f"| {figures['duplicates_per_node']} | {figures['bytes_per_node']:,} |"
    )


def plot(results: Mapping[int, Sequence[Passage]], path: Path) -> None:
    """Draw the share of nodes that have a block over time: each block thin, the median of all thick."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.2, 4.2), dpi=90)
    points = [(index + 1) / CURVE_POINTS for index in range(CURVE_POINTS)]
    for colour, (nodes, passages) in zip(
        ("tab:blue", "tab:orange", "tab:green"), results.items(), strict=False
    ):
        curves = [[passage.seconds_to(share) for share in points] for passage in passages]
        for curve in curves:
            axes.plot(curve, points, color=colour, linewidth=0.5, alpha=0.25)
        median = [quantile((curve[index] for curve in curves), 0.5) for index in range(CURVE_POINTS)]
        axes.plot(
            median,
            points,
            color=colour,
            linewidth=2,
            label=f"{nodes:,} nodes, median of {len(passages)} blocks",
        )
    axes.set_xlabel("seconds since the block was found")
    axes.set_ylabel("share of nodes that have it")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", fontsize=9)
    figure.tight_layout()
    figure.savefig(path)


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, nargs="+", default=[1_000], help="sizes (default: 1000)")
    parser.add_argument(
        "--blocks", type=int, nargs="+", default=[50], help="blocks for each size (default: 50)"
    )
    parser.add_argument("--statements", type=int, default=100, help="statements per block (default: 100)")
    parser.add_argument(
        "--missing", type=float, default=0.0, help="share of them that a node lacks (default: 0)"
    )
    parser.add_argument(
        "--announcers",
        type=int,
        default=MAX_ANNOUNCERS,
        help=f"peers that a node asks to announce with leaves (default: {MAX_ANNOUNCERS}, as in a node)",
    )
    parser.add_argument(
        "--warm-up", type=int, default=10, help="blocks before those that count (default: 10)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="seed of graph, latencies and finders (default: 1)"
    )
    parser.add_argument("--plot", type=Path, help="file to draw the curves into")
    options = parser.parse_args()
    results: dict[int, list[Passage]] = {}
    for nodes, blocks in zip(options.nodes, options.blocks, strict=True):
        study = Study(
            options.seed,
            nodes,
            statements=options.statements,
            missing=options.missing,
            announcers=options.announcers,
            warm_up=options.warm_up,
        )
        results[nodes] = [study.pass_block() for _ in range(blocks)]
        figures = report(nodes, results[nodes])
        name = "all known" if not options.missing else f"{options.missing:.0%} missing"
        sys.stdout.write(row(figures, name) + "\n" + json.dumps({**figures, "seed": options.seed}) + "\n")
        sys.stdout.flush()
    if options.plot is not None:
        plot(results, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
