"""One process per run folder: two that train into it would overwrite each other's checkpoints."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .errors import ConfigError

LOCK_FILE: Final = "run.lock"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a run folder, which is made if need be, until the block or the process ends.

    Raises:
        ConfigError: another process trains into the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigError(
            "the run folder is in use",
            expected="a folder that no other process trains into",
            got=str(folder),
            hint="wait for the other training to end",
        ) from error
