"""Targets, their compact form, and the work that a block stands for.

Owns the arithmetic only. Which bits a header must carry is decided in `retarget`; whether it carries them,
in `validation`.

Source: Bitcoin's compact form (`arith_uint256::SetCompact`), restricted to one encoding per target.
"""

from __future__ import annotations

from typing import Final

from .errors import DecodeError, RuleViolation
from .hashing import HASH_BYTES

MAX_TARGET: Final = 2**256 - 1
"""Above every target: hashes are 256-bit numbers."""

_BITS_MAX: Final = 2**32 - 1
_MANTISSA_MASK: Final = 0x007FFFFF
_MANTISSA_SIGN: Final = 0x00800000
_MANTISSA_BITS: Final = 24


def bits_to_target(bits: int, *, pow_limit: int = MAX_TARGET) -> int:
    """Return the target of compact `bits` = exponent u8 ‖ mantissa 23 bit: mantissa · 256^(exponent - 3).

    Raises DecodeError when the target is negative, zero, wider than 256 bits or not in its one canonical form
    (the form that `target_to_bits` gives); RuleViolation "bad-diffbits" when it is above `pow_limit`.
    """
    if not 0 <= bits <= _BITS_MAX:
        raise DecodeError("bits", expected="an unsigned 32-bit number", got=bits)
    exponent, mantissa = bits >> 24, bits & _MANTISSA_MASK
    if bits & _MANTISSA_SIGN:
        raise DecodeError("bits", expected="a positive target", got=f"0x{bits:08x} (sign bit set)")
    target = mantissa << 8 * exponent >> _MANTISSA_BITS
    if not 1 <= target.bit_length() <= 8 * HASH_BYTES:
        raise DecodeError("bits", expected="a target of 1 to 256 bits", got=f"0x{bits:08x}")
    if target_to_bits(target) != bits:
        raise DecodeError("bits", expected=f"canonical 0x{target_to_bits(target):08x}", got=f"0x{bits:08x}")
    if target > pow_limit:
        raise RuleViolation(
            "bad-diffbits", expected=f"a target of at most 0x{pow_limit:064x}", got=f"0x{target:064x}"
        )
    return target


def target_to_bits(target: int) -> int:
    """Return the compact form of a target in 1..2^256-1, rounded down to its 23 highest bits or fewer.

    ValueError outside that range.
    """
    if not 0 < target <= MAX_TARGET:
        raise ValueError(f"target: expected 1 to 2^256 - 1, got {target}")
    # One bit more than the target has: the mantissa's highest bit is a sign.
    exponent = target.bit_length() // 8 + 1
    mantissa = target << _MANTISSA_BITS >> 8 * exponent
    return exponent << 24 | mantissa


def meets_target(block_hash: bytes, bits: int) -> bool:
    """Return whether the 32-byte hash, as a big-endian number, is strictly below the target of `bits`.

    Raises as `bits_to_target`; ValueError when the hash is not 32 bytes.
    """
    if len(block_hash) != HASH_BYTES:
        raise ValueError(f"block hash: expected {HASH_BYTES} bytes, got {len(block_hash)}")
    return int.from_bytes(block_hash, "big") < bits_to_target(bits)


def block_work(bits: int) -> int:
    """Return 2^256 // target: the expected number of hashes for one strictly below it. Chainwork is its sum."""
    return (MAX_TARGET + 1) // bits_to_target(bits)
