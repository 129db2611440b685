"""Shows keys that said two things in one place to the operator, and finds the statements that show it.

Owns the log and the event of each, and the checking of signatures that nobody else checks: those of statements that the
mempool refused because their place was taken, and of blocks that lost against another one. What counts is
`protocol.equivocation`'s to say. Used on the event loop's thread; signatures are checked in another one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from ..consensus.block import Block
from ..consensus.errors import RuleViolation
from ..consensus.statement import Statement
from .chain_update import ChainUpdate
from .chainstate import ChainState
from .mempool import Drop, Mempool, MempoolRefusal, SequenceTaken, Submission
from .protocol.equivocation import Equivocation, Equivocations
from .stored_block import whole

TAKEN: Final = frozenset({"bad-sequence", "sequence-taken"})
"""Reasons of drops and refusals that say no more than that another statement has the place."""

_log = logging.getLogger(__name__)


class EquivocationWatch:
    """See the module's text."""

    def __init__(
        self,
        *,
        chain: ChainState,
        pool: Mempool,
        found: Equivocations,
        now_ms: Callable[[], int],
    ) -> None:
        """Keep what is found in `found`, which others may fill, too."""
        self.found = found
        self.tell: Callable[[Equivocation], None] = lambda _found: None
        """Told of each place, once."""
        self._chain = chain
        self._pool = pool
        self._now_ms = now_ms
        found.on_found = self._on_found

    @property
    def _next_height(self) -> int:
        return self._chain.tree.tip.height + 1

    def on_block(self, block_hash: bytes) -> None:
        """Look at a block of this node's own miner."""
        node = self._chain.tree.get(block_hash)
        if node is not None:
            self.found.on_header(node, self._now_ms())

    def on_update(self, update: ChainUpdate, drops: Sequence[Drop]) -> None:
        """Look at the statements of blocks that left or entered the chain."""
        for block in (*whole(update.disconnected), *whole(update.connected)):
            self._take(block.body.statements, block.header.height)
        self.found.forget((drop.author, drop.sequence, drop.id) for drop in drops if drop.code not in TAKEN)

    def on_admitted(self, statements: Iterable[Statement]) -> None:
        """Look at statements that are new in the mempool."""
        self._take(statements, self._next_height)

    async def on_submitted(self, answers: Iterable[Submission]) -> None:
        """Look at what came by the API."""
        found = list(answers)
        self.on_admitted(item.statement for item in found if item.queued and not item.known)
        await self.on_refused((item.statement, item.refusal) for item in found if item.refusal is not None)

    async def on_refused(
        self, refused: Iterable[tuple[Statement, RuleViolation | MempoolRefusal]]
    ) -> list[Statement]:
        """Look at statements that the mempool refused; return those that their author did not sign."""
        suspects = []
        for statement, error in refused:
            if error.code not in TAKEN:
                continue
            held = self._pool.get_by_id(error.held) if isinstance(error, SequenceTaken) else None
            if held is not None:
                self._take([held], self._next_height)
            if self.found.is_suspect(statement, self._next_height):
                suspects.append(statement)
        return await self._check(suspects, self._next_height)

    async def on_stale(self, blocks: Iterable[Block]) -> None:
        """Look at whole blocks that came and did not enter the chain: nobody checked their signatures."""
        for block in blocks:
            node = self._chain.tree.get(block.hash)
            if node is None or not node.linked or self._chain.tree.is_active(node):
                continue
            fresh = [item for item in block.body.statements if not self.found.knows(item)]
            await self._check(fresh, block.header.height)

    async def _check(self, statements: Sequence[Statement], height: int) -> list[Statement]:
        """Take the statements whose signature verifies; return the others."""
        if not statements:
            return []
        network_id = self._chain.network_id

        def verify() -> list[bool]:
            return [item.has_valid_signature(network_id) for item in statements]

        good = await asyncio.to_thread(verify)
        self._take([item for item, is_good in zip(statements, good, strict=True) if is_good], height)
        return [item for item, is_good in zip(statements, good, strict=True) if not is_good]

    def _take(self, statements: Iterable[Statement], height: int) -> None:
        now_ms = self._now_ms()
        for statement in statements:
            self.found.on_statement(statement, height=height, now_ms=now_ms)

    def _on_found(self, found: Equivocation) -> None:
        _log.warning(
            "key %s said two things in one place (%s %d): %s and %s; see docs/operations.md, 'Equivocation'",
            *(found.key.hex(), found.kind, found.number, found.first.hex(), found.second.hex()),
        )
        self.tell(found)
