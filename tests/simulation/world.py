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
from facechain.consensus.chain import UNLIMITED_REORG
from facechain.consensus.kinds import Role
from facechain.consensus.signing import LedgerKey
from facechain.consensus.statement import Statement
from facechain.consensus.upgrade import FIRST_VERSION, UpgradeNeeded
from facechain.node.mempool import MempoolLimits
from facechain.node.wire.handshake import PROTOCOL_VERSIONS
from support.chain import keys, make_genesis, seed

from .ambient import installed, listening
from .bounds import check_bounds
from .equivocations import check_equivocations
from .events import Action, Scheduler, Violation
from .faults import Faults
from .hostile import VISIT_SECONDS, Hostile
from .links import Network
from .nodes import SimNode
from .oracle import Oracle, check_promises, check_states, state_hash
from .people import Administrators, Promises, Register, Submitter
from .sockets import PORT
from .versions import KNOWN, OUTDATED_SECONDS, release

HONEST_KEYS: Final = keys(12, start=100)
HOSTILE_KEYS: Final = keys(4, start=140)
AUTHORS: Final = keys(6, start=160)
FLEETING_AUTHOR: Final = keys(1, start=170)[0]
"""Loses its role now and then: nothing that it says has to stay."""
ADMINISTRATORS: Final = keys(2, start=180)
LASTING_MINERS: Final = 3
"""Nodes whose keys always may seal."""
HOSTILE_SEEDS: Final = tuple(seed(f"hostile author {number}") for number in range(len(HOSTILE_KEYS)))
GENESIS: Final = make_genesis(
    producers=(*HONEST_KEYS, *HOSTILE_KEYS),
    submitters=(*AUTHORS, FLEETING_AUTHOR, *map(LedgerKey.from_seed, HOSTILE_SEEDS)),
    administrators=ADMINISTRATORS,
    quorum=2,
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
    max_reorg: int
    """Deepest reorganisation that nodes do while the storm lasts."""
    administered_seconds: float
    """Between two acts of the administrators; 0: there are none."""
    finds_peers: bool
    """Whether nodes hear of each other from one that all know, and by gossip; else everybody names two others."""
    old_wire: int
    """Nodes that speak an older version of the wire."""
    schedules_versions: bool = False
    """Whether the administrators schedule versions of the protocol."""
    outdated: int = 0
    """Nodes whose release knows the first version alone."""

    @classmethod
    def draw(cls, events: Scheduler) -> Shape:
        """Draw one."""
        draw, versions = events.random, events.aside("versions")
        honest = draw.randint(4, 8)
        return cls(
            honest=honest,
            hostile=draw.choice((0, 1, 2, 3)),
            storm_seconds=draw.uniform(400, 1_400),
            fault_seconds=draw.choice((20, 40, 90)),
            block_seconds=draw.choice((8, 12, 20)),
            submit_seconds=draw.choice((3, 8, 20)),
            pool_statements=draw.choice((20_000, 40)),
            max_reorg=draw.choice((UNLIMITED_REORG, UNLIMITED_REORG, 8, 3)),
            administered_seconds=draw.choice((0.0, 60.0, 25.0)),
            finds_peers=draw.random() < 0.5,
            old_wire=draw.choice((0, 0, 1, 2)),
            schedules_versions=versions.random() < 0.5,
            outdated=versions.choice((0, 1, 2, 3, honest)),
        )


class World:
    """See the module's text."""

    def __init__(self, number: int, sink: TextIO | None = None, shape: Shape | None = None) -> None:
        """Draw everything from the seed `number`, or all but the `shape`."""
        self.seed = number
        self.events = Scheduler(number, sink)
        self.network = Network(self.events)
        self.genesis = GENESIS
        self.shape = shape or Shape.draw(self.events)
        self.oracle = Oracle(GENESIS)
        self.storm = True
        self.mining = True
        self.promises = Promises()
        self.register = Register(GENESIS.network_id)
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
        self.submitters.append(Submitter(FLEETING_AUTHOR, 0, is_lasting=False))
        subjects = [(Role.SUBMITTER, FLEETING_AUTHOR)]
        subjects += [(Role.PRODUCER, key) for key in HONEST_KEYS[LASTING_MINERS : len(self.nodes)]]
        subjects += [(Role.PRODUCER, item.mining_key) for item in self.hostile]
        self.administrators = Administrators(self, (ADMINISTRATORS[0], ADMINISTRATORS[1]), subjects)

    def _node(self, number: int) -> SimNode:
        others = [other for other in range(self.shape.honest) if other != number]
        if self.shape.finds_peers:
            known = [0] if number else [1]
        else:
            known = self.events.random.sample(others, min(2, len(others)))
        oldest, newest = PROTOCOL_VERSIONS
        node = SimNode(
            self,
            number,
            mining_key=HONEST_KEYS[number],
            manual=[endpoint_of(other) for other in known],
            max_reorg=self.shape.max_reorg,
            wire_version=self.events.random.randint(oldest, newest - 1)
            if number < self.shape.old_wire
            else newest,
            versions=release(FIRST_VERSION) if number >= self.shape.honest - self.shape.outdated else KNOWN,
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
            self.oracle.check_depth(node, old)
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

    def on_outdated(self, node: SimNode, needed: UpgradeNeeded) -> None:
        """A node stopped before a version: its operator installs one that knows it, or tries again what stopped."""
        if self.events.random.random() < 0.5:
            node.install(release(needed.version))
        self.events.after(self.events.exponential(OUTDATED_SECONDS), partial(self.start, node))

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
        node = self.events.random.choice((self.storm and self.nodes) or self.oracle.followers(self.nodes))
        if self.mining and node.up and not node.frozen and node.mining_key is not None:
            node.mine(node.mining_key)

    def submit_somewhere(self) -> None:
        """A submitter offers its next statement; in the calm only what nobody promises any more."""
        submitters = [item for item in self.submitters if self.storm or item.again]
        if submitters:
            self.events.random.choice(submitters).submit(self)

    def on_disk_lost(self, node: SimNode) -> None:
        """A node's store is gone: who was promised something by it alone has it in the outbox still."""
        self._tips.pop(node.name, None)
        self.oracle.forget(node)
        void = sorted(self.promises.forget(node), key=lambda item: item.sequence)
        for submitter in self.submitters:
            submitter.again += [item for item in void if item.author == submitter.key.public]

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
        if self.shape.administered_seconds:
            self.repeat(self.shape.administered_seconds, self.administrators.act)
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
            node.lift_limit()
            node.install(KNOWN)
            self.start(node)

    def _check(self) -> None:
        for node in self.running:
            check_bounds(node)
            self.oracle.versions.check(node)
            check_promises(node, self.promises.of(node))
            check_equivocations(node, self.register.statements)
        self.events.after(CHECK_SECONDS, self._check)

    def missing(self, node: SimNode) -> list[Statement]:
        """Return what was acknowledged and is not on a node's chain."""
        with node.aside(), node.chain.snapshot() as reader:
            return [item for item in self.promises.statements.values() if reader.place_of(item.id) is None]

    def _wait_for_statements(self) -> None:
        end = self.events.now + CALM_SECONDS_MAX
        while self.oracle.split(self.nodes) or any(self.missing(node) for node in self.nodes):
            if self.events.now >= end:
                lost = {node.name: [item.id.hex()[:16] for item in self.missing(node)] for node in self.nodes}
                if self.oracle.split(self.nodes):
                    raise Violation(f"not all follow the checkpoint: {self.oracle.split(self.nodes)}")
                raise Violation(
                    f"acknowledged statements are in no block {CALM_SECONDS_MAX:g} s after the faults: {lost}"
                )
            self._offer_again()
            self.events.run(self.events.now + CHECK_SECONDS)
        self.mining = False
        self.events.note("silence")

    def _offer_again(self) -> None:
        """Whoever has a statement in the outbox that nobody promises any more offers it until it is on the chain."""
        missing = {item.id: item for node in self.nodes for item in self.missing(node)}
        void = sorted(filter(self.promises.is_void, missing.values()), key=lambda item: item.sequence)
        for submitter in self.submitters:
            submitter.again = [item for item in void if item.author == submitter.key.public]

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
            acknowledged=len(self.promises),
            checkpoints=self.oracle.checkpoints,
            role_changes=self.administrators.changes,
            upgrades=self.oracle.upgrades,
            upgrade_stops=self.oracle.versions.stops,
            equivocations=sum(len(node.equivocators) for node in self.nodes),
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
        best = max((self.oracle.best_known(node) for node in self.nodes), default=0)
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


def endpoint_of(number: int) -> tuple[str, int]:
    """Return where an honest node listens."""
    return f"10.{number}.0.1", PORT
