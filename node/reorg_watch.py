"""Counts reorganisations, and raises the alarm on two that an operator must look at.

A deep one: many confirmed blocks went off the chain, so what they sealed was promised too early; somebody has more
hash rate than the network thought, or the network was split. And one that is refused: a chain with more work that
leaves this node's chain below a checkpoint or deeper than `max_reorg`, on which the rest of the network may be.
Owns counts since the start and the last alarm; what to do is the operator's decision (docs/operations.md).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Final

from ..consensus.chain import HeaderNode
from .api.events import ReorgAlarm
from .chain_update import ChainUpdate
from .chainstate import ChainState
from .mempool import Drop

DEEP: Final = "deep-reorganisation"
REFUSED: Final = "refused-fork"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReorgCounts:
    """What happened since the node started."""

    reorganisations: int = 0
    blocks: int = 0
    """Blocks that left the active chain."""
    deepest: int = 0
    """Most blocks that left it at once."""
    deep: int = 0
    """Reorganisations that raised the alarm."""
    refused_forks: int = 0
    """Chains with more work that were not followed."""


class ReorgWatch:
    """Watches one chain; used on the event loop's thread."""

    def __init__(
        self,
        chain: ChainState,
        *,
        deep_blocks: int,
        now_ms: Callable[[], int],
        tell: Callable[[ReorgAlarm], None],
    ) -> None:
        """Raise the alarm when `deep_blocks` or more go off at once; `tell` takes each alarm."""
        self._chain = chain
        self._deep_blocks = deep_blocks
        self._now_ms = now_ms
        self._tell = tell
        self._forks: set[bytes] = set()
        """First block above the fork point of each chain that is being refused."""
        self.counts = ReorgCounts()
        self.alarm: ReorgAlarm | None = None
        """The last one."""

    def on_update(self, update: ChainUpdate, _drops: Sequence[Drop]) -> None:
        """Count a move of the tip."""
        if not update.disconnected:
            return
        depth, old = len(update.disconnected), self.counts
        is_deep = depth >= self._deep_blocks
        self.counts = replace(
            old,
            reorganisations=old.reorganisations + 1,
            blocks=old.blocks + depth,
            deepest=max(old.deepest, depth),
            deep=old.deep + is_deep,
        )
        if is_deep:
            self._raise(
                DEEP,
                depth=depth,
                fork_height=update.disconnected[0].header.height - 1,
                left=update.disconnected[-1].hash,
                right=self._chain.tree.tip.hash,
            )

    def look(self) -> None:
        """Look for chains that are refused; to be called after blocks were taken in."""
        present = {self._first_above_fork(node): node for node in self._chain.refused_candidates()}
        fresh = [(first, node) for first, node in present.items() if first.hash not in self._forks]
        self._forks = {first.hash for first in present}
        for first, node in fresh:
            tip = self._chain.tree.tip
            self.counts = replace(self.counts, refused_forks=self.counts.refused_forks + 1)
            fork_height = first.height - 1
            self._raise(
                REFUSED,
                depth=tip.height - fork_height,
                fork_height=fork_height,
                left=tip.hash,
                right=node.hash,
            )

    def _first_above_fork(self, node: HeaderNode) -> HeaderNode:
        tree = self._chain.tree
        *_, first = takewhile(lambda item: not tree.is_active(item), node.ancestors())
        return first

    def _raise(self, reason: str, *, depth: int, fork_height: int, left: bytes, right: bytes) -> None:
        self.alarm = ReorgAlarm(
            reason=reason, at_ms=self._now_ms(), depth=depth, fork_height=fork_height, left=left, right=right
        )
        if reason == DEEP:
            _log.critical(
                "deep reorganisation: %d blocks above height %d went off the chain; tip was %s, is %s; see "
                "docs/operations.md, 'A deep reorganisation'",
                depth,
                fork_height,
                left.hex(),
                right.hex(),
            )
        else:
            _log.critical(
                "a chain with more work is refused: it leaves this chain at height %d, %d blocks below the tip; "
                "tip is %s, theirs %s; see docs/operations.md, 'A deep reorganisation'",
                fork_height,
                depth,
                left.hex(),
                right.hex(),
            )
        self._tell(self.alarm)
