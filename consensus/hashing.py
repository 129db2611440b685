"""SHA-256, plain and tagged. Owns no tag: each structure's module names its own."""

from __future__ import annotations

import hashlib
from typing import Final

HASH_BYTES: Final = 32
"""Size of every hash in the protocol."""

MAX_TAG_BYTES: Final = 255
"""A tag's length is written as one byte."""

ZERO_HASH: Final = bytes(HASH_BYTES)
"""32 zero bytes: the parent of the genesis block, the root of an empty sparse tree."""


def sha256(data: bytes) -> bytes:
    """Return the 32-byte SHA-256 of `data` (FIPS 180-4)."""
    return hashlib.sha256(data).digest()


def tagged_hash(tag: str, *parts: bytes) -> bytes:
    """Return SHA-256(len(tag) as one byte ‖ tag in ASCII ‖ parts, concatenated).

    The length prefix keeps any two tags apart whatever follows them. The parts are not delimited: a caller
    passes parts of fixed size, or writes their lengths itself. ValueError on a tag that is not 1..255 ASCII bytes.
    """
    name = tag.encode("ascii")
    if not 1 <= len(name) <= MAX_TAG_BYTES:
        raise ValueError(f"tag: expected 1 to {MAX_TAG_BYTES} ASCII bytes, got {len(name)}")
    return hashlib.sha256(b"".join((bytes((len(name),)), name, *parts))).digest()
