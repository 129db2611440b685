"""Reading a file up to a limit with memory for what is there, not for what would be allowed.

Owns that one call: a plain `read(limit)` reserves the whole limit before it looks at the file.
"""

from __future__ import annotations

import os
from typing import BinaryIO


def read_bounded(file: BinaryIO, max_bytes: int) -> bytes:
    """Return what an open file holds, at most `max_bytes` + 1 bytes, so that a longer one is noticed."""
    first = min(os.fstat(file.fileno()).st_size, max_bytes) + 1
    data = file.read(first)
    if len(data) < first or len(data) > max_bytes:
        return data
    # A pipe, or a file that grows.
    return data + file.read(max_bytes + 1 - len(data))
