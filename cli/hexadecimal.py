"""Hashes, ids and keys on the command line, all of 32 bytes in hex."""

from __future__ import annotations

from typing import Final

from .errors import UsageError

HASH_BYTES: Final = 32


def read_hash(what: str, text: str) -> bytes:
    """Return the 32 bytes that `text` spells; UsageError names `what` for anything else."""
    try:
        # `fromhex` skips blanks, which would let a shorter one pass for 64 digits.
        if len(text) == 2 * HASH_BYTES and len(found := bytes.fromhex(text)) == HASH_BYTES:
            return found
    except ValueError:
        pass
    raise UsageError(what, expected=f"{2 * HASH_BYTES} hex digits", got=repr(text))
