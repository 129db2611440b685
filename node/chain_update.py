"""What a move between two tips was, and why one was broken off.

Owns values only: `chainstate` makes them, whoever follows the chain reads them.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..consensus.block import Block
from ..consensus.chain import HeaderNode
from ..consensus.errors import ConsensusError
from ..consensus.upgrade import Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainUpdate:
    """What a change of the active chain was, oldest block first."""

    disconnected: tuple[Block, ...] = ()
    connected: tuple[Block, ...] = ()
    refused: tuple[tuple[bytes, ConsensusError], ...] = ()
    """Blocks that were found invalid on the way, with the rule."""

    @property
    def changed(self) -> bool:
        """Tell whether the tip moved."""
        return bool(self.connected or self.disconnected)


class InvalidBlock(Exception):
    """A block of a plan broke a rule, so the transaction was aborted."""

    def __init__(self, node: HeaderNode, error: ConsensusError) -> None:
        """Carry the block and the rule out of the transaction."""
        super().__init__(node.hash.hex(), error.code)
        self.node = node
        self.error = error


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """A plan that is durably in the store; `ChainState.settle` makes it the active chain."""

    target: HeaderNode
    disconnected: tuple[Block, ...]
    connected: tuple[Block, ...]
    checkpoint_height: int
    schedule: Schedule
    """Of protocol versions, after the plan."""
