"""`db verify`: check a store that nobody writes, level by level, and say what was checked.

Owns the levels and the report. Each level contains those below it; the first damage ends the check with
`StoreDamage` or `StoreCorrupt`. Pages are walked before LMDB is given the file, so that damage cannot end the
process. Rows that nothing commits to (peers, bans) are counted and named as not checked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Final

from ...consensus.params import Genesis
from ..chain_index import TIP_KEY
from ..meta_keys import BASE_KEY, CHECKPOINT_KEY, GENESIS_KEY, NETWORK_KEY, PRUNED_KEY
from ..pruned_body import PRUNED_ROWS_KEY
from ..store.errors import StoreCorrupt
from ..store.lmdb_file import DATA_NAME, check_file, find_damage
from ..store.port import Reader
from ..store.schema import PROBE_KEY, SCHEMA_KEY, Table, height_key
from .damage import MaintenanceRefused, StoreDamage, at, check_same
from .offline import ReadOnlyStore, alone, never_begun
from .progress import Progress, silent

META_KEYS: Final = frozenset(
    (
        *(SCHEMA_KEY, PROBE_KEY, NETWORK_KEY, GENESIS_KEY, TIP_KEY, CHECKPOINT_KEY, PRUNED_KEY, BASE_KEY),
        PRUNED_ROWS_KEY,
    )
)
NOT_CHECKED: Final = (Table.PEERS, Table.BANS)
"""Tables of what others said, or of the operator's own wishes: nothing commits to them."""


class Level(IntEnum):
    """How much is checked."""

    OPEN = 0
    """The file opens, has this schema and a tip."""
    FILE = 1
    """Every page; every header: hash, link, height, work, time, seal."""
    BODIES = 2
    """Every body, statement, payload and signature, hashed again."""
    INDEXES = 3
    """Every index row and all undo data and state, against bodies and state roots."""
    STATE = 4
    """The state and the undo data of every block, computed again from block 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was checked, and how much of it."""

    level: int
    what: str
    count: int
    size_bytes: int | None = None


@dataclass(slots=True, kw_only=True)
class Verification:
    """What was checked; that it exists means that no damage was found."""

    level: Level
    network: bytes = b""
    height: int = 0
    tip: bytes = b""
    pruned_below: int = 0
    base_height: int = 0
    checks: list[Check] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)

    def note(self, level: Level, what: str, count: int, size_bytes: int | None = None) -> None:
        """Add something that was checked and found sound."""
        self.checks.append(Check(level=level, what=what, count=count, size_bytes=size_bytes))


@dataclass(slots=True, kw_only=True)
class Job:
    """What the parts of a check share: one snapshot, the network, and what was found so far."""

    reader: Reader
    genesis: Genesis
    report: Verification
    progress: Progress
    active: list[bytes] = field(default_factory=list)
    """Active block hashes by height."""


def verify_store(folder: Path, level: Level, progress: Progress = silent) -> Verification:
    """Check the store in `folder` up to a level.

    Raises StoreLocked when a node runs on it, StoreDamage or StoreCorrupt at the first damage, StoreSchema,
    and MaintenanceRefused when there is no store or bodies that the level needs were dropped.
    """
    report = Verification(level=level)
    with alone(folder):
        check_file(folder)
        if level >= Level.FILE:
            _check_pages(folder, report, progress)
        with ReadOnlyStore.open(folder) as store, store.read() as reader:
            verify_reader(reader, report, progress, name=str(folder))
    return report


def verify_reader(reader: Reader, report: Verification, progress: Progress, *, name: str) -> None:
    """Check what one snapshot of any store holds, all but the pages of its file; raises as `verify_store`."""
    job = _check_tip(name, reader, report, progress)
    for part in _parts(report.level):
        part(job)
    report.not_checked += [
        f"{reader.count(table)} rows of '{table}': nothing commits to them" for table in NOT_CHECKED
    ]


def _parts(level: Level) -> list[Callable[[Job], None]]:
    from .verify_chain import check_bodies, check_headers  # noqa: PLC0415 - they import Job from here
    from .verify_index import check_indexes  # noqa: PLC0415
    from .verify_state import check_state, replay_state  # noqa: PLC0415

    wanted: list[Callable[[Job], None]] = []
    if level >= Level.FILE:
        wanted.append(check_headers)
    if level >= Level.BODIES:
        wanted.append(check_bodies)
    if level >= Level.INDEXES:
        wanted += [check_indexes, check_state]
    if level >= Level.STATE:
        wanted.append(replay_state)
    return wanted


def _check_pages(folder: Path, report: Verification, progress: Progress) -> None:
    path = folder / DATA_NAME
    size = path.stat().st_size
    progress("pages", 0, size)
    if problem := find_damage(folder):
        raise StoreCorrupt(path, expected="sound pages", got=problem)
    progress("pages", size, size)
    report.note(Level.FILE, "data file: structure of every page in use, and the list of free pages", 1, size)


def _check_tip(name: str, reader: Reader, report: Verification, progress: Progress) -> Job:
    genesis_bytes = reader.get(Table.META, GENESIS_KEY)
    if genesis_bytes is None and not reader.count(Table.HEADERS) and reader.count(Table.META) == 1:
        raise never_begun(name)
    if genesis_bytes is None:
        raise StoreDamage("meta 'genesis'", expected="the network's genesis", got="nothing")
    with at("meta 'genesis'"):
        genesis = Genesis.decode(genesis_bytes)
    check_same("meta 'network'", genesis.network_id, reader.get(Table.META, NETWORK_KEY))
    tip = reader.get(Table.META, TIP_KEY) or b""
    row = reader.get(Table.HEADERS, tip) if tip else None
    if row is None:
        raise StoreDamage("meta 'tip'", expected="the hash of a stored header", got=tip.hex() or "nothing")
    height = reader.count(Table.ACTIVE) - 1
    check_same("the active chain's last row", tip, reader.get(Table.ACTIVE, height_key(max(height, 0))))
    for key, value in reader.scan(Table.META):
        if key not in META_KEYS:
            raise StoreDamage(f"meta {key!r}", expected="a key of this schema", got=f"{len(value)} bytes")
    report.network, report.height, report.tip = genesis.network_id, height, tip
    report.pruned_below = _height(reader, PRUNED_KEY, height)
    report.base_height = _height(reader, BASE_KEY, height)
    report.note(Level.OPEN, "schema, network and tip", 1)
    if report.level >= Level.STATE and report.pruned_below:
        raise MaintenanceRefused(
            f"level {int(Level.STATE)}: expected all bodies, got a store that was pruned below "
            f"{report.pruned_below}; use --level {int(Level.INDEXES)}"
        )
    return Job(reader=reader, genesis=genesis, report=report, progress=progress)


def _height(reader: Reader, key: bytes, highest: int) -> int:
    value = reader.get(Table.META, key)
    if value is None:
        return 0
    found = int.from_bytes(value, "big")
    if len(value) != 8 or found > highest:
        raise StoreDamage(f"meta {key!r}", expected=f"a height up to {highest}", got=value.hex())
    return found
