"""Moves of the chain that add up: what several plans did, as one.

Owns the sum: a block that went on and came off again (or the other way round) is in neither list. Of a large
sum, most bodies stay in the store (`stored_block`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field

from ..consensus.block import Block
from ..consensus.errors import ConsensusError
from .chain_update import ChainUpdate
from .stored_block import BodyBudget, ReadBlock


@dataclass(slots=True)
class Moves:
    """See the module's text."""

    read: InitVar[ReadBlock]
    """Reads the bodies that are not kept here."""
    disconnected: dict[bytes, Block] = field(default_factory=dict)
    connected: dict[bytes, Block] = field(default_factory=dict)
    refused: list[tuple[bytes, ConsensusError]] = field(default_factory=list)
    _budget: BodyBudget = field(init=False)

    def __post_init__(self, read: ReadBlock) -> None:
        """Start with nothing held."""
        self._budget = BodyBudget(read)

    def __bool__(self) -> bool:
        """Tell whether anything is left to follow."""
        return bool(self.disconnected or self.connected)

    def add(self, disconnected: Sequence[Block], connected: Sequence[Block]) -> None:
        """Add one move, its blocks in the order of their heights or the reverse."""
        for block in disconnected:
            if self.connected.pop(block.hash, None) is None:
                self.disconnected[block.hash] = self._budget.hold(block)
        for block in connected:
            if self.disconnected.pop(block.hash, None) is None:
                self.connected[block.hash] = self._budget.hold(block)

    def update(self) -> ChainUpdate:
        """Return the sum, oldest block first."""
        return ChainUpdate(
            disconnected=_by_height(self.disconnected),
            connected=_by_height(self.connected),
            refused=tuple(self.refused),
        )


def _by_height(blocks: dict[bytes, Block]) -> tuple[Block, ...]:
    return tuple(sorted(blocks.values(), key=lambda block: block.header.height))
