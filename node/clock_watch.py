"""Tell the operator when the blocks of others come from the future: the clock here may be behind.

Such headers are nobody's fault and only wait, so a node whose clock is wrong would otherwise stay behind its
network without a word.
"""

from __future__ import annotations

import logging
from typing import Final

from ..consensus.block import Header
from ..consensus.params import Params

SAY_EVERY_MS: Final = 60_000

_log = logging.getLogger(__name__)


class ClockWatch:
    """Says it at most once a minute."""

    def __init__(self, params: Params) -> None:
        self._limit_ms = params.future_limit_ms
        self._said_ms: int | None = None

    def on_future_header(self, header: Header, *, now_ms: int) -> None:
        """Take a header that is too far ahead of this machine's clock."""
        if self._said_ms is not None and 0 <= now_ms - self._said_ms < SAY_EVERY_MS:
            return
        self._said_ms = now_ms
        _log.warning(
            "block %d of a peer: expected a time at most %d s ahead of the clock here, got %d s; it has to wait: "
            "compare this machine's clock with the right time",
            header.height,
            self._limit_ms // 1_000,
            (header.time_ms - now_ms) // 1_000,
        )
