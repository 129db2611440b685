"""Building the header tree from a store: the active chain by height, then the side chains.

Owns which rows make up the tree and what is checked of them on the way: every header's hash, link and height.
Work and seals were checked before the rows were written, and `facechain db verify` checks them again. Rows
become nodes without the objects in between, since this is most of a node's start.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from ..consensus.block import HEADER_BYTES, SEALED_HEADER_BYTES, unpack_header
from ..consensus.chain import BlockTree, HeaderNode
from ..consensus.errors import ConsensusError
from ..consensus.hashing import HASH_BYTES, sha256
from .chain_index import HEADER_FLAG_BODY, HEADER_FLAG_INVALID
from .self_check import StoreUnsound, sound
from .store.port import Reader
from .store.schema import Table, height_key

ROW_BYTES: Final = SEALED_HEADER_BYTES + 1
FLAGS: Final = frozenset({0, HEADER_FLAG_INVALID, HEADER_FLAG_BODY})
"""Every header row is one of: body not here, refused, body here (or dropped by pruning)."""


def load_headers(reader: Reader, tree: BlockTree) -> None:
    """Add every stored header to a tree that holds block 0 alone, and make the stored chain its active one.

    Raises:
        StoreUnsound: a row is not as it was written, or the active rows are not one chain.
    """
    _load_active(reader, tree)
    if reader.count(Table.HEADERS) > len(tree.active):
        _load_branches(reader, tree)


def _load_active(reader: Reader, tree: BlockTree) -> None:
    root = below = tree.tip
    if reader.get(Table.ACTIVE, height_key(0)) != root.hash:
        raise StoreUnsound(_place(0), expected=f"block 0 {root.hash.hex()}", got="another or none")
    _checked_header(reader.get(Table.HEADERS, root.hash), root.hash, (HEADER_FLAG_BODY,))
    for height, (key, block_hash) in enumerate(reader.scan(Table.ACTIVE, start=height_key(1)), start=1):
        if key != height_key(height) or len(block_hash) != HASH_BYTES:
            got = f"{block_hash.hex() or 'nothing'} under key {key.hex()}"
            raise StoreUnsound(_place(height), expected="the block's hash", got=got)
        header = _checked_header(reader.get(Table.HEADERS, block_hash), block_hash, (HEADER_FLAG_BODY,))
        try:
            node = tree.restore_encoded(block_hash, header)
        except (ConsensusError, KeyError) as error:
            raise StoreUnsound(_place(height), expected=_child_of(below), got=error) from error
        if node.parent is not below or node.height != height:
            raise StoreUnsound(_place(height), expected=_child_of(below), got=block_hash.hex())
        tree.mark_body(node)
        below = node
    tree.set_tip(below)


def _place(height: int) -> str:
    return f"active chain at height {height}"


def _child_of(node: HeaderNode) -> str:
    return f"a child of block {node.hash.hex()}"


def _checked_header(row: bytes | None, block_hash: bytes, flags: Container[int]) -> bytes:
    """Return the 160 bytes of a header row whose hash and flags are right."""
    header = (row or b"")[:HEADER_BYTES]
    if row is None or len(row) != ROW_BYTES or row[-1] not in flags or sha256(header) != block_hash:
        got = "nothing" if row is None else f"hash {sha256(header).hex()} and flags {row[-1:].hex()}"
        raise StoreUnsound(
            f"header of block {block_hash.hex()}", expected="the header of this hash, and its seal", got=got
        )
    return header


def _load_branches(reader: Reader, tree: BlockTree) -> None:
    """Add the headers off the active chain in order of height, since a parent must come first.

    A row whose parent is not stored (a crash came between a child and its parent) is passed over: peers
    send both again.
    """
    rows = []
    for block_hash, row in reader.scan(Table.HEADERS):
        if block_hash not in tree.nodes:
            header = _checked_header(row, block_hash, FLAGS)
            _, height, previous, *_ = unpack_header(header)
            rows.append((height, block_hash, previous, header, row[-1]))
    for _, block_hash, previous, header, flags in sorted(rows):
        if previous not in tree.nodes:
            continue
        with sound(f"header of block {block_hash.hex()}"):
            node = tree.restore_encoded(block_hash, header)
        if flags == HEADER_FLAG_INVALID:
            tree.mark_invalid(node)
        elif flags == HEADER_FLAG_BODY:
            tree.mark_body(node)
