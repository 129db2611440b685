from __future__ import annotations

from typing import Any

import pytest

from facechain.consensus.hashing import ZERO_HASH, sha256, tagged_hash
from support import vectors


def test_sha256_of_fips_180_4() -> None:
    assert sha256(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert bytes(32) == ZERO_HASH


@pytest.mark.parametrize("case", vectors.load("tagged_hash")["cases"], ids=lambda case: case["tag"][:20])
def test_tagged_hash_vectors(case: dict[str, Any]) -> None:
    parts = [bytes.fromhex(part) for part in case["parts"]]
    assert tagged_hash(case["tag"], *parts).hex() == case["hash"]


def test_tags_are_kept_apart_by_their_length() -> None:
    assert tagged_hash("ab", b"c") != tagged_hash("a", b"bc")


@pytest.mark.parametrize("tag", ["", "x" * 256])
def test_tag_length_is_limited(tag: str) -> None:
    with pytest.raises(ValueError, match="1 to 255"):
        tagged_hash(tag)


def test_tag_is_ascii() -> None:
    with pytest.raises(UnicodeEncodeError):
        tagged_hash("é")
