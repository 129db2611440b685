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


REFUSED: list[tuple[int, str, object]] = [
    (-1, "an unsigned 32-bit number", -1),
    (2**32, "an unsigned 32-bit number", 2**32),
    (2**32 - 1, "a positive target", "0xffffffff (sign bit set)"),
    (0x01800000, "a positive target", "0x01800000 (sign bit set)"),
    (0, "a target of 1 to 256 bits", "0x00000000"),
    (0x02000000, "a target of 1 to 256 bits", "0x02000000"),
    (0x01003456, "a target of 1 to 256 bits", "0x01003456"),
    (0x21010000, "a target of 1 to 256 bits", "0x21010000"),  # 2^256
    (0xFF123456, "a target of 1 to 256 bits", "0xff123456"),
    (0x01123456, "canonical 0x01120000", "0x01123456"),
    (0x05001234, "canonical 0x04123400", "0x05001234"),
]


@pytest.mark.parametrize("bits, expected, got", REFUSED, ids=str)
def test_bits_are_refused_for_what_is_wrong_with_them(bits: int, expected: str, got: object) -> None:
    with pytest.raises(DecodeError) as caught:
        bits_to_target(bits)
    assert (caught.value.what, caught.value.expected, caught.value.got) == ("bits", expected, got)


def test_every_width_has_one_compact_form() -> None:
    """Targets of every width, with few and with many bits set, against their definition."""
    for width in range(1, 257):
        for target in (1 << width - 1, (1 << width) - 1, (0xA5 << 248 >> 256 - width) | 1 << width - 1):
            bits = target_to_bits(target)
            exponent, mantissa = bits >> 24, bits & 0xFFFFFF
            assert exponent == width // 8 + 1
            assert mantissa == target * 256**3 // 256**exponent < 0x800000
            assert bits_to_target(bits) == mantissa * 256**exponent // 256**3 <= target


def test_target_above_the_limit_is_bad_diffbits() -> None:
    limit = bits_to_target(0x1D00FFFF)
    assert bits_to_target(0x1D00FFFF, pow_limit=limit) == limit
    with pytest.raises(RuleViolation) as caught:
        bits_to_target(0x1D010000, pow_limit=limit)
    assert caught.value.code == "bad-diffbits"
    assert caught.value.expected == f"a target of at most 0x{'ffff':0>12}{'':0<52}"
    assert caught.value.got == f"0x{'1':0>8}{'':0<56}"


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
