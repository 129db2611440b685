"""What waits in memory for its turn: headers whose bodies are not here, and blocks that are not in the store.

Owns these two tables, what they weigh, and how they are moved to the store. Which block is connected next is not
decided here.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..consensus.block import Block, SealedHeader
from ..consensus.chain import HeaderNode
from .block_store import write_header, write_parts
from .store.port import Writer
from .store.schema import Table


class Waiting:
    """See the module's text. Changed by the thread that owns the header tree."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.headers: dict[bytes, bytes] = {}
        """Encoded with their seals: less than half the memory of objects."""
        self.blocks: dict[bytes, Block] = {}
        self.body_bytes = 0
        """Of all bodies in `blocks`."""

    def add_header(self, sealed: SealedHeader) -> None:
        """Keep a header that is not stored."""
        self.headers[sealed.hash] = sealed.encode()

    def add_block(self, block: Block) -> None:
        """Keep a block in place of its header."""
        self.headers.pop(block.hash, None)
        self.blocks[block.hash] = block
        self.body_bytes += block.body.byte_count()

    def drop(self, block_hash: bytes) -> None:
        """Let go of a header and of a block."""
        self.headers.pop(block_hash, None)
        block = self.blocks.pop(block_hash, None)
        if block is not None:
            self.body_bytes -= block.body.byte_count()

    def drop_blocks(self) -> None:
        """Let go of all blocks, once :meth:`write` is durable."""
        self.blocks.clear()
        self.body_bytes = 0

    def sealed_header(self, block_hash: bytes) -> SealedHeader | None:
        """Return a header that waits, with its body or without."""
        block = self.blocks.get(block_hash)
        if block is not None:
            return block.sealed
        row = self.headers.get(block_hash)
        return None if row is None else SealedHeader.decode(row)

    def write(self, writer: Writer, nodes: Mapping[bytes, HeaderNode]) -> None:
        """Write all blocks to the store.

        The headers between them and the stored chain go along, since a header without its parent cannot be
        loaded again.
        """
        for block in self.blocks.values():
            write_parts(writer, block)
            for node in nodes[block.hash].ancestors():
                row = self.headers.get(node.hash)
                if row is not None and writer.get(Table.HEADERS, node.hash) is None:
                    write_header(writer, SealedHeader.decode(row))
                elif node.linked:
                    break
