"""Flip one bit of a store's file and see whether `verify` level 3 finds it, or it changed nothing that is read."""

from __future__ import annotations

import random
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from facechain.node.maintenance.damage import StoreDamage
from facechain.node.maintenance.offline import ReadOnlyStore
from facechain.node.maintenance.verify import NOT_CHECKED, Level, verify_store
from facechain.node.store.errors import StoreError
from facechain.node.store.lmdb_file import DATA_NAME
from facechain.node.store.schema import BUCKETS


@dataclass
class Flips:
    """What became of the flipped bits."""

    flips: int = 0
    found: int = 0
    harmless: int = 0
    """Every row reads as before: the bit is in a free page, a gap in a page, or the older meta page."""
    served: int = 0
    """Another content was read as if it were sound."""
    problems: list[str] = field(default_factory=list)


def rows_of(folder: Path) -> dict[str, list[tuple[bytes, bytes]]]:
    """Return all rows but those that nothing commits to."""
    with ReadOnlyStore.open(folder) as store, store.read() as reader:
        return {bucket: list(reader.scan(bucket)) for bucket in BUCKETS if bucket not in NOT_CHECKED}


def flip_bits(source: Path, count: int, seed: int) -> Flips:
    """Flip one bit at a time at `count` places of the data file in `source`, which stays as it is."""
    choice, result = random.Random(seed), Flips()
    sound = rows_of(source)
    data = bytearray((source / DATA_NAME).read_bytes())
    with tempfile.TemporaryDirectory(prefix="facechain-flips-") as place:
        folder = Path(place)
        for _ in range(count):
            position, bit = choice.randrange(len(data)), 1 << choice.randrange(8)
            data[position] ^= bit
            (folder / DATA_NAME).write_bytes(data)
            data[position] ^= bit
            result.flips += 1
            try:
                verify_store(folder, Level.INDEXES)
            except (StoreDamage, StoreError):
                result.found += 1
                continue
            if rows_of(folder) == sound:
                result.harmless += 1
            else:
                result.served += 1
                result.problems.append(f"bit {bit:#04x} of byte {position}: found by nothing")
    return result
