"""Which bits the next header must carry: ASERT in integers, or a fixed number of zero hex digits.

Owns the two formulas. Where the anchor is and which rule a network uses are parameters of the network.

Source: "ASERT Difficulty Adjustment Algorithm (aserti3-2d)", Bitcoin Cash upgrade specification 2020-11-15.
"""

from __future__ import annotations

from typing import Final

from .work import bits_to_target, target_to_bits

RADIX_BITS: Final = 16
"""The exponent is a fixed-point number with 16 fractional bits."""

MAX_HEX_DIGITS: Final = 64
"""A hash has 64 hex digits."""

_HASH_BITS: Final = 256
_RADIX: Final = 1 << RADIX_BITS

# 2^x ≈ 1 + 0.695502049712533 x + 0.2262697964 x² + 0.0782318 x³ for 0 <= x < 1, within 0.013 %.
_CUBIC_1: Final = 195766423245049
_CUBIC_2: Final = 971821376
_CUBIC_3: Final = 5127
_CUBIC_SHIFT: Final = 48


def asert_bits(
    *,
    anchor_bits: int,
    spacing_ms: int,
    half_life_ms: int,
    time_delta_ms: int,
    height_delta: int,
    pow_limit_bits: int,
) -> int:
    """Return the bits of the block that follows block `b`, with `b` as new as the chain's tip.

    `time_delta_ms`: time of `b` minus the time of the anchor's parent, as a signed number. A network whose
    anchor has no parent that was mined takes the anchor's time minus `spacing_ms` in its place.
    `height_delta`: height of `b` minus the anchor's height (0 when `b` is the anchor).
    target = anchor target · 2^((time_delta - spacing · (height_delta + 1)) / half_life), kept in 1..pow limit.
    Milliseconds or seconds give the same result as long as all three are in the same unit.

    ValueError when spacing or half-life is not positive; raises as `bits_to_target` for bad bits.
    """
    if spacing_ms <= 0 or half_life_ms <= 0:
        raise ValueError(f"spacing and half-life: expected positive, got {spacing_ms} and {half_life_ms}")
    pow_limit = bits_to_target(pow_limit_bits)
    anchor_target = bits_to_target(anchor_bits, pow_limit=pow_limit)
    ahead = (time_delta_ms - spacing_ms * (height_delta + 1)) * _RADIX
    # The division truncates toward zero as in C; Python's rounds down.
    exponent = ahead // half_life_ms if ahead >= 0 else -(-ahead // half_life_ms)
    shifts, fraction = exponent >> RADIX_BITS, exponent & (_RADIX - 1)
    if shifts >= _HASH_BITS:
        return pow_limit_bits
    factor = _RADIX + (
        (_CUBIC_1 * fraction + _CUBIC_2 * fraction**2 + _CUBIC_3 * fraction**3 + (1 << (_CUBIC_SHIFT - 1)))
        >> _CUBIC_SHIFT
    )
    product = anchor_target * factor
    shift = shifts - RADIX_BITS
    target = product << shift if shift >= 0 else product >> -shift
    if target > pow_limit:
        return pow_limit_bits
    return target_to_bits(max(target, 1))


def fixed_bits(hex_digits: int) -> int:
    """Return the bits of target 16^(64 - n): hashes below it start with n = `hex_digits` zero hex digits.

    A power of two has an exact compact form. ValueError unless 1 <= n <= 64.
    """
    if not 1 <= hex_digits <= MAX_HEX_DIGITS:
        raise ValueError(f"leading zero hex digits: expected 1 to {MAX_HEX_DIGITS}, got {hex_digits}")
    return target_to_bits(1 << (4 * (MAX_HEX_DIGITS - hex_digits)))
