from __future__ import annotations

from typing import Any

import pytest

from facechain.consensus.errors import DecodeError, RuleViolation
from facechain.consensus.retarget import asert_bits, fixed_bits
from facechain.consensus.work import bits_to_target, meets_target
from support import vectors

PUBLISHED = vectors.load("asert")
LIMIT = int(PUBLISHED["pow_limit_bits"], 16)


def _asert(**changed: int) -> int:
    arguments = {
        "anchor_bits": 0x1C00FFFF,
        "spacing_ms": 600_000,
        "half_life_ms": 172_800_000,
        "time_delta_ms": 600_000,
        "height_delta": 0,
        "pow_limit_bits": LIMIT,
    }
    return asert_bits(**(arguments | changed))


@pytest.mark.parametrize("run", PUBLISHED["runs"], ids=lambda run: run["description"].split(" ")[0])
@pytest.mark.parametrize("unit", [1, 1000], ids=["seconds", "milliseconds"])
def test_asert_published_vectors(run: dict[str, Any], unit: int) -> None:
    for height, time, bits in run["rows"]:
        got = asert_bits(
            anchor_bits=int(run["anchor_bits"], 16),
            spacing_ms=PUBLISHED["spacing_seconds"] * unit,
            half_life_ms=PUBLISHED["half_life_seconds"] * unit,
            time_delta_ms=(time - run["anchor_parent_time"]) * unit,
            height_delta=height - run["anchor_height"],
            pow_limit_bits=LIMIT,
        )
        assert got == int(bits, 16), f"height {height}"


def test_asert_on_schedule_keeps_the_anchor_bits() -> None:
    assert _asert() == 0x1C00FFFF
    assert _asert(height_delta=99, time_delta_ms=60_000_000) == 0x1C00FFFF


def test_asert_one_half_life_behind_doubles_and_ahead_halves() -> None:
    target = bits_to_target(0x1C00FFFF)
    assert bits_to_target(_asert(time_delta_ms=600_000 + 172_800_000)) == 2 * target
    assert bits_to_target(_asert(time_delta_ms=600_000 - 172_800_000)) == target // 2


@pytest.mark.parametrize("time_delta_ms", [2**64, 2**90, 172_800_000 * 8 + 700_000])
def test_asert_stops_at_the_limit_without_large_numbers(time_delta_ms: int) -> None:
    assert _asert(time_delta_ms=time_delta_ms) == LIMIT


def test_asert_stops_at_target_one() -> None:
    assert _asert(height_delta=2**63) == 0x01010000


def test_asert_truncates_toward_zero_as_c_does() -> None:
    # One millisecond ahead of schedule is less than 1/65536 of a half-life: no change.
    assert _asert(time_delta_ms=599_999) == 0x1C00FFFF


@pytest.mark.parametrize("changed", [{"spacing_ms": 0}, {"half_life_ms": 0}, {"half_life_ms": -5}])
def test_asert_parameters_are_positive(changed: dict[str, int]) -> None:
    given = {"spacing_ms": 600_000, "half_life_ms": 172_800_000} | changed
    with pytest.raises(ValueError, match="spacing") as caught:
        _asert(**changed)
    assert str(caught.value) == (
        f"spacing and half-life: expected positive, got {given['spacing_ms']} and {given['half_life_ms']}"
    )


def test_asert_refuses_bad_bits() -> None:
    with pytest.raises(DecodeError):
        _asert(anchor_bits=0)
    with pytest.raises(RuleViolation):
        _asert(anchor_bits=0x207FFFFF)


@pytest.mark.parametrize("digits", range(1, 65))
def test_fixed_bits_are_exactly_leading_zero_hex_digits(digits: int) -> None:
    bits = fixed_bits(digits)
    assert bits_to_target(bits) == 16 ** (64 - digits)
    highest = "0" * digits + "f" * (64 - digits)
    assert meets_target(bytes.fromhex(highest), bits)
    if digits > 1:
        assert not meets_target(bytes.fromhex("0" * (digits - 1) + "1" + "0" * (64 - digits)), bits)


@pytest.mark.parametrize("digits", [0, 65])
def test_fixed_bits_range(digits: int) -> None:
    with pytest.raises(ValueError, match=f"^leading zero hex digits: expected 1 to 64, got {digits}$"):
        fixed_bits(digits)


def test_asert_parameters_may_be_as_small_as_one() -> None:
    target = bits_to_target(0x1C00FFFF)
    found = _asert(spacing_ms=1, half_life_ms=1, time_delta_ms=2)
    assert bits_to_target(found) == 2 * target
