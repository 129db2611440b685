"""The published edge cases, and that two libraries agree behind the byte checks.

Vectors: tests/vectors/ed25519_speccheck.json, ed25519_cctv.json, ed25519_rfc8032.json, ed25519_wycheproof.json.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.exceptions import BadSignatureError

from facechain.consensus import ed25519
from facechain.consensus.errors import DecodeError
from support import vectors


@dataclass(frozen=True)
class Case:
    name: str
    public_key: bytes
    signature: bytes
    message: bytes
    valid: bool


def _valid(case: dict[str, Any]) -> bool:
    if "valid" in case:
        return bool(case["valid"])
    # Cofactorless, with the byte checks: points may have a part of small order as long as it cancels out.
    refused = {"low_order_A", "low_order_R", "non_canonical_A", "non_canonical_R", "low_order_residue"}
    return refused.isdisjoint(case["flags"])


def _cases(name: str) -> list[Case]:
    def message(text: str) -> bytes:
        return text.encode() if name == "ed25519_cctv" else bytes.fromhex(text)

    return [
        Case(
            name=f"{name[8:]}-{case.get('number', number)}",
            public_key=bytes.fromhex(case["public_key"]),
            signature=bytes.fromhex(case["signature"]),
            message=message(case["message"]),
            valid=_valid(case),
        )
        for number, case in enumerate(vectors.load(name)["cases"])
    ]


CASES = [
    *_cases("ed25519_rfc8032"),
    *_cases("ed25519_speccheck"),
    *_cases("ed25519_cctv"),
    *_cases("ed25519_wycheproof"),
]


def _open_with_cryptography(signed: bytes, public_key: bytes) -> bytes:
    """`nacl.bindings.crypto_sign_open`, by the other library."""
    signature, message = signed[:64], signed[64:]
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except InvalidSignature:
        raise BadSignatureError from None
    return message


def _verify_with_cryptography(public_key: bytes, signature: bytes, message: bytes) -> bool:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ed25519, "crypto_sign_open", _open_with_cryptography)
        return ed25519.verify(public_key, signature, message)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_edge_case_has_the_published_outcome(case: Case) -> None:
    assert ed25519.verify(case.public_key, case.signature, case.message) is case.valid


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_cryptography_agrees_behind_the_byte_checks(case: Case) -> None:
    """`cryptography` in the place of libsodium gives the same answer."""
    assert _verify_with_cryptography(case.public_key, case.signature, case.message) is case.valid


def test_byte_checks_and_libraries_each_refuse_something(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agreement says something: vectors pass the byte checks and fail in the library, and the other way round."""
    monkeypatch.setattr(ed25519, "crypto_sign_open", lambda signed, public_key: signed)
    passed = [case for case in CASES if ed25519.verify(case.public_key, case.signature, case.message)]
    assert sum(not case.valid for case in passed) > 20
    assert len(CASES) - len(passed) > 100


SIGNED = [case for case in CASES if len(case.signature) == 64 and len(case.public_key) == 32]
SCALARS = st.sampled_from([1, 2, 8, -1]).map(lambda factor: factor * ed25519.GROUP_ORDER)
POINTS = st.sampled_from([*sorted(ed25519.SMALL_ORDER_ENCODINGS), *(case.public_key for case in SIGNED)])


def _flipped(data: bytes, bit: int) -> bytes:
    number = int.from_bytes(data, "little") ^ 1 << bit % (8 * len(data))
    return number.to_bytes(len(data), "little")


@settings(max_examples=400)
@given(data=st.data())
def test_libraries_agree_on_mutations_of_the_vectors(data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(SIGNED))
    key, nonce, scalar = case.public_key, case.signature[:32], case.signature[32:]
    match data.draw(st.sampled_from(["key", "nonce", "scalar", "order", "point", "points", "message"])):
        case "key":
            key = _flipped(key, data.draw(st.integers(0, 255)))
        case "nonce":
            nonce = _flipped(nonce, data.draw(st.integers(0, 255)))
        case "scalar":
            scalar = _flipped(scalar, data.draw(st.integers(0, 255)))
        case "order":
            moved = int.from_bytes(scalar, "little") + data.draw(SCALARS)
            scalar = (moved % 2**256).to_bytes(32, "little")
        case "point":
            nonce = data.draw(POINTS)
        case "points":
            key, nonce = data.draw(POINTS), data.draw(POINTS)
        case _:
            case = replace(case, message=case.message + data.draw(st.binary(max_size=4)))
    signature = nonce + scalar
    ours = ed25519.verify(key, signature, case.message)
    assert _verify_with_cryptography(key, signature, case.message) is ours


def test_small_order_encodings_are_the_published_fourteen() -> None:
    cases = vectors.load("ed25519_cctv")["cases"]
    keys = {bytes.fromhex(case["public_key"]) for case in cases if "low_order_A" in case["flags"]}
    nonces = {bytes.fromhex(case["signature"])[:32] for case in cases if "low_order_R" in case["flags"]}
    published = keys | nonces
    assert len(published) == 14
    assert published == ed25519.SMALL_ORDER_ENCODINGS
    assert published == ed25519._small_order_encodings()


GOOD = CASES[1]


@pytest.mark.parametrize("flip", range(0, 512, 37))
def test_any_changed_bit_is_refused(flip: int) -> None:
    changed = (int.from_bytes(GOOD.signature, "big") ^ 1 << flip).to_bytes(64, "big")
    assert not ed25519.verify(GOOD.public_key, changed, GOOD.message)


def test_sizes_are_checked() -> None:
    assert not ed25519.verify(GOOD.public_key, GOOD.signature[:-1], GOOD.message)
    assert not ed25519.verify(GOOD.public_key[:-1], GOOD.signature, GOOD.message)
    assert not ed25519.verify(GOOD.public_key, GOOD.signature + b"\0", GOOD.message)


def test_scalar_is_below_the_group_order() -> None:
    scalar = int.from_bytes(GOOD.signature[32:], "little") + ed25519.GROUP_ORDER
    changed = GOOD.signature[:32] + scalar.to_bytes(32, "little")
    assert not ed25519.verify(GOOD.public_key, changed, GOOD.message)


def _encoded(y: int, sign: int = 0) -> bytes:
    return (y | sign << 255).to_bytes(32, "little")


def _has_x(y: int) -> bool:
    """RFC 8032, 5.1.3: try the square root of (y² - 1) / (dy² + 1), and that times the root of -1."""
    p = ed25519.FIELD_PRIME
    d = -121665 * pow(121666, -1, p)
    square = (y * y - 1) * pow(d * y * y + 1, -1, p) % p
    candidate = pow(square, (p + 3) // 8, p)
    return candidate**2 % p in (square, p - square)


def test_points_are_told_from_other_coordinates() -> None:
    small = {int.from_bytes(encoding, "little") % 2**255 for encoding in ed25519.SMALL_ORDER_ENCODINGS}
    tried = [y for y in range(60) if y not in small]
    on_curve = [y for y in tried if _has_x(y)]
    assert 20 < len(on_curve) < 40
    for y in tried:
        for sign in (0, 1):
            if y in on_curve:
                ed25519.check_public_key(_encoded(y, sign))
            else:
                with pytest.raises(DecodeError, match="no point"):
                    ed25519.check_public_key(_encoded(y, sign))


def test_public_keys_of_roles_are_points() -> None:
    def told(key: bytes) -> tuple[str, object, object]:
        with pytest.raises(DecodeError) as caught:
            ed25519.check_public_key(key)
        return caught.value.what, caught.value.expected, caught.value.got

    wanted = ("public key", "a canonical Ed25519 point, not of small order")
    ed25519.check_public_key(GOOD.public_key)
    for encoding in ed25519.SMALL_ORDER_ENCODINGS:
        assert told(encoding) == (*wanted, "a point of small order")
    assert told(GOOD.public_key[:-1]) == (*wanted, "31 bytes")
    assert told(_encoded(ed25519.FIELD_PRIME + 3)) == (*wanted, "a coordinate that is not below p")
    assert told(_encoded(2)) == (*wanted, "no point of the curve")


def test_scalar_of_the_group_order_is_refused_whatever_the_library_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ed25519, "crypto_sign_open", lambda signed, public_key: signed)
    for scalar, accepted in ((ed25519.GROUP_ORDER - 1, True), (ed25519.GROUP_ORDER, False)):
        signature = GOOD.signature[:32] + scalar.to_bytes(32, "little")
        assert ed25519.verify(GOOD.public_key, signature, GOOD.message) is accepted


def test_key_that_is_no_point_verifies_nothing() -> None:
    assert not ed25519.verify(_encoded(2), GOOD.signature, GOOD.message)
