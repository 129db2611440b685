"""`db backup`: a compact copy of one moment of a store, also while a node writes to it.

Owns the copy. It is a data directory of its own (genesis file and store; no keys), so every `db` command and
`node start` work on it. A backup that does not open with the same tip is removed and reported.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from ..chain_index import TIP_KEY
from ..data_dir import DataDir
from ..store.lmdb_file import DATA_NAME, find_damage
from ..store.schema import Table, height_key
from .damage import MaintenanceRefused, StoreDamage
from .offline import ReadOnlyStore, require_store
from .progress import Progress, silent
from .replace import require_room, sync_file, sync_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A finished copy."""

    out: Path
    height: int
    tip: bytes
    size_bytes: int


def back_up(layout: DataDir, out: Path, progress: Progress = silent) -> Backup:
    """Copy the store of a data directory to the new folder `out`.

    Raises MaintenanceRefused (no store, `out` is not empty, no room), StoreError or StoreDamage.
    """
    source = require_store(layout.store)
    if out.exists() and any(out.iterdir()):
        raise MaintenanceRefused(f"{out}: expected a new or empty folder, got one with files; choose another")
    copy = DataDir(root=out)
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    size = source.stat().st_size
    require_room(out, size)
    copy.store.mkdir(mode=0o700)
    try:
        progress("copy", 0, size)
        with ReadOnlyStore.open(layout.store) as store:
            store.copy_to(copy.store)
        if layout.genesis_file.exists():
            shutil.copyfile(layout.genesis_file, copy.genesis_file)
        sync_file(copy.store / DATA_NAME)
        sync_folder(copy.store)
        sync_folder(out)
        return _checked(copy)
    except BaseException:
        shutil.rmtree(copy.store, ignore_errors=True)
        raise


def _checked(copy: DataDir) -> Backup:
    if problem := find_damage(copy.store):
        raise StoreDamage(str(copy.store / DATA_NAME), expected="sound pages", got=problem)
    with ReadOnlyStore.open(copy.store) as store, store.read() as reader:
        tip = reader.get(Table.META, TIP_KEY) or b""
        height = reader.count(Table.ACTIVE) - 1
        found = reader.get(Table.ACTIVE, height_key(max(height, 0)))
    if not tip or found != tip:
        raise StoreDamage(str(copy.store), expected="a tip", got=tip.hex() or "nothing")
    return Backup(out=copy.root, height=height, tip=tip, size_bytes=(copy.store / DATA_NAME).stat().st_size)
