"""Blocks of a move whose bodies stay in the store, so that a deep reorganisation is followed in bounded memory.

Owns how many bytes of bodies a move keeps at hand. Whoever walks all blocks of a move reads the others one by
one; whoever only tells of what is new (events, inventory) passes over them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from ..consensus.block import Block, Body, SealedHeader

HELD_BODY_BYTES: Final = 32 * 2**20
"""Bodies that one move keeps in memory; those of its further blocks are read from the store when asked for."""

ReadBlock = Callable[[bytes], Block]
"""Returns a stored block by its hash; raises StoreDamaged when it is not there."""


class StoredBlock(Block):
    """A block whose body is read from the store each time that it is asked for."""

    __slots__ = ("_read",)

    def __init__(self, sealed: SealedHeader, read: ReadBlock) -> None:
        """Keep the header and where to read the body."""
        object.__setattr__(self, "sealed", sealed)
        object.__setattr__(self, "_read", read)

    @property
    def body(self) -> Body:
        """Read the body."""
        read: ReadBlock = object.__getattribute__(self, "_read")
        return read(self.hash).body


class BodyBudget:
    """Decides which blocks of a move stay whole: those that came first, up to `HELD_BODY_BYTES`."""

    def __init__(self, read: ReadBlock) -> None:
        """Start with nothing held."""
        self._read = read
        self._held = 0

    def hold(self, block: Block) -> Block:
        """Return the block, or what stands for it when its body finds no room."""
        if isinstance(block, StoredBlock):
            return block
        size = block.body.byte_count()
        if self._held + size > HELD_BODY_BYTES:
            return StoredBlock(block.sealed, self._read)
        self._held += size
        return block


def whole(blocks: Iterable[Block]) -> Iterator[Block]:
    """Yield the blocks whose bodies are in memory."""
    return (block for block in blocks if not isinstance(block, StoredBlock))
