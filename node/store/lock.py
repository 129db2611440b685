"""One instance per store: a lock file held with flock, with the holder's process id as its text.

Owns the file and nothing else. The lock ends with the process however that ends, and is not kept alive by
children that it forked.
"""

from __future__ import annotations

import errno
import fcntl
import os
import weakref
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from .errors import StoreError, StoreLocked

LOCK_NAME: Final = "instance.lock"

_PID_BYTES_MAX: Final = 32
_HELD_ELSEWHERE: Final = frozenset({errno.EWOULDBLOCK, errno.EACCES})


class InstanceLock:
    """The right to use a folder; taken by `acquire`, given back by `release` or the end of the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        _held.add(self)

    @classmethod
    def acquire(cls, folder: Path) -> InstanceLock:
        """Take the lock of `folder` without waiting; StoreLocked names the process that has it."""
        path = folder / LOCK_NAME
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(
                f"{path}: expected a lock file that can be written, got {error.strerror}"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            if error.errno in _HELD_ELSEWHERE:
                raise StoreLocked(folder, holder=holder) from error
            raise StoreError(
                f"{path}: expected a file system with flock, got {error.strerror}; use a local disk"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        return cls(descriptor)

    def release(self) -> None:
        """Give the lock back; doing so again does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            _held.discard(self)
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


_held: Final[weakref.WeakSet[InstanceLock]] = weakref.WeakSet()


def _release_in_child() -> None:
    """Drop inherited locks: a flock lives until its last descriptor is closed, even after the parent died."""
    for lock in tuple(_held):
        lock.release()


os.register_at_fork(after_in_child=_release_in_child)


def _holder(descriptor: int) -> str:
    text = os.pread(descriptor, _PID_BYTES_MAX, 0).decode("ascii", "replace").strip()
    if not text.isdigit():
        return "another process"
    return "this process" if int(text) == os.getpid() else f"process {text}"
