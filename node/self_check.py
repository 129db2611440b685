"""The start-up self-check: does what is stored stand up as one chain, before anything is built on it?

Owns what a node looks at each time it opens its store, which takes a second at 100,000 blocks: every header of
the active chain (in `header_load`, while the tree is built), the tip against the state root, the rows that name
heights, and body and undo data of the last blocks. It repairs nothing. What it does not read, `facechain db
verify` does: older bodies, the inside of the state's trees, the indexes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from ..consensus.block import Body
from ..consensus.chain import HeaderNode
from ..consensus.errors import ConsensusError
from ..consensus.kv import Delta, MissingNode
from ..consensus.params import Genesis
from ..consensus.state import StateView, state_root, sub_roots
from .chain_index import BODY_DECODE_BYTES_MAX, TIP_KEY, ChainReader
from .pruned_body import PrunedBody
from .store.errors import StoreError
from .store.port import Reader
from .store.schema import Table

CHECKED_BLOCKS: Final = 32
"""Last blocks whose body and undo data are read: a crash, a lost write or a bad copy shows at the end first."""

CHECKED_BODY_BYTES: Final = 16 * 2**20
"""No further body is read after this many bytes, so that large blocks do not make the start slow."""

_HEIGHT_BYTES: Final = 8


class StoreUnsound(StoreError):
    """The stored chain contradicts itself, so that a node on it would go wrong sooner or later."""

    code = "store-damaged"

    def __init__(self, place: str, *, expected: object, got: object) -> None:
        """Name the place, both sides, and what to do about it."""
        super().__init__(
            f"{place}: expected {expected}, got {got}; 'facechain db verify' shows how far the damage goes; then "
            "'facechain db reindex', a backup, or 'facechain db snapshot import' into a new --data-dir"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """The heights that a store remembers beside its chain; 0 where nothing is stored."""

    checkpoint: int
    """Of the highest checkpoint that was ever in force here."""
    pruned_below: int
    """Bodies of blocks below it were dropped."""
    base: int
    """Of the snapshot that the store began with: no undo data at or below it."""


@contextmanager
def sound(place: str) -> Iterator[None]:
    """Turn a decoder's or tree's failure inside into damage at a place."""
    try:
        yield
    except (ConsensusError, MissingNode, ValueError) as error:
        raise StoreUnsound(place, expected="what was written", got=error) from error


def read_mark(reader: Reader, key: bytes, *, highest: int) -> int:
    """Return a height of `meta`, 0 when it is not there."""
    value = reader.get(Table.META, key)
    height = int.from_bytes(value or b"", "big")
    if value is not None and (len(value) != _HEIGHT_BYTES or height > highest):
        raise StoreUnsound(f"meta '{key.decode()}'", expected=f"a height up to {highest}", got=value.hex())
    return height


def check_genesis(stored: bytes | None, network_id: bytes) -> None:
    """Check that the stored genesis is the network's; raises StoreUnsound."""
    with sound("meta 'genesis'"):
        found = Genesis.decode(stored or b"").network_id
    if found != network_id:
        raise StoreUnsound("meta 'genesis'", expected=f"network {network_id.hex()}", got=found.hex())


def check_tip(reader: Reader, active: Sequence[HeaderNode], marks: Marks) -> None:
    """Check what the next block would stand on; ``active`` was checked by :func:`header_load.load_headers`.

    Raises:
        StoreUnsound: names the first thing that is not as it was written.
    """
    chain, tip = ChainReader(reader), active[-1]
    if chain.tip_hash() != tip.hash:
        got = chain.tip_hash().hex() or "nothing"
        raise StoreUnsound(f"meta '{TIP_KEY.decode()}'", expected=tip.hash.hex(), got=got)
    _check_state(reader, active, marks)
    _check_counts(reader, tip.height, marks)
    size = 0
    for node in reversed(active[-CHECKED_BLOCKS:]):
        size += _check_block(chain, node, marks)
        if size > CHECKED_BODY_BYTES:
            return


def _check_state(reader: Reader, active: Sequence[HeaderNode], marks: Marks) -> None:
    tip = active[-1]
    sealed = ChainReader(reader).sealed_header(tip.hash)
    wanted = b"" if sealed is None else sealed.header.state_root
    with sound(f"state at height {tip.height}"):
        found = state_root(sub_roots(reader))
        checkpoint = StateView(reader).checkpoint()
    if found != wanted:
        raise StoreUnsound(
            f"state at height {tip.height}",
            expected=f"the header's state root {wanted.hex()}",
            got=found.hex(),
        )
    if checkpoint is None:
        return
    height, block_hash = checkpoint
    if height > tip.height or active[height].hash != block_hash or marks.checkpoint < height:
        raise StoreUnsound(
            "checkpoint in force",
            expected=f"block {block_hash.hex()} at height {height} of the chain, and remembered as such",
            got=f"a chain of height {tip.height}, height {marks.checkpoint} remembered",
        )


def _check_counts(reader: Reader, height: int, marks: Marks) -> None:
    """Undo data and what is left of dropped bodies are one row per block: a lost row is seen without a scan."""
    undo = height - marks.base + (marks.base == 0)
    dropped = max(marks.pruned_below - 1, 0)
    for table, wanted in ((Table.UNDO, undo), (Table.PRUNED, dropped)):
        found = reader.count(table)
        if found != wanted:
            raise StoreUnsound(f"table '{table}'", expected=f"{wanted} rows", got=found)


def _check_block(chain: ChainReader, node: HeaderNode, marks: Marks) -> int:
    """Check body and undo data of an active block; return the body's size."""
    place = f"block {node.hash.hex()} at height {node.height}"
    sealed = chain.sealed_header(node.hash)
    dropped = 0 < node.height < marks.pruned_below
    data = chain.reader.get(Table.PRUNED if dropped else Table.BODIES, node.hash)
    if data is None or sealed is None:
        raise StoreUnsound(f"body of {place}", expected="it", got="nothing")
    with sound(f"body of {place}"):
        body = PrunedBody.decode(data) if dropped else Body.decode(data, max_bytes=BODY_DECODE_BYTES_MAX)
    if body.root() != sealed.header.body_root:
        raise StoreUnsound(
            f"body of {place}", expected=f"body root {sealed.header.body_root.hex()}", got=body.root().hex()
        )
    if node.height > marks.base or marks.base == 0:
        undo = chain.reader.get(Table.UNDO, node.hash)
        if undo is None:
            raise StoreUnsound(f"undo data of {place}", expected="it", got="nothing")
        with sound(f"undo data of {place}"):
            Delta.decode(undo)
    return len(data)
