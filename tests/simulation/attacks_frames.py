"""Attacks by frames and statements: what is malformed, unasked for, too much, or not signed."""

from __future__ import annotations

from functools import partial

from facechain.consensus.signing import Purpose, signed_message
from facechain.consensus.statement import Statement
from facechain.node.protocol.equivocation import EquivocationKind
from facechain.node.wire import messages as wire
from facechain.node.wire.codec import encode
from facechain.node.wire.limits import MAX_EQUIVOCATIONS_PER_KEY
from support.chain import other_signature

from .attack import Attack
from .events import Violation
from .hostile import JUDGE_SECONDS, Hostile
from .links import Side


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
        tip = self.victim.chain.tree.active[0]
        for _ in range(2 * self.rate(wire.Status)):  # some come late, and by then it may say more
            self.say(wire.Status(tip_hash=tip.hash, height=0, chainwork=bytes(32), pruned_below=0))
        self.offend()

    @staticmethod
    def rate(kind: type[wire.Message]) -> int:
        """Return how many messages of a type a minute holds, at most."""
        return int(next(row.per_minute for row in wire.MESSAGES if row.message is kind))


class PingFlood(RateFlood):
    """Is answered at a pace, and nothing more is read meanwhile."""

    def begin(self) -> None:
        for nonce in range(1 + self.rate(wire.Ping)):
            self.say(wire.Ping(nonce=nonce))


class Deaf(Attack):
    """Asks for more than anybody can hold, and reads none of the answers."""

    def begin(self) -> None:
        self.side.reads = False
        genesis = self.victim.chain.tree.active[0].hash
        for _ in range(60):
            self.say(wire.GetHeaders(locator=(genesis,), stop_hash=bytes(32)))
        for item in self.victim.chain.tree.active[1:]:
            for with_leaves in (False, True):
                self.say(wire.GetBody(block_hash=item.hash, start=0, with_leaves=with_leaves))


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


class TwoWords(Offers):
    """Signs two batches with one sequence and hands both to one node: counted there, and no reason for a ban."""

    guilty = False

    def __init__(self, hostile: Hostile, side: Side) -> None:
        super().__init__(hostile, side)
        self.handed: set[bytes] = set()

    def make(self) -> list[Statement]:
        self.sequence = self.victim.next_sequence(self.hostile.author.public)
        self.hostile.events.after(JUDGE_SECONDS, partial(self._judge_count, self.victim.life))
        return [self.hostile.batch(self.sequence), self.hostile.batch(self.sequence)]

    def on_get_statements(self, message: wire.GetStatements) -> None:
        self.handed.update(leaf for leaf in message.leaves if leaf in self.offered)
        super().on_get_statements(message)

    def _judge_count(self, life: int) -> None:
        """One that took one of both, and was handed the other, must have noticed."""
        node = self.victim
        if node.life != life or not node.up or node.frozen or not self.side.open or len(self.handed) < 2:
            return
        with node.aside(), node.chain.snapshot() as reader:
            pool = node.mempool.pool
            took = [item for item in self.offered.values() if item.leaf in pool or reader.place_of(item.id)]
        counted = node.node.equivocations.of(self.hostile.author.public)
        known = any(
            item.number == self.sequence for item in counted if item.kind is EquivocationKind.STATEMENT
        )
        if took and not known and len(counted) < MAX_EQUIVOCATIONS_PER_KEY:
            self.hostile.events.fail(Violation(f"{node.name} did not count two batches of one sequence"))
