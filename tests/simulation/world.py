"""One run: honest nodes, people who submit and mine, attackers, and faults until they end.

A run has three parts. *Storm*: faults and attacks while people submit and mine. *Calm*: the faults end, clocks are
right again, attackers stay; honest miners go on until everything acknowledged is in a block. *Silence*: nobody mines;
within a bounded time all honest nodes stand at the valid tip of most work.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Final, TextIO

from facechain.consensus.block import Block
from facechain.consensus.kinds import Kind
from facechain.consensus.payloads import Cancel
from facechain.consensus.signing import LedgerKey
from facechain.consensus.statement import Statement, sign_statement
from facechain.node.mempool import MempoolLimits, Submission
from support.chain import keys, make_batch, make_genesis, seed

from .ambient import installed, listening
from .events import Action, Scheduler, Violation
from .faults import Faults
from .hostile import VISIT_SECONDS, Hostile
from .links import Network
from .nodes import SimNode
from .oracle import Oracle, check_bounds, check_states, state_hash

HONEST_KEYS: Final = keys(12, start=100)
HOSTILE_KEYS: Final = keys(4, start=140)
AUTHORS: Final = keys(6, start=160)
HOSTILE_SEEDS: Final = tuple(seed(f"hostile author {number}") for number in range(len(HOSTILE_KEYS)))
GENESIS: Final = make_genesis(
    producers=(*HONEST_KEYS, *HOSTILE_KEYS),
    submitters=(*AUTHORS, *map(LedgerKey.from_seed, HOSTILE_SEEDS)),
    name="simulation",
)

CHECK_SECONDS: Final = 20.0
"""Between two checks of the bounds of every node."""
CALM_SECONDS_MAX: Final = 1_800.0
"""In calm weather everything that was acknowledged is in a block by then."""
SILENCE_SECONDS_MAX: Final = 240.0
"""Without new blocks all honest nodes agree by then; a block of a clock that was ahead waits for up to 90 s of it."""
TIES_MAX: Final = 8
"""Blocks that may be needed to decide between tips of equal work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How large a run is and what happens in it; drawn from its seed."""

    honest: int
    hostile: int
    storm_seconds: float
    fault_seconds: float
    """Between two faults."""
    block_seconds: float
    submit_seconds: float
    pool_statements: int

    @classmethod
    def draw(cls, events: Scheduler) -> Shape:
        """Draw one."""
        draw = events.random
        return cls(
            honest=draw.randint(4, 8),
            hostile=draw.choice((0, 1, 2, 3)),
            storm_seconds=draw.uniform(400, 1_400),
            fault_seconds=draw.choice((20, 40, 90)),
            block_seconds=draw.choice((8, 12, 20)),
            submit_seconds=draw.choice((3, 8, 20)),
            pool_statements=draw.choice((20_000, 40)),
        )


@dataclass(slots=True, eq=False)
class Submitter:
    """Somebody with an outbox: signs the next statement only after the last one was acknowledged."""

    key: LedgerKey
    home: int
    sequence: int = 0
    pending: Statement | None = None

    def next_statement(self, world: World) -> Statement:
        """Return what is to be offered now."""
        if self.pending is None:
            note, network_id = f"{self.home}/{self.sequence}", world.genesis.network_id
            if world.events.random.random() < 0.1:
                payload, header = make_batch(2, name=note)
                self.pending = sign_statement(
                    self.key, network_id, payload=payload, kind=Kind.IMAGE_BATCH,
                    sequence=self.sequence, claimed_time_ms=0, batch=header,
                )  # fmt: skip
            else:
                self.pending = sign_statement(
                    self.key, network_id, payload=Cancel(note=note), kind=Kind.CANCEL,
                    sequence=self.sequence, claimed_time_ms=0,
                )  # fmt: skip
        return self.pending

    def advance(self) -> None:
        """The statement is taken: go on to the next one."""
        self.pending = None
        self.sequence += 1


class World:
    """See the module's text."""

    def __init__(self, number: int, sink: TextIO | None = None) -> None:
        self.seed = number
        self.events = Scheduler(number, sink)
        self.network = Network(self.events)
        self.genesis = GENESIS
        self.shape = Shape.draw(self.events)
        self.oracle = Oracle(GENESIS)
        self.storm = True
        self.mining = True
        self.acknowledged: dict[bytes, Statement] = {}
        self.reorganised = 0
        """Changes of a tip to one that does not stand on it."""
        self.faults = 0
        self._tips: dict[str, bytes] = {}
        self.nodes = [self._node(number) for number in range(self.shape.honest)]
        self.by_key = {node.key: node for node in self.nodes}
        self.hostile = [self._hostile(number) for number in range(self.shape.hostile)]
        self.offences: Counter[str] = Counter()
        self.bans: Counter[str] = Counter()
        self.weather = Faults(self)
        self.submitters = [Submitter(key, number % len(self.nodes)) for number, key in enumerate(AUTHORS)]

    def _node(self, number: int) -> SimNode:
        others = [other for other in range(self.shape.honest) if other != number]
        known = self.events.random.sample(others, min(2, len(others)))
        node = SimNode(
            self,
            number,
            mining_key=HONEST_KEYS[number],
            manual=[(f"10.{other}.0.1", 9735) for other in known],
        )
        self.network.add(node)
        return node

    def _hostile(self, number: int) -> Hostile:
        key, author = HOSTILE_KEYS[number], HOSTILE_SEEDS[number]
        hostile = Hostile(self, number, mining_key=key, author_seed=author)
        self.network.add(hostile)
        return hostile

    @property
    def running(self) -> list[SimNode]:
        """Honest nodes that are neither dead nor frozen."""
        return [node for node in self.nodes if node.up and not node.frozen]

    # What nodes tell.

    def on_tip(self, node: SimNode) -> None:
        """A node follows another tip: check it, and count what was left behind."""
        tree, before = node.chain.tree, self._tips.get(node.name)
        old = None if before is None else tree.get(before)
        if old is not None and not tree.is_active(old):
            self.reorganised += 1
        self._tips[node.name] = node.tip
        self.events.note("tip", node.name, tree.tip.height, node.tip.hex()[:16])
        self.oracle.check_tip(node)

    def on_mined(self, block: Block) -> None:
        """An honest node found a block: attackers have their ways of hearing of it first."""
        for hostile in self.hostile:
            hostile.on_mined(block)

    def on_offence(
        self, node: SimNode, honest: SimNode | None, reason: str, detail: str, *, is_ban: bool
    ) -> None:
        """A node punishes a peer: never an honest one."""
        if honest is not None:
            self.events.fail(Violation(f"{node.name} punished the honest {honest.name}: {reason}: {detail}"))
        self.bans[reason] += is_ban

    def on_crash(self, node: SimNode) -> None:
        """A node died inside a transaction: it is started again after a while."""
        delay = self.events.exponential(20) if self.storm else 1.0
        self.events.after(delay, partial(self.start, node))

    def start(self, node: SimNode) -> None:
        """Start a node unless it runs."""
        if node.up:
            return
        node.start()
        for hostile in self.hostile:
            if self.events.random.random() < 0.5:
                hostile.call_on(node)

    # People.

    def repeat(self, mean: float, action: Action) -> None:
        """Do something at random times for as long as the run lasts."""

        def again() -> None:
            action()
            self.events.after(self.events.exponential(mean), again)

        self.events.after(self.events.exponential(mean), again)

    def mine_somewhere(self) -> None:
        """One of the honest miners finds a block."""
        node = self.events.random.choice(self.nodes)
        if self.mining and node.up and not node.frozen and node.mining_key is not None:
            node.mine(node.mining_key)

    def submit_somewhere(self) -> None:
        """A submitter offers its next statement: mostly to its own node, sometimes to another."""
        if not self.storm:
            return
        draw = self.events.random
        submitter = draw.choice(self.submitters)
        number = submitter.home if draw.random() < 0.8 else draw.randrange(len(self.nodes))
        node = self.nodes[number]
        if node.up and not node.frozen:
            statement = submitter.next_statement(self)
            node.submit(statement, partial(self._on_answer, node, submitter, statement))

    def _on_answer(self, node: SimNode, submitter: Submitter, sent: Statement, answer: Submission) -> None:
        """What is queued is acknowledged; the answer itself may get lost, then the same is offered again."""
        if answer.queued:
            self.acknowledged.setdefault(answer.statement.id, answer.statement)
            self.events.note("queued", node.name, sent.id.hex()[:16])
        elif answer.refusal is None or answer.refusal.code != "bad-sequence":
            return
        if submitter.pending is sent and self.events.random.random() < 0.95:
            submitter.advance()

    # The run.

    def run(self) -> None:
        """Let all three parts happen; raises Violation."""
        limits = MempoolLimits(statements=self.shape.pool_statements)
        with installed(self.events, limits), listening(self.events):
            try:
                self._run()
            finally:
                for node in self.nodes:
                    node.bury()

    def _run(self) -> None:
        self.events.note("shape", self.shape)
        for node in self.nodes:
            self.events.after(self.events.random.uniform(0, 5), partial(self.start, node))
        self.repeat(self.shape.block_seconds, self.mine_somewhere)
        self.repeat(self.shape.submit_seconds, self.submit_somewhere)
        self.events.after(CHECK_SECONDS, self._check)
        self.repeat(self.shape.fault_seconds, self.weather.strike)
        for hostile in self.hostile:
            self.repeat(VISIT_SECONDS, hostile.visit)
        self.events.run(self.shape.storm_seconds)
        self.storm = False
        self.events.note("calm")
        self._end_storm()
        self._wait_for_statements()
        self._wait_for_one_tip()
        self._check_end()

    def _end_storm(self) -> None:
        self.weather.end()
        for node in self.nodes:
            node.fuse = None
            node.skew_ms = 0
            self.start(node)

    def _check(self) -> None:
        for node in self.running:
            check_bounds(node)
        self.events.after(CHECK_SECONDS, self._check)

    def missing(self, node: SimNode) -> list[Statement]:
        """Return what was acknowledged and is not on a node's chain."""
        with node.chain.snapshot() as reader:
            return [item for item in self.acknowledged.values() if reader.place_of(item.id) is None]

    def _wait_for_statements(self) -> None:
        end = self.events.now + CALM_SECONDS_MAX
        while any(self.missing(node) for node in self.nodes):
            if self.events.now >= end:
                lost = {node.name: [item.id.hex()[:16] for item in self.missing(node)] for node in self.nodes}
                raise Violation(
                    f"acknowledged statements are in no block {CALM_SECONDS_MAX:g} s after the faults: {lost}"
                )
            self.events.run(self.events.now + CHECK_SECONDS)
        self.mining = False
        self.events.note("silence")

    def _wait_for_one_tip(self) -> None:
        for _ in range(TIES_MAX):
            end = self.events.now + SILENCE_SECONDS_MAX
            while len({node.tip for node in self.nodes}) > 1 and self.events.now < end:
                self.events.run(self.events.now + CHECK_SECONDS)
            works = {node.chain.tree.tip.chainwork for node in self.nodes}
            tips = {node.tip for node in self.nodes}
            if len(works) > 1:
                raise Violation(
                    f"tips of different work {SILENCE_SECONDS_MAX:g} s after the last block: {self.heights()}"
                )
            if len(tips) == 1:
                return
            miner = self.nodes[0]
            self.events.note("tie", *self.heights())
            miner.mine(HONEST_KEYS[0])
            self.events.run(self.events.now + CHECK_SECONDS)
        raise Violation(f"no one tip after {TIES_MAX} more blocks: {self.heights()}")

    def counts(self) -> Counter[str]:
        """Return what happened, in numbers that add up over runs."""
        return Counter(
            nodes=len(self.nodes),
            attackers=len(self.hostile),
            blocks=self.oracle.blocks,
            acknowledged=len(self.acknowledged),
            reorganisations=self.reorganised,
            faults=self.faults,
            crashes=sum(node.crashes for node in self.nodes),
            bans=sum(self.bans.values()),
            messages=self.network.frames,
        )

    def heights(self) -> list[str]:
        """Return every node's tip for a message."""
        return [f"{node.name}:{node.chain.tree.tip.height}:{node.tip.hex()[:8]}" for node in self.nodes]

    def _check_end(self) -> None:
        best = max((known_best(node) for node in self.nodes), default=0)
        for node in self.nodes:
            if node.chain.tree.tip.chainwork < best:
                raise Violation(f"{node.name} does not follow the valid tip of most work: {self.heights()}")
            if self.missing(node):
                raise Violation(f"{node.name} lost acknowledged statements: {self.missing(node)}")
            check_bounds(node)
        check_states(self.nodes)
        if self.oracle.replay(self.nodes[0]) != state_hash(self.nodes[0].store):
            raise Violation("a new node with the same blocks has another state")
        self.events.note("end", self.nodes[0].tip.hex(), state_hash(self.nodes[0].store))


def known_best(node: SimNode) -> int:
    """Return the most work of a valid chain whose bodies a node has."""
    return max(item.chainwork for item in node.chain.tree.nodes.values() if item.linked and not item.invalid)
