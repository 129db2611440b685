"""Putting a new data file in the place of a store's: one rename, so that a crash leaves the old or the new one.

Owns the folder next to the data file in which the new one is made. The caller holds the instance lock.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ..store.lmdb_file import DATA_NAME, find_damage
from .damage import MaintenanceRefused, StoreDamage
from .offline import ReadOnlyStore

WORK_NAME: Final = "rebuild"
"""Folder inside the store's; what an interrupted run left there is removed by the next."""

FILE_MODE: Final = 0o600


@contextmanager
def new_file(folder: Path) -> Iterator[Path]:
    """Make an empty folder for a new data file; swap the file in when the block ends without an error."""
    work = folder / WORK_NAME
    if work.exists():
        shutil.rmtree(work)
    old = folder / DATA_NAME
    require_room(folder, old.stat().st_size if old.exists() else 0)
    work.mkdir(mode=0o700)
    try:
        yield work
        if problem := find_damage(work):
            raise StoreDamage(str(work / DATA_NAME), expected="sound pages", got=problem)
        sync_file(work / DATA_NAME)
        (work / DATA_NAME).replace(folder / DATA_NAME)
        sync_folder(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def compact(folder: Path) -> None:
    """Write the store's live pages to a new file and put it in the old one's place."""
    with new_file(folder) as work, ReadOnlyStore.open(folder) as store:
        store.copy_to(work)


def require_room(folder: Path, size_bytes: int) -> None:
    """Refuse a job that needs more disk than there is; MaintenanceRefused."""
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if free < size_bytes:
        raise MaintenanceRefused(
            f"{folder}: expected {size_bytes} bytes of free disk for the new file, got {free}; free some space"
        )


def sync_file(path: Path) -> None:
    """Make a file's content durable, and the file its owner's alone."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fchmod(descriptor, FILE_MODE)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
