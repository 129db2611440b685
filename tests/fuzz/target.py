"""What a fuzz target is, and the property that every input must have.

Owns the property: a decoder returns or raises an error of its own, what it returns is written back as the same
bytes where the form is canonical, and it never allocates more than a small multiple of its input.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

MULTIPLE: Final = 32
"""Bytes that a decoder may hold at once for each byte of its input; the smallest Python object has 28."""

STORED_MULTIPLE: Final = 80
"""The same for rows of the own store, which may have as many arrays as bytes: an empty one takes 64 bytes."""

CONSTANT_BYTES: Final = 384 * KIB
"""What it may hold besides, whatever the input: MessagePack's writer alone takes 256 KiB at once."""

MAX_INPUT_BYTES: Final = 4 * KIB
MAX_ERROR_CHARACTERS: Final = 2_000
"""An error may quote its input, but not all of it."""


class Form(StrEnum):
    """What inputs look like: tells how they are mutated (`mutation`)."""

    BYTES = "bytes"
    PACKED = "packed"
    """Canonical MessagePack, perhaps behind a prefix, perhaps with more of it inside byte strings."""
    JSON = "json"
    TEXT = "text"
    IMAGE = "image"
    """Chunks of PNG (with their checksums) or RIFF."""
    ZIP = "zip"


class Finding(AssertionError):
    """An input for which the property does not hold."""


class Disagreement(Exception):
    """Raised by a target whose value does not survive being written and read again."""


def check_again(read: Callable[[], object], value: object) -> None:
    """Raise Disagreement unless `read`, which reads what was written for a value, returns that value."""
    try:
        again = read()
    except Exception as error:
        raise Disagreement(f"what is written for {value!r:.200} is refused: {error!r:.200}") from error
    if again != value:
        raise Disagreement(f"what is written for {value!r:.200} is read as {again!r:.200}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One decoder: `read` gets any bytes at all."""

    name: str
    read: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]
    """The documented errors; anything else that `read` raises is a finding."""
    seeds: Callable[[], Sequence[bytes]]
    """Inputs that are accepted."""
    form: Form = Form.PACKED
    encode: Callable[[Any], bytes] | None = None
    """Writes what was read; None where the form is not canonical."""
    multiple: int = MULTIPLE
    constant_bytes: int = CONSTANT_BYTES
    max_bytes: int = MAX_INPUT_BYTES
    """Longest input that the fuzzer makes."""


def check(target: Target, data: bytes) -> bool:
    """Hold one input against the property; return whether it was accepted, raise Finding when it does not hold.

    Memory is what `tracemalloc` sees: Python's own objects and those of libraries that use its allocator.
    """
    if not tracemalloc.is_tracing():
        tracemalloc.start()
    allowed = target.multiple * len(data) + target.constant_bytes
    value, refusal, peak = _measured(target, data)
    if peak > allowed:  # once more: what Python sets up at the first use of something does not count
        value, refusal, peak = _measured(target, data)
    if peak > allowed:
        raise Finding(
            f"{target.name}: expected at most {allowed} bytes for an input of {len(data)}, got {peak}"
        )
    if refusal is not None:
        text = str(refusal)
        if len(text) > MAX_ERROR_CHARACTERS:
            raise Finding(f"{target.name}: expected a short error, got {len(text)} characters: {text[:80]}…")
        return False
    if target.encode is not None:
        again = target.encode(value)
        if again != data:
            raise Finding(f"{target.name}: expected the same bytes again, got {again.hex()}")
    return True


def _measured(target: Target, data: bytes) -> tuple[object, Exception | None, int]:
    """Read an input; return what came of it and the bytes that this took at most."""
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    value, refusal = _read(target, data)
    _, peak = tracemalloc.get_traced_memory()
    return value, refusal, peak - before


def _read(target: Target, data: bytes) -> tuple[object, Exception | None]:
    try:
        return target.read(data), None
    except target.refusals as error:
        # Its traceback would keep alive what the decoder held.
        return None, error.with_traceback(None)
    except Exception as error:
        expected = " or ".join(kind.__name__ for kind in target.refusals) or "no error"
        raise Finding(f"{target.name}: expected {expected}, got {error!r:.200}") from error


def warm_up(target: Target) -> None:
    """Read every seed once, so that imports and caches are not taken for what an input costs."""
    for seed in target.seeds():
        _read(target, seed)
