"""Statements of the latest blocks, by leaf.

Owns a bounded memory of what left the mempool for a block, so that a peer that rebuilds the block
a moment later still gets what it misses.
"""

from __future__ import annotations

from collections import OrderedDict

from ..consensus.block import Block
from ..consensus.statement import Statement

RECENT_BYTES_MAX = 32 * 2**20
"""Bytes of statements remembered; the oldest are dropped first."""


class RecentStatements:
    """See the module's text."""

    def __init__(self, max_bytes: int = RECENT_BYTES_MAX) -> None:
        """Start empty."""
        self._max_bytes = max_bytes
        self._bytes = 0
        self._statements: OrderedDict[bytes, Statement] = OrderedDict()

    def add(self, block: Block) -> None:
        """Remember the statements of a block."""
        for statement in block.body.statements:
            if statement.leaf not in self._statements:
                self._statements[statement.leaf] = statement
                self._bytes += statement.size_bytes
        while self._bytes > self._max_bytes:
            _, oldest = self._statements.popitem(last=False)
            self._bytes -= oldest.size_bytes

    def get(self, leaf: bytes) -> Statement | None:
        """Return a remembered statement."""
        return self._statements.get(leaf)
