"""LMDB's failures in the store's own words. Owns the translation, and decides nothing else."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path
from typing import Final

import lmdb

from .errors import StoreBusy, StoreCorrupt, StoreError, StoreFull
from .lmdb_file import DATA_NAME

ROOM_BYTES_MIN: Final = 16 << 20
"""Free space below which a short write, which LMDB reports as a plain I/O error, is put down to a full disk."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DAMAGE: Final = (
    lmdb.CorruptedError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.VersionMismatchError,
    lmdb.BadChecksumError,
)


def store_error(error: lmdb.Error, folder: Path) -> StoreError:
    """Return the store's error for an LMDB failure on the environment in `folder`."""
    if isinstance(error, _DAMAGE):
        return StoreCorrupt(folder / DATA_NAME, expected="a sound LMDB data file", got=_text(error))
    if isinstance(error, lmdb.ReadersFullError):
        return StoreBusy("too many reads are open at once; keep reads short and try again")
    if isinstance(error, lmdb.MapFullError):
        return StoreFull(f"{folder}: the store has reached its largest size; prune it")
    if isinstance(error, lmdb.PanicError):
        return StoreError(f"{folder}: an earlier write failed half way ({_text(error)}); restart the node")
    if error.code in _FULL or (error.code == errno.EIO and not _has_room(folder)):
        return StoreFull(
            f"{folder}: expected room for the transaction, got {_text(error)}; "
            "free disk space (or raise the quota) and try again"
        )
    return StoreError(f"{folder}: {_text(error)}; check the disk and the folder's permissions")


def _text(error: lmdb.Error) -> str:
    return " ".join(str(error).split())


def _has_room(folder: Path) -> bool:
    disk = os.statvfs(folder)
    if disk.f_bavail * disk.f_frsize < ROOM_BYTES_MIN:
        return False
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return limit == resource.RLIM_INFINITY or (folder / DATA_NAME).stat().st_size + ROOM_BYTES_MIN < limit
