from __future__ import annotations

import pytest

from facechain.consensus.errors import DecodeError, RuleViolation
from facechain.consensus.work import MAX_TARGET, bits_to_target, block_work, meets_target, target_to_bits
from support import vectors

CASES = vectors.load("bits")["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["bits"])
def test_compact_bits_of_bitcoin(case: dict[str, str | None]) -> None:
    bits = int(str(case["bits"]), 16)
    if case["target"] is None:
        with pytest.raises(DecodeError):
            bits_to_target(bits)
    else:
        target = int(case["target"], 16)
        assert bits_to_target(bits) == target
        assert target_to_bits(target) == bits


@pytest.mark.parametrize("bits", [-1, 2**32])
def test_bits_are_a_u32(bits: int) -> None:
    with pytest.raises(DecodeError, match="unsigned 32-bit"):
        bits_to_target(bits)


def test_target_above_the_limit_is_bad_diffbits() -> None:
    limit = bits_to_target(0x1D00FFFF)
    assert bits_to_target(0x1D00FFFF, pow_limit=limit) == limit
    with pytest.raises(RuleViolation) as caught:
        bits_to_target(0x1D010000, pow_limit=limit)
    assert caught.value.code == "bad-diffbits"


def test_target_is_rounded_down() -> None:
    assert target_to_bits(0x80) == 0x02008000
    assert bits_to_target(target_to_bits(0x12345678)) == 0x12345600
    assert bits_to_target(target_to_bits(MAX_TARGET)) == 0xFFFF << 240


@pytest.mark.parametrize("target", [0, -1, MAX_TARGET + 1])
def test_target_is_in_range(target: int) -> None:
    with pytest.raises(ValueError, match="target"):
        target_to_bits(target)


def test_hash_is_strictly_below_the_target() -> None:
    bits = 0x1D00FFFF
    target = bits_to_target(bits)
    assert meets_target((target - 1).to_bytes(32, "big"), bits)
    assert not meets_target(target.to_bytes(32, "big"), bits)
    with pytest.raises(ValueError, match="32 bytes"):
        meets_target(bytes(31), bits)


def test_block_work_is_the_expected_number_of_hashes() -> None:
    assert block_work(0x21008000) == 2  # half of all hashes
    assert block_work(0x1D00FFFF) == 2**256 // (0xFFFF << 208)
    assert block_work(0x01010000) == 2**256
