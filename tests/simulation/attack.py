"""What every attack is: one connection of an attacker, polite where it says nothing else.

An attack pongs, serves true headers and bodies of its own chain, has no statements and knows no addresses. One that must
not be borne calls `offend` when it strikes, and the connection has to end.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from facechain.consensus.block import Block, SealedHeader
from facechain.consensus.work import block_work
from facechain.node.protocol.serving import ServedBody
from facechain.node.wire import messages as wire

from .ambient import HEADERS_MAX
from .events import Violation
from .hostile import JUDGE_SECONDS, Hostile, say
from .links import Side
from .nodes import SimNode

SKEW_BORNE_MS: Final = 30_000
"""A node whose clock is further off may take what is wrong for what is merely from the future."""


class Attack:
    """One connection of an attacker."""

    def __init__(self, hostile: Hostile, side: Side) -> None:
        self.hostile = hostile
        self.side = side
        self.random = hostile.events.random
        victim = side.other.host
        if not isinstance(victim, SimNode):
            raise TypeError(f"victim: expected an honest node, got {victim.name}")
        self.victim: SimNode = victim
        self.shown: list[Block] = []
        """Blocks that it claims as its chain, on top of what is below the first of them."""

    def begin(self) -> None:
        """Strike, some seconds after the connection was made."""

    def on_mined(self, block: Block) -> None:
        """Somebody honest found a block, just now; nobody else knows of it yet."""

    def offend(self) -> None:
        """What was just sent must end the connection, unless the victim's clock tells another time."""
        if abs(self.victim.skew_ms) > SKEW_BORNE_MS:
            return
        world, events = self.hostile.world, self.hostile.events
        world.offences[type(self).__name__] += 1
        events.note("offence", self.hostile.name, self.victim.name, type(self).__name__)
        events.after(JUDGE_SECONDS, partial(self._judge, events.now, self.victim.life))

    def knows_parent(self) -> bool:
        """Tell whether the victim judges what the attacker builds: it knows the tip below, and cares for that much work.

        Headers of branches with too little work are passed over unread, and of versions that the victim does not know
        as well, which is nobody's offence.
        """
        if self.hostile.chain.version not in self.victim.versions:
            return False
        tip = self.victim.chain.tree.get(self.hostile.chain.tree.tip.hash)
        return tip is not None and tip.chainwork >= self.victim.sync.headers.worth_storing()

    def _judge(self, since: float, life: int) -> None:
        disturbed = max(self.victim.disturbed, self.hostile.disturbed) >= since - 1
        disturbed |= self.victim.frozen or abs(self.victim.skew_ms) > SKEW_BORNE_MS
        alive = self.side.open and self.side.other.open and self.victim.life == life
        if alive and not disturbed and not self.is_excused():
            name = type(self).__name__
            raise Violation(
                f"{self.victim.name} still talks to {self.hostile.name} {JUDGE_SECONDS:g} s after {name}"
            )

    def is_excused(self) -> bool:
        """Tell whether the victim cannot have noticed."""
        return False

    def say(self, message: wire.Message) -> None:
        """Send a message."""
        say(self.side, message)

    # Answers.

    def on_message(self, message: wire.Message) -> None:
        """Answer."""
        match message:
            case wire.Ping():
                self.say(wire.Pong(nonce=message.nonce))
            case wire.GetHeaders():
                self.on_get_headers(message)
            case wire.GetBody():
                self.on_get_body(message)
            case wire.GetLeaves():
                self.on_get_leaves(message)
            case wire.GetStatements():
                self.on_get_statements(message)
            case wire.GetAddresses():
                self.say(wire.Addresses(addresses=self.addresses()))
            case _:
                pass

    def line(self) -> list[SealedHeader]:
        """Return the headers that it claims, from block 1 on."""
        tree = self.hostile.chain.tree
        if not self.shown:
            active = tree.active[1:]
        else:
            fork = tree.nodes[self.shown[0].header.previous]
            active = list(fork.ancestors())[-2::-1]
        known = [self.hostile.chain.sealed_header(node.hash) for node in active]
        return [item for item in known if item is not None] + [block.sealed for block in self.shown]

    def on_get_headers(self, message: wire.GetHeaders) -> None:
        """Serve what it claims."""
        line = self.line()
        positions = {item.hash: index for index, item in enumerate(line)}
        start = next((positions[item] + 1 for item in message.locator if item in positions), 0)
        self.say(
            wire.Headers(sealed_headers=tuple(item.encode() for item in line[start : start + HEADERS_MAX]))
        )

    def block(self, block_hash: bytes) -> Block | None:
        """Find a body to serve."""
        shown = next((block for block in self.shown if block.hash == block_hash), None)
        return shown or self.hostile.twins.get(block_hash) or self.hostile.chain.block(block_hash)

    def on_get_body(self, message: wire.GetBody) -> None:
        """Serve a body, or say that it is not here."""
        block = self.block(message.block_hash)
        if block is None:
            self.say(wire.NotFound(missing=wire.Missing.BODY, hashes=(message.block_hash,)))
            return
        self.say(ServedBody.of(block).chunk(message.start, with_leaves=message.with_leaves))

    def on_get_leaves(self, message: wire.GetLeaves) -> None:
        """Serve a body's leaves, or say that they are not here."""
        block = self.block(message.block_hash)
        if block is None:
            self.say(wire.NotFound(missing=wire.Missing.LEAVES, hashes=(message.block_hash,)))
            return
        self.say(
            wire.Leaves(block_hash=block.hash, byte_count=block.body.byte_count(), leaves=block.body.leaves())
        )

    def on_get_statements(self, message: wire.GetStatements) -> None:
        """Say that they are not here."""
        self.say(wire.NotFound(missing=wire.Missing.STATEMENT, hashes=message.leaves))

    def addresses(self) -> tuple[wire.Address, ...]:
        """Return what it knows of others."""
        return ()

    # Tools.

    def learn(self) -> None:
        """Stand on the victim's tip."""
        self.hostile.learn(self.victim)

    def announce(self, block: Block, *, leaves: bool = True) -> None:
        """Announce a block."""
        self.say(
            wire.AnnounceBlock(
                sealed_header=block.sealed.encode(),
                byte_count=block.body.byte_count(),
                leaves=block.body.leaves() if leaves else (),
            )
        )

    def show(self, *blocks: Block) -> None:
        """Claim blocks as its own chain: the victim asks for their headers."""
        self.shown = list(blocks)
        parent = self.hostile.chain.tree.nodes[blocks[0].header.previous]
        work = parent.chainwork + sum(block_work(block.header.bits) for block in blocks)
        self.say(
            wire.Status(
                tip_hash=blocks[-1].hash,
                height=blocks[-1].header.height,
                chainwork=work.to_bytes(32, "big"),
                pruned_below=0,
            )
        )
