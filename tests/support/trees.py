"""Trees of headers without work, for fork choice alone."""

from __future__ import annotations

from facechain.consensus.block import Header, SealedHeader
from facechain.consensus.chain import BlockTree, HeaderNode
from support.chain import easy_params, seed

LIGHT_BITS, HEAVY_BITS = 0x207FFFFF, 0x203FFFFF
"""Blocks of work 2 and 4."""


def header(parent: bytes, height: int, number: int, *, bits: int = LIGHT_BITS) -> SealedHeader:
    """Return a header that is unlike all others of another `number`."""
    return SealedHeader(
        Header(
            version=1,
            height=height,
            previous=parent,
            body_root=bytes(32),
            state_root=bytes(32),
            time_ms=1_000 * height,
            bits=bits,
            producer=seed("producer"),
            nonce=number,
        ),
        bytes(64),
    )


class TreeBuilder:
    """A tree whose blocks are numbered in the order of their making; block 0 is its root."""

    def __init__(self) -> None:
        root = header(bytes(32), 0, 0)
        self.tree = BlockTree(root, easy_params())
        self.made: list[SealedHeader] = [root]

    def make(self, parent: int, *, heavy: bool = False) -> SealedHeader:
        """Make a child of block number `parent`; the tree does not know it yet."""
        above = self.made[parent]
        bits = HEAVY_BITS if heavy else LIGHT_BITS
        sealed = header(above.hash, above.height + 1, len(self.made), bits=bits)
        self.made.append(sealed)
        return sealed

    def add(self, parent: int, *, heavy: bool = False, body: bool = True) -> HeaderNode:
        """Make a child and let the tree know it, by default with its body."""
        node = self.tree.restore(self.make(parent, heavy=heavy))
        if body:
            self.tree.mark_body(node)
        return node

    def line(self, parent: int, length: int, *, heavy: bool = False, body: bool = True) -> list[HeaderNode]:
        """Add a chain of `length` blocks on top of block number `parent`."""
        nodes = []
        for _ in range(length):
            nodes.append(self.add(parent, heavy=heavy, body=body))
            parent = len(self.made) - 1
        return nodes
