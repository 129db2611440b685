"""Attacks by headers and blocks: what is invalid, mutated, withheld, from another time, or heavier than it should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from facechain.consensus.block import Block, Body, SealedHeader, seal_header
from facechain.consensus.statement import Statement
from facechain.consensus.validation import HeaderContext
from facechain.consensus.work import meets_target
from facechain.node.protocol.serving import ServedBody
from facechain.node.wire import messages as wire
from support.chain import STRANGER, seed, solve

from .ambient import HEADERS_MAX, SYNC_LIMITS
from .attack import Attack
from .hostile import Hostile
from .links import Side


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

    def length(self) -> int:
        """Return how many headers it has."""
        return self.random.choice((20, 60, 200))

    def begin(self) -> None:
        self.learn()
        tree = self.hostile.chain.tree
        root = tree.active[0]
        key, parent, blocks = self.hostile.mining_key, root, list[Block]()
        template = self.hostile.forge([self.hostile.statement()])
        for height in range(1, self.length() + 1):
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


class LowWork(LongFork):
    """Boasts of a chain with less work than is worth storing, and perhaps stops in the middle of showing it."""

    def __init__(self, hostile: Hostile, side: Side) -> None:
        super().__init__(hostile, side)
        self.answers = self.random.randint(1, 4)

    def length(self) -> int:
        below = self.victim.chain.tree.tip.height - SYNC_LIMITS.margin_blocks - 2
        return below // HEADERS_MAX * HEADERS_MAX

    def begin(self) -> None:
        """Wait for a chain that is long enough."""

    def on_mined(self, block: Block) -> None:
        if self.shown or self.length() < HEADERS_MAX:
            return
        super().begin()
        tip = self.shown[-1]
        self.say(
            wire.Status(
                tip_hash=tip.hash,
                height=tip.header.height,
                chainwork=(1 << 200).to_bytes(32, "big"),
                pruned_below=0,
            )
        )

    def on_get_headers(self, message: wire.GetHeaders) -> None:
        if self.shown:
            self.answers -= 1
        if self.answers >= 0:
            super().on_get_headers(message)


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


class WrongLeaves(Attack):
    """Announces a valid block by its header and names the leaves of another one."""

    def begin(self) -> None:
        self.learn()
        self.shown = [self.hostile.forge([self.hostile.statement()])]
        self.announce(self.shown[0], leaves=False)

    def on_get_leaves(self, message: wire.GetLeaves) -> None:
        if not self.shown or message.block_hash != self.shown[0].hash:
            super().on_get_leaves(message)
            return
        body = self.shown[0].body
        self.say(
            wire.Leaves(
                block_hash=message.block_hash, byte_count=body.byte_count(), leaves=(seed("no statement"),)
            )
        )
        self.offend()


class Withhold(Attack):
    """Announces valid blocks and never hands over what is in them."""

    def begin(self) -> None:
        self.learn()
        block = self.hostile.forge([self.hostile.statement()])
        self.announce(block, leaves=self.random.random() < 0.5)

    def on_get_body(self, message: wire.GetBody) -> None:
        pass

    def on_get_leaves(self, message: wire.GetLeaves) -> None:
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
    """Seals two blocks at one height and tells each half of its peers of another one, or all of both. Legal."""

    def begin(self) -> None:
        if not self.hostile.world.mining:
            return
        self.learn()
        statement = self.hostile.statement()
        twins = [self.hostile.forge([statement], time_ms=self.hostile.now_ms + shift) for shift in (0, 1)]
        self.hostile.twins.update({block.hash: block for block in twins})
        tells_both = self.random.random() < 0.5
        for index, attack in enumerate(list(self.hostile.visits.values())):
            attack.announce(twins[index % 2], leaves=False)
            if tells_both:
                attack.announce(twins[1 - index % 2], leaves=False)


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
