"""The published edge cases, and that two libraries agree behind the byte checks.

Vectors: tests/vectors/ed25519_speccheck.json, ed25519_cctv.json, ed25519_rfc8032.json.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nacl.exceptions
import nacl.signing
import pytest
from cryptography.exceptions import InvalidSignature

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
]


def _pynacl_accepts(case: Case) -> bool:
    try:
        nacl.signing.VerifyKey(case.public_key).verify(case.message, case.signature)
    except nacl.exceptions.BadSignatureError:
        return False
    return True


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_edge_case_has_the_published_outcome(case: Case) -> None:
    assert ed25519.verify(case.public_key, case.signature, case.message) is case.valid


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_pynacl_agrees_behind_the_byte_checks(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyNaCl in the place of `cryptography` gives the same answer."""
    ours = ed25519.verify(case.public_key, case.signature, case.message)
    passed_checks: list[bool] = []

    class OtherLibrary:
        @staticmethod
        def from_public_bytes(key: bytes) -> OtherLibrary:
            return OtherLibrary()

        def verify(self, signature: bytes, message: bytes) -> None:
            passed_checks.append(True)
            if not _pynacl_accepts(case):
                raise InvalidSignature

    monkeypatch.setattr(ed25519, "Ed25519PublicKey", OtherLibrary)
    assert ed25519.verify(case.public_key, case.signature, case.message) is ours
    assert passed_checks or not ours


def test_small_order_encodings_are_the_published_fourteen() -> None:
    cases = vectors.load("ed25519_cctv")["cases"]
    keys = {bytes.fromhex(case["public_key"]) for case in cases if "low_order_A" in case["flags"]}
    nonces = {bytes.fromhex(case["signature"])[:32] for case in cases if "low_order_R" in case["flags"]}
    published = keys | nonces
    assert len(published) == 14
    assert published == ed25519.SMALL_ORDER_ENCODINGS


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


def test_public_keys_of_roles_are_points() -> None:
    ed25519.check_public_key(GOOD.public_key)
    for encoding in ed25519.SMALL_ORDER_ENCODINGS:
        with pytest.raises(DecodeError, match="small order"):
            ed25519.check_public_key(encoding)
    with pytest.raises(DecodeError, match="31 bytes"):
        ed25519.check_public_key(GOOD.public_key[:-1])
    with pytest.raises(DecodeError, match="not below p"):
        ed25519.check_public_key(_encoded(ed25519.FIELD_PRIME + 3))
    with pytest.raises(DecodeError, match="no point"):
        ed25519.check_public_key(_encoded(2))


def test_key_that_is_no_point_verifies_nothing() -> None:
    assert not ed25519.verify(_encoded(2), GOOD.signature, GOOD.message)
