"""Tell the operator of protocol versions that this software does not know, and end the node before one begins.

The chain's state says which version is scheduled. Until its height the node works and warns; at the block before
it, `run` raises `UpgradeNeeded`, since the node could not judge what follows.
"""

from __future__ import annotations

import asyncio
import logging

from ..consensus.upgrade import UpgradeNeeded
from .chainstate import ChainState

_log = logging.getLogger(__name__)


class VersionWatch:
    """Watches one chain; used on the event loop's thread."""

    def __init__(self, chain: ChainState) -> None:
        """Watch `chain`, whose schedule may say something already."""
        self._chain = chain
        self._needed: UpgradeNeeded | None = None
        self._news = asyncio.Event()
        self._said: tuple[int, int] | None = None
        self.on_tip()

    def on_tip(self) -> None:
        """Look at the schedule after a new tip."""
        pending = self._chain.scheduled
        if pending != self._said:
            self._say(pending)
        self._said = pending
        self._needed = self._chain.upgrade_needed()
        if self._needed is not None:
            self._news.set()

    def _say(self, pending: tuple[int, int] | None) -> None:
        if pending is None:
            if self._said is not None and self._chain.version != self._said[0]:
                _log.warning("protocol version %d is no longer scheduled", self._said[0])
            elif self._chain.version in self._chain.versions:
                _log.warning("protocol version %d is in force from the next block on", self._chain.version)
        elif pending[0] in self._chain.versions:
            _log.warning("protocol version %d is scheduled for block %d", *pending)
        else:
            _log.warning(
                "protocol version %d is scheduled for block %d and not known here: this node will stop before "
                "that block; install a release that knows it",
                *pending,
            )

    async def run(self) -> None:
        """Wait until this node can go no further, which may be never.

        Raises:
            UpgradeNeeded: the next block has a version that is not known here.
        """
        while self._needed is None:
            self._news.clear()
            await self._news.wait()
        raise self._needed
