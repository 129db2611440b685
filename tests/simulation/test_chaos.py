"""Whole nodes under random partitions, forks and submissions: afterwards one chain, nothing lost, nobody punished.

Each run is a function of its seed; a failing one is named by its test id and repeats exactly. More of them:
`make simulate SEEDS=200`.
"""

from __future__ import annotations

import random

import pytest

from facechain.consensus.block import Block, seal_header
from facechain.consensus.kinds import Kind
from facechain.consensus.payloads import Cancel
from facechain.consensus.statement import Statement, sign_statement
from facechain.node.store.schema import Table
from support.chain import PRODUCER, keys, make_genesis, solve
from support.gossip import Gossip, SimulatedNode

NODES = 5
EVENTS = 120
ROUNDS_TO_SETTLE = 12
AUTHORS = keys(NODES, start=20)
GENESIS = make_genesis(submitters=AUTHORS)


class Chaos:
    """One run: what happens, and what was acknowledged."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.net = Gossip(GENESIS, NODES, seed=seed, real_pools=True)
        self.links: set[tuple[int, int]] = set()
        self.acknowledged: list[Statement] = []
        self.sequences = [0] * NODES
        self.forks = 0

    def mine(self, number: int) -> None:
        """Seal what waits at a node; times differ, so that two nodes never make the same block."""
        node = self.net.nodes[number]
        assert node.mempool is not None
        height = node.height
        time_ms = node.chain.tree.tip.time_ms + GENESIS.params.spacing_ms + self.random.randrange(500)
        template = node.chain.make_template(
            node.mempool.select(), producer=PRODUCER.public, now_ms=time_ms, verified=node.mempool.pool
        )
        header = solve(template.header)
        self.net.give(number, Block(seal_header(PRODUCER, GENESIS.network_id, header), template.body))
        assert node.height == height + 1

    def submit(self, number: int) -> None:
        """Hand one statement to its author's own node."""
        statement = sign_statement(
            AUTHORS[number],
            GENESIS.network_id,
            payload=Cancel(note=f"{number}/{self.sequences[number]}"),
            kind=Kind.CANCEL,
            sequence=self.sequences[number],
            claimed_time_ms=0,
        )
        self.sequences[number] += 1
        self.net.submit(number, statement)
        mempool = self.net.nodes[number].mempool
        assert mempool is not None
        assert statement.leaf in mempool.pool
        self.acknowledged.append(statement)

    def toggle(self) -> None:
        """Cut a link or make one."""
        left, right = sorted(self.random.sample(range(NODES), 2))
        if (left, right) in self.links:
            self.links.discard((left, right))
            self.net.cut(left, right)
        else:
            self.links.add((left, right))
            self.net.connect(left, right)

    def step(self) -> None:
        """Let one thing happen, and some messages arrive."""
        event = self.random.random()
        number = self.random.randrange(NODES)
        if event < 0.35:
            self.submit(number)
        elif event < 0.6:
            self.mine(number)
        elif event < 0.8:
            self.toggle()
        self.net.run(self.random.randrange(40), all_delivered=False)
        self.forks = max(self.forks, len({node.tip for node in self.net.nodes}))

    def heal(self) -> None:
        """Connect everybody and mine until everything is sealed; a tie between two tips needs one more block."""
        for left in range(NODES):
            for right in range(left + 1, NODES):
                if (left, right) not in self.links:
                    self.net.connect(left, right)
        for _ in range(ROUNDS_TO_SETTLE):
            self.net.tick(130.0)
            nodes = self.net.nodes
            if len({node.tip for node in nodes}) == 1 and not any(node.leaves() for node in nodes):
                return
            self.mine(self.random.randrange(NODES))


def state_of(node: SimulatedNode) -> dict[str, dict[bytes, bytes]]:
    with node.chain.store.read() as reader:
        return {
            table: dict(reader.scan(table)) for table in (Table.ACTIVE, Table.SEQUENCES, Table.STATEMENTS)
        }


def test_partitions_and_forks_end_in_one_chain_that_lost_nothing(simulation_seed: int) -> None:
    chaos = Chaos(simulation_seed)
    for _ in range(EVENTS):
        chaos.step()
    chaos.heal()
    nodes = chaos.net.nodes
    assert {node.tip for node in nodes} == {nodes[0].tip}
    assert all(state_of(node) == state_of(nodes[0]) for node in nodes)
    with nodes[0].chain.snapshot() as reader:
        lost = [item for item in chaos.acknowledged if reader.place_of(item.id) is None]
    assert not lost
    assert not [(node.number, node.punished) for node in nodes if node.punished]


@pytest.mark.parametrize("seed", [3])
def test_a_run_is_a_function_of_its_seed(seed: int) -> None:
    tips = []
    for _ in range(2):
        chaos = Chaos(seed)
        for _ in range(EVENTS):
            chaos.step()
        tips.append([node.tip for node in chaos.net.nodes])
        assert chaos.forks > 1, "expected the run to have forks"
    assert tips[0] == tips[1]
