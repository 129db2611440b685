"""SHA-256 in plain Python (FIPS 180-4) that counts its compressions and can start from a midstate."""

from __future__ import annotations

import math
import struct

BLOCK_BYTES = 64
_MASK = 0xFFFFFFFF


def _primes(count: int) -> list[int]:
    found: list[int] = []
    number = 2
    while len(found) < count:
        if all(number % prime for prime in found):
            found.append(number)
        number += 1
    return found


def _cube_root_fraction(prime: int) -> int:
    root = int(prime ** (1 / 3) * 2**32)
    while root**3 > prime << 96:
        root -= 1
    while (root + 1) ** 3 <= prime << 96:
        root += 1
    return root & _MASK


_K = [_cube_root_fraction(prime) for prime in _primes(64)]
_START = tuple(math.isqrt(prime << 64) & _MASK for prime in _primes(8))


def _turn(word: int, bits: int) -> int:
    return (word >> bits | word << (32 - bits)) & _MASK


class CountingSha256:
    """Takes whole blocks as they come; `compressions` counts them."""

    def __init__(self, state: tuple[int, ...] = _START, length: int = 0) -> None:
        self.state = state
        self.length = length
        self.compressions = 0
        self._rest = b""

    def copy(self) -> CountingSha256:
        """Return a hash that goes on from here and counts from zero."""
        twin = CountingSha256(self.state, self.length)
        twin._rest = self._rest
        return twin

    def update(self, data: bytes) -> None:
        self.length += len(data)
        data = self._rest + data
        whole = len(data) - len(data) % BLOCK_BYTES
        for at in range(0, whole, BLOCK_BYTES):
            self._compress(data[at : at + BLOCK_BYTES])
        self._rest = data[whole:]

    def digest(self) -> bytes:
        """Pad and finish; the object is used up."""
        length = self.length
        padding = b"\x80" + bytes(-(length + 9) % BLOCK_BYTES) + struct.pack(">Q", 8 * length)
        self.update(padding)
        return struct.pack(">8I", *self.state)

    def _compress(self, block: bytes) -> None:
        self.compressions += 1
        words = list(struct.unpack(">16I", block))
        for at in range(16, 64):
            a, b = words[at - 15], words[at - 2]
            low = _turn(a, 7) ^ _turn(a, 18) ^ a >> 3
            high = _turn(b, 17) ^ _turn(b, 19) ^ b >> 10
            words.append((words[at - 16] + low + words[at - 7] + high) & _MASK)
        a, b, c, d, e, f, g, h = self.state
        for word, constant in zip(words, _K, strict=True):
            choice = e & f ^ ~e & g
            first = h + (_turn(e, 6) ^ _turn(e, 11) ^ _turn(e, 25)) + choice + constant + word
            second = (_turn(a, 2) ^ _turn(a, 13) ^ _turn(a, 22)) + (a & b ^ a & c ^ b & c)
            a, b, c, d, e, f, g, h = (first + second) & _MASK, a, b, c, (d + first) & _MASK, e, f, g
        self.state = tuple(
            (old + new) & _MASK for old, new in zip(self.state, (a, b, c, d, e, f, g, h), strict=True)
        )
