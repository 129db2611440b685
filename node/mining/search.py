"""The search itself: which nonce gives a header a hash below the target.

Pure, and of the standard library alone, since it runs in processes that should start in no time. The nonce
is the last 8 of a header's 160 bytes; the state of SHA-256 after the first 152 is kept, so each nonce costs
one compression (`docs/protocol.md`, "Blocks").
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final

PREFIX_BYTES: Final = 152
"""A header without its nonce."""
NONCE_SPACE: Final = 2**64
TARGET_BYTES: Final = 32


def search(prefix: bytes, target: int, start: int, count: int) -> int | None:
    """Return the first nonce in start..start + count - 1 that gives a hash strictly below `target`, or None.

    `prefix` is the header's first 152 bytes; a target of 2^256 or more is met by every hash. ValueError when
    the prefix has another length or the range leaves the 64-bit nonces.
    """
    if len(prefix) != PREFIX_BYTES:
        raise ValueError(f"header prefix: expected {PREFIX_BYTES} bytes, got {len(prefix)}")
    if start < 0 or count < 0 or start + count > NONCE_SPACE:
        raise ValueError(f"nonces: expected a range below 2^64, got {start} and {count} more")
    if target >> (8 * TARGET_BYTES):
        return start if count else None
    copy = hashlib.sha256(prefix).copy
    pack = struct.Struct(">Q").pack
    limit = target.to_bytes(TARGET_BYTES, "big")  # big-endian bytes compare as the numbers do
    for nonce in range(start, start + count):
        state = copy()
        state.update(pack(nonce))
        if state.digest() < limit:
            return nonce
    return None
