"""Files that only their owner may read: made whole or not at all, and never open to others in between.

Owns creation without overwriting and the check of modes on reading. What the files hold is the caller's.
"""

import os
import secrets
import stat
from pathlib import Path
from typing import Final

FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o700
OPEN_TO_OTHERS: Final = 0o077


class TooOpen(Exception):
    """A private file or folder that others may use."""

    def __init__(self, path: Path, mode: int, wanted: int) -> None:
        """Say the mode that was found and the command that mends it."""
        super().__init__(path, mode, wanted)
        self.path = path
        self.mode = mode
        self.wanted = wanted

    def diagnostics(self) -> str:
        """Return one line: expected, got and the command to run."""
        return (
            f"{self.path}: expected mode {self.wanted:04o}, got {self.mode:04o}, open to others; "
            f"run: chmod {self.wanted:o} {self.path}"
        )

    def __str__(self) -> str:
        return self.diagnostics()


def make_private_directory(path: Path) -> None:
    """Create `path` with mode 0700, and its parents as usual; TooOpen when it is there and others may enter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
    _check_mode(path, path.stat().st_mode, DIRECTORY_MODE)


def create_private_file(path: Path, content: bytes) -> None:
    """Write a new file of mode 0600 durably; FileExistsError when `path` is taken, which stays as it is.

    A hard link gives the finished file its name: unlike a rename, it never replaces what has that name.
    """
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _write_new(scratch, content)
        os.link(scratch, path)
    except OSError as error:  # which names the scratch file
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        scratch.unlink(missing_ok=True)
    _sync_directory(path.parent)


def read_private_file(path: Path, *, max_bytes: int) -> bytes:
    """Return at most `max_bytes` + 1 bytes of a file; TooOpen when others may read or write it."""
    with path.open("rb") as file:
        _check_mode(path, os.fstat(file.fileno()).st_mode, FILE_MODE)
        return file.read(max_bytes + 1)


def _write_new(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _check_mode(path: Path, mode: int, wanted: int) -> None:
    if stat.S_IMODE(mode) & OPEN_TO_OTHERS:
        raise TooOpen(path, stat.S_IMODE(mode), wanted)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
