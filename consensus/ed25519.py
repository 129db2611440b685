"""Ed25519 verification that every node agrees on, whatever library is underneath.

Owns the byte checks that come before the library: S below the group order, A and R canonically encoded and
not of small order. What passes them is left to the library's cofactorless verification (RFC 8032, 5.1.7,
with the equation [S]B = R + [k]A), on which libraries agree; libsodium is the fastest of them at hand
(`docs/adr/0012-libsodium-verifies.md`). Making signatures is in `signing`.

Source: RFC 8032; Chalkias, Garillot, Nikolaenko, "Taming the many EdDSAs" (2020).
"""

from __future__ import annotations

from typing import Final

from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from .errors import DecodeError

PUBLIC_KEY_BYTES: Final = 32
"""Size of a public key: the encoded point A."""

SIGNATURE_BYTES: Final = 64
"""Size of a signature: the encoded point R, then the scalar S in little-endian order."""

FIELD_PRIME: Final = 2**255 - 19
"""p: coordinates are integers modulo p."""

GROUP_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
"""L: the order of the base point; S is below it."""

_CURVE_D: Final = -121665 * pow(121666, -1, FIELD_PRIME) % FIELD_PRIME
_SIGN_BIT: Final = 1 << 255
_Y_OF_ORDER_8: Final = 2707385501144840649318225287225658788936804267575313519463743609750303402022

_POINT_BYTES: Final = 32


def _small_order_encodings() -> frozenset[bytes]:
    """Return all 14 encodings of the 8 points of small order: 8 canonical ones and 6 that are not.

    The y coordinates are 1 (order 1), -1 (order 2), 0 (order 4, two points) and ±y8 (order 8, four points).
    Not canonical: y = p and y = p + 1, and x = 0 with the sign bit set.
    """
    ys = (0, 1, FIELD_PRIME - 1, _Y_OF_ORDER_8, FIELD_PRIME - _Y_OF_ORDER_8, FIELD_PRIME, FIELD_PRIME + 1)
    return frozenset((y | sign).to_bytes(_POINT_BYTES, "little") for y in ys for sign in (0, _SIGN_BIT))


SMALL_ORDER_ENCODINGS: Final = _small_order_encodings()
"""Encodings refused as A and as R."""


def _point_problem(encoding: bytes) -> str | None:
    """Return what the byte checks hold against an encoded point, None when nothing."""
    if len(encoding) != _POINT_BYTES:
        return f"{len(encoding)} bytes"
    if encoding in SMALL_ORDER_ENCODINGS:
        # This also holds the only two encodings with x = 0 and the sign bit set: y = 1 and y = -1.
        return "a point of small order"
    if int.from_bytes(encoding, "little") % _SIGN_BIT >= FIELD_PRIME:
        return "a coordinate that is not below p"
    return None


def _is_on_curve(encoding: bytes) -> bool:
    """Return whether (y² - 1) / (dy² + 1) is a square modulo p (Euler's criterion)."""
    y_squared = pow(int.from_bytes(encoding, "little") % _SIGN_BIT, 2, FIELD_PRIME)
    numerator, denominator = y_squared - 1, _CURVE_D * y_squared + 1
    # u/v is a square exactly when u·v is; v is never 0 because -1/d is no square.
    return pow(numerator * denominator, (FIELD_PRIME - 1) // 2, FIELD_PRIME) == 1


def check_public_key(key: bytes) -> None:
    """Raise DecodeError unless `key` is the canonical encoding of a curve point that is not of small order.

    For keys that are about to get a role; `verify` does not need it first.
    """
    problem = _point_problem(key)
    if problem is None and not _is_on_curve(key):
        problem = "no point of the curve"
    if problem is not None:
        raise DecodeError("public key", expected="a canonical Ed25519 point, not of small order", got=problem)


def verify(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Return whether `signature` (64 bytes) over `message` is that of `public_key` (32 bytes). Never raises.

    False as well for every encoding that the byte checks refuse, whatever a library thinks of it.
    """
    if len(signature) != SIGNATURE_BYTES:
        return False
    if _point_problem(public_key) is not None or _point_problem(signature[:_POINT_BYTES]) is not None:
        return False
    if int.from_bytes(signature[_POINT_BYTES:], "little") >= GROUP_ORDER:
        return False
    try:
        crypto_sign_open(signature + message, public_key)
    except BadSignatureError:
        return False
    return True
