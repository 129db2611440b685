"""Attackers: hosts that connect to honest nodes and try one attack of `attacks.ATTACKS` on each connection.

An attacker knows the whole network (it reads honest nodes' chains at will), holds a producer's and a submitter's key,
and takes a new identity when its old one is banned everywhere. What it cannot do is forge signatures or work, break
TLS, or cut other people's connections.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from facechain.consensus.block import Block, Body, seal_header
from facechain.consensus.errors import DecodeError, RuleViolation
from facechain.consensus.payloads import Cancel
from facechain.consensus.signing import LedgerKey
from facechain.consensus.statement import Statement
from facechain.node.chainstate import ChainState
from facechain.node.store.memory import MemoryStore
from facechain.node.wire import messages as wire
from facechain.node.wire.codec import decode, encode
from facechain.node.wire.faults import PeerFault
from support.chain import make_batch, solve

from .ambient import START_MS
from .events import Violation
from .links import Host, Side
from .nodes import SimNode
from .versions import KNOWN

if TYPE_CHECKING:
    from .attack import Attack
    from .world import World

VISIT_SECONDS: Final = 15.0
"""Between two connections that an attacker tries to make."""
JUDGE_SECONDS: Final = 120.0
"""After an offence that must not be borne, the connection is gone by then: silence is borne for 90 s."""


class Hostile(Host):
    """See the module's text."""

    def __init__(self, world: World, number: int, *, mining_key: LedgerKey, author_seed: bytes) -> None:
        super().__init__(world.events, f"h{number}", (f"172.{16 + number}.0.1", 9735), _identity(number, 0))
        self.world = world
        self.number = number
        self.mining_key = mining_key
        self.author = LedgerKey.from_seed(author_seed)
        self.author_seed = author_seed
        self.chain = ChainState.open(MemoryStore.open(), world.genesis, versions=KNOWN)
        self.visits: dict[Side, Attack] = {}
        self.twins: dict[bytes, Block] = {}
        """Blocks of which it sealed two at one height."""
        self.identities = 1
        self.up = True

    @property
    def now_ms(self) -> int:
        """The right time."""
        return START_MS + int(self.events.now * 1_000)

    # Connections.

    def visit(self) -> None:
        """Connect to somebody, under a new name if everybody banned the old one."""
        honest = [node for node in self.world.running if not node.is_banned(self.key)]
        if not honest:
            self.identities += 1
            self.key = _identity(self.number, self.identities)
            return
        self.call_on(self.events.random.choice(honest))

    def call_on(self, node: SimNode) -> None:
        """Connect to a certain node, if that is worth it: one that has just started is behind and trusts anybody."""
        if not any(side.other.host is node for side in self.visits):
            self.world.network.dial(self, node.endpoint, self._on_dialed)

    def _on_dialed(self, side: Side | None) -> None:
        if side is not None:
            self.on_open(side)

    def on_open(self, side: Side) -> bool:
        from .attacks import ATTACKS

        if not isinstance(side.other.host, SimNode):
            return False
        attack = self.events.random.choice(ATTACKS)(self, side)
        self.visits[side] = attack
        self.events.note("attack", self.name, side.other.host.name, type(attack).__name__)
        delay = self.events.random.choice((0.0, self.events.random.uniform(0.5, 20)))
        self.after(delay, partial(self._begin, attack))
        return True

    def _begin(self, attack: Attack) -> None:
        if attack.side.open and attack.victim.up:
            with self.powerless():
                attack.begin()

    def on_closed(self, side: Side) -> None:
        self.visits.pop(side, None)

    def on_frame(self, side: Side, frame: bytes) -> None:
        attack = self.visits.get(side)
        if attack is None:
            return
        try:
            message = decode(frame)
        except (DecodeError, PeerFault) as error:
            raise Violation(f"{side.other.host.name} sent a frame that does not decode: {error}") from error
        if isinstance(message, wire.Disconnect):
            side.close()
            del self.visits[side]
            return
        with self.powerless():
            attack.on_message(message)

    def on_crash(self) -> None:
        raise Violation(f"{self.name} read a store whose fuse burns")

    def on_mined(self, block: Block) -> None:
        """Learn of a block before everybody else."""
        for attack in self.visits.values():
            with self.powerless():
                attack.on_mined(block)

    # What it knows and makes.

    @contextmanager
    def powerless(self) -> Iterator[None]:
        """Give an attack up that needs a producer's key after that was revoked."""
        try:
            yield
        except RuleViolation as error:
            if error.code != "unauthorized-producer":
                raise
            self.events.note("powerless", self.name)

    def learn(self, node: SimNode) -> None:
        """Copy the active chain of a node."""
        with node.aside():
            self._learn(node)

    def _learn(self, node: SimNode) -> None:
        new = []
        for item in node.chain.tree.tip.ancestors():
            known = self.chain.tree.get(item.hash)
            if known is not None and known.has_body:
                break
            new.append(item.hash)
        for block_hash in reversed(new):
            block = node.chain.block(block_hash)
            if block is not None:
                self.chain.accept_block(block, now_ms=2 * self.now_ms)

    def statement(self, *, ahead: int = 0, note: str = "", sequence: int | None = None) -> Statement:
        """Sign a statement with the next sequence of its chain, one that is ahead of it, or a certain one."""
        if sequence is None:
            with self.chain.view() as state:
                sequence = state.next_sequence(self.author.public) + ahead
        note = note or f"{self.name} {self.events.random.getrandbits(32)}"
        return self.world.register.sign(self.author, sequence, Cancel(note=note))

    def batch(self, sequence: int) -> Statement:
        """Sign a batch: unlike what `statement` makes, two of them in one place are an equivocation."""
        payload, header = make_batch(1, name=f"{self.name} {self.events.random.getrandbits(32)}")
        return self.world.register.sign(self.author, sequence, payload, batch=header)

    def forge(
        self,
        statements: Sequence[Statement] = (),
        *,
        body: Body | None = None,
        key: LedgerKey | None = None,
        mined: bool = True,
        **changes: Any,
    ) -> Block:
        """Make a block on top of its chain: right but for another `body` or `changes` of the header."""
        empty = not statements and body is None
        due = self.chain.tree.tip.time_ms + self.chain.params.heartbeat_ms if empty else 0
        template = self.chain.make_template(
            statements, producer=self.mining_key.public, now_ms=max(self.now_ms, due)
        )
        body = body or template.body
        header = replace(template.header, body_root=body.root(), **changes)
        if key is not None:
            header = replace(header, producer=key.public)
        return Block(
            seal_header(key or self.mining_key, self.chain.network_id, solve(header) if mined else header),
            body,
        )

    def keep(self, block: Block) -> None:
        """Take a block into its own chain."""
        with suppress(RuleViolation):
            self.chain.accept_block(block, now_ms=2 * self.now_ms)


def _identity(number: int, name: int) -> bytes:
    return bytes([2, number]) * 14 + name.to_bytes(4, "big")


def say(side: Side, message: wire.Message) -> None:
    """Send a message without heeding any pace."""
    side.send(encode(message))
