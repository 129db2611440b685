"""Blocks and statements between peers, the chain and the mempool.

Owns the queue of what came from peers, in the order in which it is taken in, the credit of who brought something new,
and the news that goes out. It decides nothing about validity: the chain runner does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from ..consensus.block import Block
from ..consensus.errors import ConsensusError, RuleViolation
from ..consensus.statement import Statement
from .backlog import Backlog
from .chain_runner import ChainRunner
from .chain_update import ChainUpdate
from .equivocation_watch import EquivocationWatch
from .intake import Relayed
from .mempool import Drop
from .peer_link import PeerLink
from .protocol.actions import Action, BlockReady, PeerId, Punish, StatementReceived
from .protocol.relay import Relay
from .protocol.sync import Synchronizer
from .recent import RecentStatements
from .store.errors import StoreError
from .stored_block import whole
from .wire.limits import MAX_INVENTORY

ADMIT_GROUP = 256
"""Statements that go to the mempool at once."""

TICK_SECONDS = 0.25

TOLD_AT_ONCE = 2
"""Peers that are told of new statements at a time. They tell others; by the turn of the rest most of it is no news."""

TOLD_SHARE = 16
"""Of so many peers one more is told at a time, so that the turn of the last does not come too late."""

FLUSH_SECONDS = 0.3
"""Peers are told of new statements at most this often: at once, or else together with those that come meanwhile."""

STORE_RETRY_SECONDS = 2.0
"""Between two tries of a store that failed."""

REOFFER_SECONDS = 60.0
"""Statements that wait are offered again this often: a peer may have had no room for them."""

_log = logging.getLogger(__name__)


class HubWork:
    """See the module's text. `run` works until it is cancelled."""

    def __init__(
        self,
        *,
        runner: ChainRunner,
        recent: RecentStatements,
        sync: Synchronizer,
        relay: Relay,
        links: Mapping[PeerId, PeerLink],
        perform: Callable[[Iterable[Action]], None],
        clock_ms: Callable[[], int],
    ) -> None:
        """`perform` carries out what the machines want done."""
        self._runner = runner
        self._recent = recent
        self._sync = sync
        self._relay = relay
        self._links = links
        self._perform = perform
        self.backlog = Backlog()
        self._flush_at = 0.0
        self._told_last: PeerId = 0
        self.equivocations = EquivocationWatch(
            chain=runner.chain, pool=runner.mempool.pool, found=sync.equivocations, now_ms=clock_ms
        )
        self.on_admitted: Callable[[], None] = lambda: None
        """Called when statements from peers entered the mempool."""
        runner.subscribe(self._on_update)
        runner.subscribe(self.equivocations.on_update)
        runner.on_relayed = self._on_relayed

    async def run(self) -> None:
        """Connect blocks and admit statements as they come, and tick the machines."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._work_off(), name="peer hub work")
            tasks.create_task(self._tick(), name="peer hub tick")
            tasks.create_task(self._recover(), name="peer hub recovery")

    async def _work_off(self) -> None:
        while True:
            blocks, statements = await self.backlog.take()
            try:
                if blocks:
                    await self._connect(blocks)
                for start in range(0, len(statements), ADMIT_GROUP):
                    await self._admit(statements[start : start + ADMIT_GROUP])
            except StoreError as error:
                _log.debug("%d blocks and %d statements wait: %s", len(blocks), len(statements), error)
            except Exception:  # noqa: BLE001 - whatever a peer sent, the node stays up
                _log.exception("a fault of this node in taking blocks and statements")
            finally:
                self._relay.on_checked(item.statement for item in statements)

    async def _connect(self, ready: Sequence[BlockReady]) -> None:
        _, refused = await self._runner.add_blocks([item.block for item in ready], self._announce)
        for block_hash, error in refused:
            self._on_refused(block_hash, error)
        self._perform(self._sync.on_tip_changed(time.monotonic()))
        await self.equivocations.on_stale(item.block for item in ready)

    def _on_refused(self, block_hash: bytes, error: ConsensusError) -> None:
        """Blame who vouched for a block. One that merely announced it may be as honest as this node."""
        peer = self.backlog.take_source(block_hash)
        guilty = isinstance(error, RuleViolation) and error.rule.punish
        if peer is not None and guilty and self._sync.vouches(peer, block_hash):
            self._perform([Punish(peer, error.code, error.message)])
        _log.info("block %s refused: %s", block_hash.hex(), error)
        self._perform(self._sync.on_refused(block_hash, time.monotonic()))

    async def _admit(self, received: Sequence[StatementReceived]) -> None:
        sources = {item.statement.leaf: item.peer for item in received}
        results = await self._runner.relay([item.statement for item in received])
        for statement, error in results:
            peer = sources.get(statement.leaf)
            if error is None:
                self._credit_statement(peer)
            elif isinstance(error, RuleViolation) and error.rule.punish and peer is not None:
                self._perform([Punish(peer, error.code, error.message)])
            else:
                _log.debug("statement %s: %s", statement.id.hex(), error)
        self._on_relayed(results)
        refused = [(statement, error) for statement, error in results if error is not None]
        for forged in await self.equivocations.on_refused(refused):
            peer = sources.get(forged.leaf)
            if peer is not None:
                self._perform(
                    [Punish(peer, "bad-signature", f"statement {forged.id.hex()}: nobody signed it")]
                )

    def _credit_statement(self, peer: PeerId | None) -> None:
        link = None if peer is None else self._links.get(peer)
        if link is not None:
            link.last_statement = time.monotonic()

    def _credit_block(self, block: Block) -> None:
        """Note who brought a block that is on the chain now; only the first one did."""
        peer = self.backlog.take_source(block.hash)
        link = None if peer is None else self._links.get(peer)
        if link is not None:
            link.last_block = time.monotonic()

    def _on_relayed(self, results: Sequence[Relayed]) -> None:
        """Statements of peers went through the mempool."""
        taken = [statement for statement, error in results if error is None]
        self.equivocations.on_admitted(taken)
        self.announce_statements(taken)
        if taken:
            self.on_admitted()

    async def submit_block(self, block: Block) -> ChainUpdate:
        """Take a block that this node mined.

        Raises:
            ConsensusError: it is refused.
            StoreError: the store failed; the block is tried again when it works.
        """
        self._recent.add(block)
        update, refused = await self._runner.add_blocks([block], self._announce)
        self.equivocations.on_block(block.hash)
        for block_hash, error in refused:
            if block_hash == block.hash:
                raise error
            self._on_refused(block_hash, error)
        return update

    def announce_statements(self, statements: Iterable[Statement]) -> None:
        """Tell peers of statements that are new in the mempool."""
        for statement in statements:
            self._relay.on_accepted(statement)
        self._flush_if_due()

    def _flush_if_due(self) -> None:
        if time.monotonic() >= self._flush_at:
            self._flush()

    def _flush(self) -> None:
        """Send inventory to some peers that keep up, in turn; that of the others grows until the next tick."""
        self._flush_at = time.monotonic() + FLUSH_SECONDS
        able = [
            link.id for link in self._links.values() if not link.is_busy and self._relay.has_news(link.id)
        ]
        left = max(TOLD_AT_ONCE, len(self._links) // TOLD_SHARE)
        for peer in sorted(able, key=lambda peer: (peer <= self._told_last, peer)):
            news = self._relay.flush((peer,))
            if news:
                self._told_last = peer
                self._perform(news)
                left -= 1
            if not left:
                break

    def _announce(self, block: Block) -> None:
        self._recent.add(block)
        self._perform(self._sync.announce(block))

    def _on_update(self, update: ChainUpdate, _drops: Sequence[Drop]) -> None:
        for block in update.connected:
            self._credit_block(block)
        for block in whole(update.connected):
            self._recent.add(block)
        self._perform(self._sync.on_tip_changed(time.monotonic()))
        if update.connected:
            # Blocks of a catch-up were not announced when they came.
            self._perform(self._sync.announce(update.connected[-1]))
        if update.disconnected:
            # Those of a very large move are offered again later, with all that waits.
            returned = (item for block in whole(update.disconnected) for item in block.body.statements)
            pool = self._runner.mempool.pool
            self.announce_statements(item for item in returned if item.leaf in pool)

    async def _tick(self) -> None:
        offer_at = time.monotonic() + REOFFER_SECONDS
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = time.monotonic()
            try:
                if now >= offer_at:
                    offer_at = now + REOFFER_SECONDS
                    self._relay.offer_again(self._runner.mempool.pool.leaves()[:MAX_INVENTORY])
                self._perform(self._sync.on_tick(now))
                self._perform(self._relay.on_tick(now))
                self._flush_if_due()
            except Exception:  # noqa: BLE001 - the next tick may do better
                _log.exception("a fault of this node at a tick")

    async def _recover(self) -> None:
        """Go on with what a failure of the store stopped, once it works again."""
        while True:
            await asyncio.sleep(STORE_RETRY_SECONDS)
            if self._runner.trouble is None:
                continue
            try:
                await self._runner.retry()
            except StoreError as error:
                _log.debug("the store still fails: %s", error)
            else:
                self._perform(self._sync.on_tip_changed(time.monotonic()))
