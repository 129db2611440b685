"""How the C library's allocator keeps memory that is not in use: for a process that lives long.

Owns three settings of glibc and nothing else. Bodies of many MiB come and go in several threads. By default glibc
raises the size from which it maps a block of memory of its own to 32 MiB as soon as such blocks are freed, and gives
each thread an arena: what is freed then stays, in pieces, with the process (docs/benchmarks.md has the figures).
"""

from __future__ import annotations

import ctypes
import logging
from typing import Final

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
M_ARENA_MAX: Final = -8
"""Numbers of mallopt(3)."""

LARGE_BYTES: Final = 384 * 2**10
"""Blocks of memory from this size on are mapped one by one. asyncio reads each piece of a TLS stream into a new block
of 256 KiB, which it then cuts to size: mapped, that costs 23 µs a read instead of 0.4."""

SETTINGS: Final = (
    (M_MMAP_THRESHOLD, LARGE_BYTES),
    (M_TRIM_THRESHOLD, 2**20),
    (M_ARENA_MAX, 2),
)

_log = logging.getLogger(__name__)


def give_memory_back() -> bool:
    """Set the allocator so that large blocks go back to the system when they are freed.

    Call before threads are started. Returns False where the C library has no such settings (musl, macOS); everything
    works there, with more memory.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        _log.debug("the C library has no mallopt: memory stays as its allocator keeps it")
        return False
    return all(mallopt(option, value) == 1 for option, value in SETTINGS)
