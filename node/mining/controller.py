"""The loop that turns templates into sealed blocks.

Owns when to mine and when to wait: an idle network burns nothing until its heartbeat is due, a new tip ends
the search at once, and a key that may not seal waits. Chain, clock and search are handed in, so that it
knows neither store nor network.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ...consensus.block import Block, Body, Header, seal_header
from ...consensus.chain import BlockTree
from ...consensus.errors import ConsensusError
from ...consensus.kinds import SEALING_ROLE
from ...consensus.params import Params
from ...consensus.signing import LedgerKey
from ...consensus.state import StateView
from ...consensus.work import bits_to_target

log = logging.getLogger(__name__)

TEMPLATE_SECONDS_MAX: Final = 5.0
"""A template that was searched for this long is built anew: with the present time, and what arrived since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MiningSituation:
    """What the miner needs to know of the chain before it builds a template."""

    tip_hash: bytes
    height: int
    """Of the next block."""
    parent_time_ms: int
    median_time_ms: int
    """The next block's time must be above this."""
    may_seal: bool
    """The key is a producer at this height and has not used up its share of the last blocks."""
    has_statements: bool
    """Something waits for a block."""


def mining_situation(
    tree: BlockTree, view: StateView, params: Params, *, producer: bytes, has_statements: bool
) -> MiningSituation:
    """Read the situation from the tip of a chain; `view` is the state after that tip."""
    context = tree.context(tree.tip)
    share_is_used_up = (
        params.producer_share > 0 and context.recent_producers.count(producer) >= params.producer_share
    )
    return MiningSituation(
        tip_hash=context.parent_hash,
        height=context.height,
        parent_time_ms=context.parent_time_ms,
        median_time_ms=context.median_time_ms,
        may_seal=view.role(SEALING_ROLE, producer).holds_at(context.height) and not share_is_used_up,
        has_statements=has_statements,
    )


class MiningTemplate(Protocol):
    """A block that lacks only its nonce and seal."""

    @property
    def header(self) -> Header:
        """The header with nonce 0."""
        ...

    @property
    def body(self) -> Body:
        """The statements."""
        ...


class MiningChain(Protocol):
    """The node as the miner sees it."""

    async def mining_situation(self, producer: bytes) -> MiningSituation:
        """Return what the tip says about the next block by `producer`."""
        ...

    async def build_template(self, *, producer: bytes, now_ms: int) -> MiningTemplate:
        """Build the next block on the tip at the time `now_ms`; ConsensusError when that cannot be."""
        ...

    async def submit_block(self, block: Block) -> object:
        """Accept and announce a block; ConsensusError when it is refused."""
        ...


class MiningClock(Protocol):
    """Wall clock and waiting."""

    def now_ms(self) -> int:
        """Return Unix time in milliseconds."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class NonceSearch(Protocol):
    """A backend that finds nonces, as `workers.HashlibWorkers`."""

    async def mine(self, prefix: bytes, target: int) -> int:
        """Return a nonce for the 152-byte prefix; stops searching when cancelled."""
        ...


class MinerController:
    """Mines with one key until cancelled."""

    def __init__(
        self,
        *,
        key: LedgerKey,
        network_id: bytes,
        params: Params,
        chain: MiningChain,
        search: NonceSearch,
        clock: MiningClock,
    ) -> None:
        self._key = key
        self._network_id = network_id
        self._params = params
        self._chain = chain
        self._search = search
        self._clock = clock
        self._news = asyncio.Event()
        self._tip_hash: bytes | None = None
        self._statements_came = False
        self._said_it_waits = False
        self.blocks_sealed = 0

    def on_new_tip(self, tip_hash: bytes) -> None:
        """The chain's tip is now this block: whatever is mined on another one is given up."""
        self._tip_hash = tip_hash
        self._news.set()

    def on_statements(self) -> None:
        """Statements arrived: an empty block in the making is given up for one that holds them."""
        self._statements_came = True
        self._news.set()

    async def run(self) -> None:
        """Mine block after block until cancelled."""
        while True:
            await self.mine_one()

    async def mine_one(self) -> None:
        """Mine at most one block; returns also when there is a reason to look at the chain again."""
        self._news.clear()
        self._tip_hash = None
        self._statements_came = False
        situation = await self._chain.mining_situation(self._key.public)
        if not situation.may_seal:
            await self._wait_for_authority(situation)
            return
        self._said_it_waits = False
        if not situation.has_statements and self._seconds_to_heartbeat(situation) > 0:
            await self._wait_for_news(self._seconds_to_heartbeat(situation))
            return
        try:
            template = await self._chain.build_template(
                producer=self._key.public, now_ms=self._block_time_ms(situation)
            )
        except ConsensusError as error:
            log.warning("no template for block %d: %s", situation.height, error.diagnostics())
            await self._wait_for_news(TEMPLATE_SECONDS_MAX)
            return
        if template.header.previous != situation.tip_hash:
            return
        # What waits may turn out not to fit the state: then this is an empty block like any other.
        if not template.body.statements and self._seconds_to_heartbeat(situation) > 0:
            await self._wait_for_news(self._seconds_to_heartbeat(situation))
            return
        nonce = await self._search_nonce(template)
        if nonce is not None:
            await self._seal(template, nonce)

    def _block_time_ms(self, situation: MiningSituation) -> int:
        return max(self._clock.now_ms(), situation.median_time_ms + 1)

    def _seconds_to_heartbeat(self, situation: MiningSituation) -> float:
        """Seconds until an empty block may follow."""
        due = situation.parent_time_ms + self._params.heartbeat_ms
        return max(0, due - self._block_time_ms(situation)) / 1_000

    async def _wait_for_authority(self, situation: MiningSituation) -> None:
        if not self._said_it_waits:
            self._said_it_waits = True
            log.warning(
                "mining waits: key %s may not seal block %d (it needs the role %s and room in the producer share)",
                self._key.public.hex(),
                situation.height,
                SEALING_ROLE.label,
            )
        await self._wait_for_news(None)

    async def _wait_for_news(self, seconds: float | None) -> None:
        """Wait for a new tip or statements, at most so many seconds."""
        waits: list[Coroutine[Any, Any, object]] = [self._news.wait()]
        if seconds is not None:
            waits.append(self._clock.sleep(seconds))
        await _first(*waits)

    async def _search_nonce(self, template: MiningTemplate) -> int | None:
        """Return a nonce; None when the tip moved or the template became too old."""
        header = template.header
        search = asyncio.ensure_future(
            self._search.mine(header.midstate_prefix(), bits_to_target(header.bits))
        )
        try:
            await _first(_outcome(search), self._clock.sleep(TEMPLATE_SECONDS_MAX), self._outdated(template))
            return search.result() if search.done() else None
        finally:
            search.cancel()
            await asyncio.gather(search, return_exceptions=True)

    async def _outdated(self, template: MiningTemplate) -> None:
        """Return when the template is no longer what should be mined."""
        while True:
            if self._tip_hash is not None and self._tip_hash != template.header.previous:
                return
            if self._statements_came and not template.body.statements:
                return
            self._news.clear()
            await self._news.wait()

    async def _seal(self, template: MiningTemplate, nonce: int) -> None:
        sealed = seal_header(self._key, self._network_id, template.header.with_nonce(nonce))
        try:
            await self._chain.submit_block(Block(sealed, template.body))
        except ConsensusError as error:
            log.error("our block %d was refused: %s", sealed.height, error.diagnostics())  # noqa: TRY400
            await self._wait_for_news(TEMPLATE_SECONDS_MAX)
            return
        self.blocks_sealed += 1
        log.info(
            "sealed block %d %s with %d statements",
            sealed.height,
            sealed.hash.hex(),
            len(template.body.statements),
        )


async def _outcome(search: asyncio.Future[int]) -> None:
    """Wait for the search without cancelling it; its failure is raised where its result is read."""
    await asyncio.wait([search])


async def _first(*waits: Awaitable[object]) -> None:
    """Wait until the first of these ends, cancel the others, and raise what any that ended raised."""
    tasks = [asyncio.ensure_future(item) for item in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
