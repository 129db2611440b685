"""Who uses the simulated network: submitters with outboxes, and administrators."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from facechain.consensus.kinds import Role
from facechain.consensus.payloads import (
    AnyPayload,
    Cancel,
    Checkpoint,
    ProtocolUpgrade,
    RoleApproval,
    RoleProposal,
)
from facechain.consensus.signing import LedgerKey
from facechain.consensus.statement import BatchHeader, Statement, sign_statement
from facechain.node.mempool import Submission
from support.chain import KIND_OF, make_batch
from support.statements import grant, revoke

from .nodes import SimNode
from .versions import AHEAD_BLOCKS, NEWEST, SCHEDULE_SHARE

if TYPE_CHECKING:
    from .world import World

BATCH_SHARE: Final = 0.1
"""Of what is submitted; the rest are statements without a payload worth the name."""
ANSWERS_LOST: Final = 0.05
APPROVAL_SECONDS: Final = 15.0
"""Mean time between the first administrator's word and the second's."""
DEPTH_MAX: Final = 5
"""Blocks above one that administrators vouch for."""


@dataclass(slots=True, eq=False)
class Submitter:
    """Somebody with an outbox: signs the next statement only after the last one was acknowledged."""

    key: LedgerKey
    home: int
    is_lasting: bool = True
    """Whether the key keeps its role: what a revoked key said is void."""
    sequence: int = 0
    pending: Statement | None = None
    again: list[Statement] = field(default_factory=list)
    """Acknowledged by nodes that lost their store since: to be offered again, oldest first."""

    def next_statement(self, world: World) -> Statement:
        """Return what is to be offered now."""
        if self.pending is None:
            note = f"{self.key.public.hex()[:8]}/{self.sequence}"
            if world.events.random.random() < BATCH_SHARE:
                payload, header = make_batch(2, name=note)
                self.pending = world.register.sign(self.key, self.sequence, payload, batch=header)
            else:
                self.pending = world.register.sign(self.key, self.sequence, Cancel(note=note))
        return self.pending

    def submit(self, world: World) -> None:
        """Offer something, mostly to the home node."""
        draw = world.events.random
        number = self.home if draw.random() < 0.8 else draw.randrange(len(world.nodes))
        node = world.nodes[number]
        if node.up and not node.frozen:
            statement = self.again[0] if self.again else self.next_statement(world)
            node.submit(statement, partial(self._on_answer, world, node, statement))

    def _on_answer(self, world: World, node: SimNode, sent: Statement, answer: Submission) -> None:
        """What is queued is acknowledged; the answer itself may get lost, then the same is offered again."""
        if answer.queued:
            if self.is_lasting:
                world.promises.add(node, answer.statement)
            world.events.note("queued", node.name, sent.id.hex()[:16])
        elif answer.refusal is None or answer.refusal.code != "bad-sequence":
            return
        if world.events.random.random() < ANSWERS_LOST:
            return
        if sent in self.again:
            self.again.remove(sent)
        elif self.pending is sent:
            self.pending = None
            self.sequence += 1


class Register:
    """Everything that anybody signed."""

    def __init__(self, network_id: bytes) -> None:
        self._network_id = network_id
        self.statements: dict[bytes, Statement] = {}

    def sign(
        self, key: LedgerKey, sequence: int, payload: AnyPayload, *, batch: BatchHeader | None = None
    ) -> Statement:
        """Sign a statement."""
        statement = sign_statement(
            key, self._network_id, payload=payload, kind=KIND_OF[type(payload)],
            sequence=sequence, claimed_time_ms=0, batch=batch,
        )  # fmt: skip
        self.statements[statement.id] = statement
        return statement


class Promises:
    """What was acknowledged, and by whom."""

    def __init__(self) -> None:
        self.statements: dict[bytes, Statement] = {}
        self._by: dict[bytes, set[str]] = {}

    def __len__(self) -> int:
        return len(self.statements)

    def add(self, node: SimNode, statement: Statement) -> None:
        """A node said that it has a statement on its disk."""
        self.statements.setdefault(statement.id, statement)
        self._by.setdefault(statement.id, set()).add(node.name)

    def of(self, node: SimNode) -> list[Statement]:
        """Return what a node promised to keep."""
        return [self.statements[key] for key, names in self._by.items() if node.name in names]

    def is_void(self, statement: Statement) -> bool:
        """Tell whether nobody promises a statement any more."""
        return not self._by.get(statement.id)

    def forget(self, node: SimNode) -> list[Statement]:
        """A node's disk is gone: return what nobody promises any more."""
        void = []
        for key, names in self._by.items():
            if node.name in names:
                names.discard(node.name)
                if not names:
                    void.append(self.statements[key])
        return void


class Administrators:
    """Two of a quorum of two: they vouch for blocks, take roles and give them back, and schedule protocol versions.

    They never vouch for two branches: each block stands on the one before.
    """

    def __init__(
        self, world: World, keys: tuple[LedgerKey, LedgerKey], subjects: list[tuple[Role, LedgerKey]]
    ) -> None:
        """`subjects`: whom they revoke and grant."""
        self._world = world
        self._keys = keys
        self._subjects = subjects
        self._without: set[tuple[Role, bytes]] = set()
        self._last: bytes | None = None
        """The block that they vouched for last."""
        self.checkpoints = 0
        self.changes = 0

    def act(self) -> None:
        """Say something, if they reach a node."""
        running, draw = self._world.running, self._world.events.random
        if not running or not self._world.storm:
            return
        node = draw.choice(running)
        if self._world.shape.schedules_versions and draw.random() < SCHEDULE_SHARE:
            self._schedule(node)
        elif draw.random() < 0.5:
            self._vouch(node)
        else:
            self._change(node)

    def _vouch(self, node: SimNode) -> None:
        active = node.chain.tree.active
        height = len(active) - 1 - self._world.events.random.randint(0, DEPTH_MAX)
        if self._last is not None and not any(self._follows(item) for item in self._world.nodes):
            self._last = None  # its branch is dead, and nobody is bound to it
        if height < 1 or (self._last is not None and not self._follows(node)):
            return
        if self._last is not None and height <= node.chain.tree.nodes[self._last].height:
            return
        self._last = active[height].hash
        self.checkpoints += 1
        payload = Checkpoint(height=height, block_hash=self._last)
        self._world.events.note("vouch", node.name, height, self._last.hex()[:16])
        self._say(node, self._keys[0], payload)
        self._later(self._keys[1], payload)

    def _follows(self, node: SimNode) -> bool:
        """Tell whether a node's chain, as it was last seen, holds the block that was vouched for."""
        last = None if self._last is None else node.chain.tree.get(self._last)
        return last is not None and node.chain.tree.is_active(last)

    def _change(self, node: SimNode) -> None:
        draw = self._world.events.random
        role, key = draw.choice(self._subjects)
        payload: RoleProposal
        if (role, key.public) in self._without:
            payload = grant(role, key)
            self._without.discard((role, key.public))
        else:
            since = draw.choice((None, max(1, node.chain.tree.tip.height - 3)))
            payload = revoke(role, key, suspect_since=since)
            self._without.add((role, key.public))
        self.changes += 1
        self._world.events.note("role", node.name, payload.action.name, role.name, key.public.hex()[:16])
        proposal = self._say(node, self._keys[0], payload)
        self._later(self._keys[1], RoleApproval(proposal=proposal.id))

    def _schedule(self, node: SimNode) -> None:
        """Ask for a later version, or for the one in force, which takes back what is scheduled."""
        draw, height = self._world.events.random, node.chain.tree.tip.height + 1
        schedule = node.chain.schedule
        in_force = schedule.version_at(height)
        version = min(in_force + draw.choice((0, 1, 1, 2)), NEWEST)
        if version == in_force and schedule.pending_at(height) is None:
            return
        payload = ProtocolUpgrade(version=version, activation_height=height + draw.randint(*AHEAD_BLOCKS))
        self._world.events.note("schedule", node.name, version, payload.activation_height)
        self._say(node, self._keys[0], payload)
        self._later(self._keys[1], payload)

    def _later(self, key: LedgerKey, payload: AnyPayload) -> None:
        def again() -> None:
            running = self._world.running
            if running:
                self._say(self._world.events.random.choice(running), key, payload)

        self._world.events.after(self._world.events.exponential(APPROVAL_SECONDS), again)

    def _say(self, node: SimNode, key: LedgerKey, payload: AnyPayload) -> Statement:
        """Sign the key's next statement, as this node counts; elsewhere another may have its number."""
        statement = self._world.register.sign(key, node.next_sequence(key.public), payload)
        node.submit(statement, lambda _answer: None)
        return statement
