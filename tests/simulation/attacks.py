"""What attackers do: one class each. An attack that must not be borne calls `offend` when it strikes.

Every attack answers politely where it says nothing else: it pongs, serves true headers and bodies of its own chain,
has no statements and knows no addresses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from facechain.consensus.block import Block, Body, SealedHeader, seal_header
from facechain.consensus.signing import Purpose, signed_message
from facechain.consensus.statement import Statement
from facechain.consensus.validation import HeaderContext
from facechain.consensus.work import block_work, meets_target
from facechain.node.protocol.serving import ServedBody
from facechain.node.wire import messages as wire
from facechain.node.wire.codec import encode
from support.chain import STRANGER, other_signature, seed, solve

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
        """What was just sent must end the connection."""
        world, events = self.hostile.world, self.hostile.events
        world.offences[type(self).__name__] += 1
        events.note("offence", self.hostile.name, self.victim.name, type(self).__name__)
        events.after(JUDGE_SECONDS, partial(self._judge, events.now, self.victim.life))

    def knows_parent(self) -> bool:
        """Tell whether the victim knows the tip that the attacker builds on: else it cannot check a header."""
        return self.victim.chain.tree.get(self.hostile.chain.tree.tip.hash) is not None

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
        self.say(wire.Headers(sealed_headers=tuple(item.encode() for item in line[start : start + 2_000])))

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


# Frames.


class Garbage(Attack):
    def begin(self) -> None:
        kind = self.random.choice((0x12, 0x24, 0x30, 0x41))
        self.side.send(bytes([kind]) + self.random.randbytes(self.random.randint(1, 80)))
        self.offend()


class UnknownType(Attack):
    def begin(self) -> None:
        self.side.send(bytes([0x7F]) + b"\x90")
        self.offend()


class Oversized(Attack):
    def begin(self) -> None:
        self.side.send(encode(wire.Ping(nonce=1)) + bytes(200))
        self.offend()


class Unsolicited(Attack):
    def begin(self) -> None:
        for _ in range(3):
            self.say(wire.Statements(statements=(self.hostile.statement().encode(),)))
        for _ in range(40):
            self.say(wire.Headers(sealed_headers=()))
        self.offend()


class RateFlood(Attack):
    def begin(self) -> None:
        for nonce in range(130):
            self.say(wire.Ping(nonce=nonce))
        self.offend()


class SecondHello(Attack):
    def begin(self) -> None:
        hello = wire.Hello(
            version_min=1, version_max=1, network_id=bytes(32), node_key=bytes(32), nonce=bytes(32),
            role=wire.HandshakeRole.INITIATOR, listen_port=0, services=0, user_agent="",
        )  # fmt: skip
        self.say(hello)
        self.offend()


class Mute(Attack):
    """Never says a word, not even to a ping."""

    def begin(self) -> None:
        self.offend()

    def on_message(self, message: wire.Message) -> None:
        pass


class BadStart(Attack):
    def begin(self) -> None:
        self.say(
            wire.GetBody(block_hash=self.victim.chain.tree.active[0].hash, start=1_000_000, with_leaves=False)
        )
        self.offend()


class AddressFlood(Attack):
    def addresses(self) -> tuple[wire.Address, ...]:
        return tuple(
            wire.Address(
                host=f"172.{self.random.randint(16, 31)}.{self.random.randint(0, 255)}.{number % 250}",
                port=1 + self.random.randrange(60_000),
                last_seen_ms=self.hostile.now_ms,
            )
            for number in range(80)
        )

    def begin(self) -> None:
        self.say(
            wire.Addresses(addresses=self.addresses())
        )  # nobody asked: an answer more than there were requests
        self.offend()


# Headers.


class BadSeal(Attack):
    def begin(self) -> None:
        self.learn()
        block = self.hostile.forge([self.hostile.statement()])
        self.announce(Block(SealedHeader(block.header, bytes(32) + block.sealed.seal[32:]), block.body))
        if self.knows_parent():
            self.offend()


class NoWork(Attack):
    def begin(self) -> None:
        self.learn()
        block = self.hostile.forge([self.hostile.statement()], mined=False)
        header = block.header
        while meets_target(header.hash, header.bits):
            header = header.with_nonce(header.nonce + 1)
        sealed = seal_header(self.hostile.mining_key, self.hostile.chain.network_id, header)
        self.announce(Block(sealed, block.body))
        if self.knows_parent():
            self.offend()


class WrongBits(Attack):
    def begin(self) -> None:
        self.learn()
        self.announce(self.hostile.forge([self.hostile.statement()], bits=0x1F7FFFFF))
        if self.knows_parent():
            self.offend()


class OldTime(Attack):
    def begin(self) -> None:
        self.learn()
        context: HeaderContext = self.hostile.chain.tree.context(self.hostile.chain.tree.tip)
        self.announce(self.hostile.forge([self.hostile.statement()], time_ms=context.median_time_ms))
        if self.knows_parent():
            self.offend()


class FutureTime(Attack):
    """Blocks from the future wait; that is nobody's fault."""

    def begin(self) -> None:
        self.learn()
        later = self.hostile.now_ms + 400_000
        self.announce(self.hostile.forge([self.hostile.statement()], time_ms=later))


class HeaderGap(Attack):
    def begin(self) -> None:
        self.learn()
        self.show(self.hostile.forge([self.hostile.statement()]))

    def on_get_headers(self, message: wire.GetHeaders) -> None:
        if not self.shown:
            super().on_get_headers(message)
            return
        first, other = self.shown[0].sealed, self.hostile.forge([self.hostile.statement()]).sealed
        self.say(wire.Headers(sealed_headers=(first.encode(), other.encode())))
        if self.knows_parent():
            self.offend()


class OrphanFlood(Attack):
    def begin(self) -> None:
        self.learn()
        for number in range(120):
            block = self.hostile.forge(previous=seed(f"nowhere {number}"))
            self.announce(block)


class Boaster(Attack):
    """Claims endless work and shows nothing."""

    def begin(self) -> None:
        self.say(
            wire.Status(
                tip_hash=self.random.randbytes(32), height=10**6,
                chainwork=(1 << 200).to_bytes(32, "big"), pruned_below=0,
            )
        )  # fmt: skip

    def on_get_headers(self, message: wire.GetHeaders) -> None:
        self.say(wire.Headers(sealed_headers=()))


class StaleTip(Attack):
    """Stays behind for ever and says so again and again."""

    def begin(self) -> None:
        for _ in range(20):
            self.say(
                wire.Status(
                    tip_hash=self.victim.chain.tree.active[0].hash, height=0,
                    chainwork=bytes(32), pruned_below=0,
                )
            )  # fmt: skip

    def on_get_headers(self, message: wire.GetHeaders) -> None:
        self.say(wire.Headers(sealed_headers=()))


class LongFork(Attack):
    """Shows a chain from block 0 on whose bodies nobody has: light, or heavier than the honest one."""

    def begin(self) -> None:
        self.learn()
        tree = self.hostile.chain.tree
        root = tree.active[0]
        key, parent, blocks = self.hostile.mining_key, root, list[Block]()
        template = self.hostile.forge([self.hostile.statement()])
        for height in range(1, self.random.choice((20, 60, 200)) + 1):
            context = tree.context(parent)
            header = replace(
                template.header, height=height, previous=parent.hash, bits=context.bits,
                time_ms=context.parent_time_ms + self.hostile.chain.params.spacing_ms,
                state_root=seed("no state"),
            )  # fmt: skip
            block = Block(seal_header(key, self.hostile.chain.network_id, solve(header)), template.body)
            blocks.append(block)
            parent = self.hostile.chain.accept_header(block.sealed, now_ms=2 * self.hostile.now_ms)
        self.show(*blocks)

    def on_get_body(self, message: wire.GetBody) -> None:
        if not any(block.hash == message.block_hash for block in self.shown):
            super().on_get_body(message)


# Blocks.


class Shown(Attack):
    """Claims one bad block as its chain and serves it: who vouches for such a block is to blame."""

    def make(self) -> Block:
        """Return the block."""
        raise NotImplementedError

    def begin(self) -> None:
        self.learn()
        self.show(self.make())

    def on_get_body(self, message: wire.GetBody) -> None:
        super().on_get_body(message)
        if self.shown and message.block_hash == self.shown[0].hash:
            self.offend()

    def is_excused(self) -> bool:
        """A block that was overtaken on its way is never connected, so nobody knows what is wrong with it."""
        node = self.victim.chain.tree.get(self.shown[0].hash)
        return node is None or not node.invalid


class WrongState(Shown):
    def make(self) -> Block:
        return self.hostile.forge([self.hostile.statement()], state_root=seed("wrong state"))


class ForgedStatement(Shown):
    def make(self) -> Block:
        good = self.hostile.statement()
        bad = Statement(good.header_bytes, good.signature[:32] + bytes(32), good.payload)
        return self.hostile.forge([good], body=Body((bad,)))


class StrangersBlock(Shown):
    """Sealed by a key that is no producer: the headers may already be refused."""

    def make(self) -> Block:
        return self.hostile.forge([self.hostile.statement()], key=STRANGER)


class GappedBlock(Attack):
    """Breaks a rule that honest nodes may break for one another's sake: refused, not punished."""

    def begin(self) -> None:
        self.learn()
        statement = self.hostile.statement(ahead=5)
        self.show(self.hostile.forge(body=Body((statement,))))


class Announced(Attack):
    """Announces a bad block that passes every check before the state's: relayed in good faith by the honest."""

    def begin(self) -> None:
        self.learn()
        good = self.hostile.statement()
        self.shown = [self.hostile.forge([good], state_root=seed("wrong state"))]
        self.announce(self.shown[0])

    def on_get_statements(self, message: wire.GetStatements) -> None:
        found = (
            [item for item in self.shown[0].body.statements if item.leaf in message.leaves]
            if self.shown
            else []
        )
        if found:
            self.say(wire.Statements(statements=tuple(item.encode() for item in found)))
        else:
            super().on_get_statements(message)


class MutatedBody(Attack):
    """Shows a valid block and serves another statement in its place."""

    def begin(self) -> None:
        self.learn()
        self.show(self.hostile.forge([self.hostile.statement(note="a"), self.hostile.statement(ahead=1)]))

    def on_get_body(self, message: wire.GetBody) -> None:
        if not self.shown or message.block_hash != self.shown[0].hash:
            super().on_get_body(message)
            return
        self.say(self.wrong(self.shown[0], message))
        self.offend()

    def wrong(self, block: Block, message: wire.GetBody) -> wire.BodyChunk:
        """Return the answer."""
        true = ServedBody.of(block).chunk(message.start, with_leaves=message.with_leaves)
        return replace(true, statements=(self.hostile.statement(note="b").encode(), *true.statements[1:]))


class WrongBody(MutatedBody):
    """Answers with the body of another block."""

    def wrong(self, block: Block, message: wire.GetBody) -> wire.BodyChunk:
        other = self.hostile.forge([self.hostile.statement(note="c")])
        return replace(ServedBody.of(other).chunk(0, with_leaves=message.with_leaves), block_hash=block.hash)


class EmptyChunk(MutatedBody):
    """Answers with nothing in it, again and again."""

    def wrong(self, block: Block, message: wire.GetBody) -> wire.BodyChunk:
        return wire.BodyChunk(
            block_hash=block.hash, leaves=(), byte_count=block.body.byte_count(), start=0, statements=()
        )


class Withhold(Attack):
    """Announces valid blocks and never hands over what is in them."""

    def begin(self) -> None:
        self.learn()
        block = self.hostile.forge([self.hostile.statement()])
        self.announce(block, leaves=self.random.random() < 0.5)

    def on_get_body(self, message: wire.GetBody) -> None:
        pass

    def on_get_statements(self, message: wire.GetStatements) -> None:
        pass


class LacksBodies(Attack):
    """Has the headers of the best chain and none of its bodies."""

    def begin(self) -> None:
        self.learn()
        self.announce(self.hostile.forge([self.hostile.statement()]), leaves=False)

    def block(self, block_hash: bytes) -> Block | None:
        return None


class Staller(Attack):
    """Is the first to tell of every block, and lets every question for a body wait."""

    def begin(self) -> None:
        best = max(self.hostile.world.running, key=lambda node: node.chain.tree.tip.chainwork, default=None)
        if best is not None:
            self.hostile.learn(best)
        tip = self.hostile.chain.tree.tip
        self.say(
            wire.Status(
                tip_hash=tip.hash,
                height=tip.height,
                chainwork=tip.chainwork.to_bytes(32, "big"),
                pruned_below=0,
            )
        )

    def on_mined(self, block: Block) -> None:
        self.announce(block, leaves=False)

    def on_get_body(self, message: wire.GetBody) -> None:
        pass


class Equivocate(Attack):
    """Seals two blocks at one height and tells each half of its peers of another one. Legal."""

    def begin(self) -> None:
        if not self.hostile.world.mining:
            return
        self.learn()
        statement = self.hostile.statement()
        twins = [self.hostile.forge([statement], time_ms=self.hostile.now_ms + shift) for shift in (0, 1)]
        self.hostile.twins.update({block.hash: block for block in twins})
        for index, attack in enumerate(list(self.hostile.visits.values())):
            attack.announce(twins[index % 2], leaves=False)


class Selfish(Attack):
    """Mines in secret and shows several blocks at once."""

    def begin(self) -> None:
        if not self.hostile.world.mining:
            return
        self.learn()
        blocks = []
        for _ in range(self.random.randint(2, 4)):
            block = self.hostile.forge([self.hostile.statement()])
            self.hostile.keep(block)
            blocks.append(block)
        self.hostile.after(self.random.uniform(5, 60), partial(self._release, blocks))

    def _release(self, blocks: Sequence[Block]) -> None:
        if self.side.open and self.hostile.world.mining:
            self.announce(blocks[-1], leaves=False)


# Statements.


class Offers(Attack):
    """Offers statements and hands them over when asked."""

    guilty = True

    def __init__(self, hostile: Hostile, side: Side) -> None:
        super().__init__(hostile, side)
        self.offered: dict[bytes, Statement] = {}

    def make(self) -> list[Statement]:
        """Return what it offers."""
        raise NotImplementedError

    def begin(self) -> None:
        self.learn()
        self.offered = {item.leaf: item for item in self.make()}
        self.say(wire.Inventory(leaves=tuple(self.offered)))

    def on_get_statements(self, message: wire.GetStatements) -> None:
        found = [self.offered[leaf] for leaf in message.leaves if leaf in self.offered]
        if not found:
            super().on_get_statements(message)
            return
        self.say(wire.Statements(statements=tuple(item.encode() for item in found)))
        if self.guilty:
            self.offend()


class BadSignature(Offers):
    def make(self) -> list[Statement]:
        self.sequence = self.victim.next_sequence(self.hostile.author.public)
        good = self.hostile.statement(sequence=self.sequence)
        return [Statement(good.header_bytes, good.signature[:32] + bytes(32), good.payload)]

    def is_excused(self) -> bool:
        """Where another statement took its place it is refused before its signature is looked at."""
        return self.victim.next_sequence(self.hostile.author.public) != self.sequence


class BadPayload(Offers):
    def make(self) -> list[Statement]:
        good = self.hostile.statement()
        return [Statement(good.header_bytes, good.signature, good.payload + b"\x00")]


class StatementFlood(Offers):
    """Statements far ahead of their author's sequence: kept as orphans, up to a bound."""

    guilty = False

    def make(self) -> list[Statement]:
        return [self.hostile.statement(ahead=2 + number) for number in range(100)]


class TwoSignatures(Offers):
    """One id under two valid signatures."""

    guilty = False

    def make(self) -> list[Statement]:
        good = self.hostile.statement()
        message = signed_message(Purpose.STATEMENT, self.hostile.chain.network_id, good.id)
        other = other_signature(self.hostile.author_seed, message)
        return [good, Statement(good.header_bytes, other, good.payload)]


class DoubleUse(Offers):
    """Tells each peer of another statement with one and the same sequence."""

    guilty = False

    def begin(self) -> None:
        self.learn()
        for attack in list(self.hostile.visits.values()):
            if isinstance(attack, DoubleUse):
                statement = self.hostile.statement()
                attack.offered[statement.leaf] = statement
                attack.say(wire.Inventory(leaves=(statement.leaf,)))


class EmptyPromise(Attack):
    """Offers what others have, and what nobody has, and hands over nothing."""

    def begin(self) -> None:
        real = [leaf for node in self.hostile.world.running for leaf in node.mempool.pool.leaves()]
        self.say(wire.Inventory(leaves=(*real[:200], *(self.random.randbytes(32) for _ in range(50)))))

    def on_get_statements(self, message: wire.GetStatements) -> None:
        if self.random.random() < 0.3:
            super().on_get_statements(message)


ATTACKS: Final[tuple[type[Attack], ...]] = (
    Garbage,
    UnknownType,
    Oversized,
    Unsolicited,
    RateFlood,
    SecondHello,
    Mute,
    BadStart,
    AddressFlood,
    BadSeal,
    NoWork,
    WrongBits,
    OldTime,
    FutureTime,
    HeaderGap,
    OrphanFlood,
    Boaster,
    StaleTip,
    LongFork,
    WrongState,
    ForgedStatement,
    StrangersBlock,
    GappedBlock,
    Announced,
    MutatedBody,
    WrongBody,
    EmptyChunk,
    Withhold,
    LacksBodies,
    Staller,
    Equivocate,
    Selfish,
    BadSignature,
    BadPayload,
    StatementFlood,
    TwoSignatures,
    DoubleUse,
    EmptyPromise,
)
"""Every attack; one is drawn for each connection."""
