from __future__ import annotations

from itertools import permutations

import pytest

from facechain.consensus.hashing import sha256
from facechain.consensus.signing import LedgerKey, NodeKey, Purpose, signed_message, verify_signature
from support import vectors

GOLDEN = vectors.load("signing")
SEED = bytes.fromhex(GOLDEN["seed"])
NETWORK = bytes.fromhex(GOLDEN["network_id"])


def _key_for(purpose: Purpose) -> LedgerKey | NodeKey:
    return NodeKey.from_seed(SEED) if purpose in NodeKey.purposes else LedgerKey.from_seed(SEED)


def test_every_purpose_has_a_golden_vector() -> None:
    assert {case["purpose"] for case in GOLDEN["cases"]} == set(Purpose)


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["purpose"])
def test_golden_signatures(case: dict[str, str]) -> None:
    purpose = Purpose(case["purpose"])
    parts = [bytes.fromhex(part) for part in case["parts"]]
    key = _key_for(purpose)
    assert key.public.hex() == GOLDEN["public_key"]
    assert signed_message(purpose, NETWORK, *parts).hex() == case["message"]
    signature = key.sign(purpose, NETWORK, *parts)
    assert signature.hex() == case["signature"]
    assert verify_signature(key.public, signature, purpose, NETWORK, *parts)


def test_nothing_signed_for_one_purpose_passes_for_another() -> None:
    for signed, claimed in permutations(Purpose, 2):
        key = _key_for(signed)
        signature = key.sign(signed, NETWORK, b"part")
        assert not verify_signature(key.public, signature, claimed, NETWORK, b"part")


def test_no_purpose_is_the_start_of_another_message() -> None:
    starts = [signed_message(purpose, NETWORK) for purpose in Purpose]
    assert not any(b.startswith(a) for a, b in permutations(starts, 2))


def test_signature_is_bound_to_network_key_and_parts() -> None:
    key = LedgerKey.from_seed(SEED)
    signature = key.sign(Purpose.SEAL, NETWORK, b"part")
    assert not verify_signature(key.public, signature, Purpose.SEAL, sha256(b"other"), b"part")
    assert not verify_signature(key.public, signature, Purpose.SEAL, NETWORK, b"other")
    other = LedgerKey.from_seed(bytes(32))
    assert not verify_signature(other.public, signature, Purpose.SEAL, NETWORK, b"part")


def test_key_types_have_disjoint_purposes_that_cover_all() -> None:
    assert LedgerKey.purposes.isdisjoint(NodeKey.purposes)
    assert LedgerKey.purposes | NodeKey.purposes == set(Purpose)


@pytest.mark.parametrize("purpose", list(Purpose))
def test_keys_refuse_purposes_of_the_other_type(purpose: Purpose) -> None:
    wrong = LedgerKey.from_seed(SEED) if purpose in NodeKey.purposes else NodeKey.from_seed(SEED)
    with pytest.raises(ValueError, match=purpose.value):
        wrong.sign(purpose, NETWORK, b"part")


def test_network_id_and_seed_sizes_are_checked() -> None:
    with pytest.raises(ValueError, match="network id"):
        signed_message(Purpose.SEAL, b"short", b"part")
    with pytest.raises(ValueError, match="seed"):
        LedgerKey.from_seed(bytes(31))


def test_key_does_not_show_its_secret() -> None:
    key = LedgerKey.from_seed(SEED)
    assert SEED.hex() not in repr(key)
    assert "private" not in repr(key)
    with pytest.raises(AttributeError):
        key.public = bytes(32)  # type: ignore[misc]
