"""The writer of a simulated node: one job at a time on its chain and mempool, in steps that take time.

Does what `node.chain_runner` and `node.hub_work` do between the thread that writes and the machines: messages of
peers come in between the steps, and a death at any of them leaves what was committed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from facechain.consensus.block import Block
from facechain.consensus.errors import ConsensusError, RuleViolation
from facechain.consensus.statement import Statement
from facechain.node.chain_update import InvalidBlock
from facechain.node.chainstate import ChainState
from facechain.node.intake import Intake
from facechain.node.mempool import DurableMempool
from facechain.node.moves import Moves
from facechain.node.protocol.actions import Action, BlockReady, PeerId, Punish, StatementReceived
from facechain.node.protocol.relay import Relay
from facechain.node.protocol.sync import Synchronizer
from facechain.node.recent import RecentStatements

from .doors import Link
from .links import Host

if TYPE_CHECKING:
    from .world import World

Step = Iterator[float]
"""Work of the writer: yields the seconds that the next step takes."""


class Writer(Host):
    """See the module's text; the rest of the node is `nodes.SimNode`."""

    world: World
    chain: ChainState
    mempool: DurableMempool
    intake: Intake
    recent: RecentStatements
    sync: Synchronizer
    relay: Relay
    links: dict[PeerId, Link]
    disk_seconds: float
    """Mean time of a commit."""

    @property
    def now_ms(self) -> int:
        """What this node's clock shows."""
        raise NotImplementedError

    def start_writer(self) -> None:
        """Begin a life with nothing to do."""
        self.blocks: list[BlockReady] = []
        self.statements: list[StatementReceived] = []
        self._sources: dict[bytes, PeerId] = {}
        self._jobs: deque[Step] = deque()

    def perform(self, actions: Iterable[Action]) -> None:
        """Carry out what a machine asked for."""
        raise NotImplementedError

    def on_moved(self) -> None:
        """The tip moved, durably."""
        raise NotImplementedError

    def take_in(self, item: BlockReady | StatementReceived) -> None:
        """Queue what a peer brought."""
        if isinstance(item, BlockReady):
            self.blocks.append(item)
            self._sources[item.block.hash] = item.peer
        else:
            self.statements.append(item)
        if len(self.blocks) + len(self.statements) == 1:
            self.work(self._work_off())

    def work(self, job: Step) -> None:
        """Queue a job for the writer."""
        self._jobs.append(job)
        if len(self._jobs) == 1:
            self._work_on()

    def _work_on(self) -> None:
        """Do the next step of the first job; the others wait for its end."""
        while self._jobs:
            delay = next(self._jobs[0], None)
            if not self.up:
                return
            if delay is not None:
                self.after(delay, self._work_on)
                return
            self._jobs.popleft()

    def disk(self) -> float:
        """Draw how long a commit takes."""
        return self.events.exponential(self.disk_seconds)

    def _work_off(self) -> Step:
        """Take all that peers sent meanwhile: blocks first, then statements."""
        yield 0.001
        ready, self.blocks = self.blocks, []
        received, self.statements = self.statements, []
        if ready:
            yield from self.add_blocks([item.block for item in ready], self.on_block_refused)
            self.perform(self.sync.on_tip_changed(self.events.now))
        if received:
            yield from self._admit(received)

    def add_blocks(
        self, blocks: Sequence[Block], on_refused: Callable[[bytes, ConsensusError], None]
    ) -> Step:
        """Check and add blocks as `ChainRunner.add_blocks` does."""
        refused: list[tuple[bytes, ConsensusError]] = []
        fresh: dict[bytes, Block] = {}
        for block in blocks:
            try:
                node = self.chain.accept_header(block.sealed, now_ms=self.now_ms)
                if node.parent is not None and node.parent.invalid:
                    raise RuleViolation("bad-prevblk", expected="a valid parent", got="an invalid one")
            except ConsensusError as error:
                refused.append((block.hash, error))
                continue
            if not node.has_body:
                fresh.setdefault(block.hash, block)
        yield 0.002 * len(fresh)
        for block in fresh.values():
            try:
                self.chain.check_new_body(block)
            except ConsensusError as error:
                refused.append((block.hash, error))
                continue
            node = self.chain.accept_body(block)
            if node.linked and node is self.chain.tree.best_header:
                self.recent.add(block)
                self.perform(self.sync.announce(block))
        yield from self._move(refused)
        for block_hash, reason in refused:
            on_refused(block_hash, reason)

    def _move(self, refused: list[tuple[bytes, ConsensusError]]) -> Step:
        """Move to the best tip, one durable transaction after the other; mempool and peers follow."""
        chain, moves = self.chain, Moves(self.chain.stored)
        while (plan := chain.next_plan()) is not None:
            yield self.disk()
            try:
                done = chain.execute(plan, verified=self.mempool.pool)
            except InvalidBlock as found:
                chain.refuse(found)
                refused.append((found.node.hash, found.error))
                continue
            chain.settle(done)
            moves.add(done.disconnected, done.connected)
            self.on_moved()
        if not moves:
            return
        yield self.disk()
        update = moves.update()
        self.mempool.on_update(connected=update.connected, disconnected=update.disconnected)
        for block in update.connected:
            self.recent.add(block)
            link = self.links.get(self._sources.pop(block.hash, -1))
            if link is not None:
                link.last_block = self.events.now
        self.perform(self.sync.on_tip_changed(self.events.now))
        if update.connected:
            self.perform(self.sync.announce(update.connected[-1]))
        returned = [item for block in update.disconnected for item in block.body.statements]
        self.announce([item for item in returned if item.leaf in self.mempool.pool])
        freed = [
            item
            for block in update.connected
            for statement in block.body.statements
            for item in self.intake.orphans.take_after(statement)
        ]
        if freed:
            self.announce([item for item, error in self.intake.relay(freed) if error is None])

    def announce(self, statements: Iterable[Statement]) -> None:
        """Tell peers of statements that are new here."""
        for statement in statements:
            self.relay.on_accepted(statement)
        self.perform(self.relay.flush())

    def on_block_refused(self, block_hash: bytes, error: ConsensusError) -> None:
        """Blame who vouched for a block, as the hub does."""
        peer = self._sources.pop(block_hash, None)
        self.events.note("refused", self.name, block_hash.hex()[:16], error.code)
        guilty = isinstance(error, RuleViolation) and error.rule.punish
        if peer is not None and guilty and self.sync.vouches(peer, block_hash):
            self.perform([Punish(peer, error.code, error.message)])
        self.perform(self.sync.on_refused(block_hash, self.events.now))

    def _admit(self, received: Sequence[StatementReceived]) -> Step:
        yield 0.001 * len(received)
        sources = {item.statement.leaf: item.peer for item in received}
        results = self.intake.relay([item.statement for item in received])
        self.relay.on_checked(item.statement for item in received)
        for statement, error in results:
            peer = sources.get(statement.leaf)
            link = None if peer is None else self.links.get(peer)
            if error is None and link is not None:
                link.last_statement = self.events.now
            elif isinstance(error, RuleViolation) and error.rule.punish and peer is not None:
                self.perform([Punish(peer, error.code, error.message)])
        self.announce([statement for statement, error in results if error is None])
