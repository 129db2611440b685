"""The search against plain hashlib."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facechain.consensus.block import NONCE_OFFSET, Header
from facechain.consensus.work import bits_to_target, meets_target
from facechain.node.mining.search import NONCE_SPACE, PREFIX_BYTES, search

TARGET = 2**250


def plain_search(prefix: bytes, target: int, start: int, count: int) -> int | None:
    for nonce in range(start, start + count):
        digest = hashlib.sha256(prefix + nonce.to_bytes(8, "big")).digest()
        if int.from_bytes(digest, "big") < target:
            return nonce
    return None


@given(
    prefix=st.binary(min_size=PREFIX_BYTES, max_size=PREFIX_BYTES),
    start=st.integers(0, NONCE_SPACE - 300),
    target=st.sampled_from((0, 1, TARGET, 2**255, 2**256 - 1, 2**256)),
)
def test_it_finds_what_plain_hashlib_finds(prefix: bytes, start: int, target: int) -> None:
    assert search(prefix, target, start, 300) == plain_search(prefix, target, start, 300)


def test_the_target_itself_is_not_below_the_target() -> None:
    prefix = bytes(PREFIX_BYTES)
    digest = int.from_bytes(hashlib.sha256(prefix + bytes(8)).digest(), "big")
    assert search(prefix, digest, 0, 1) is None
    assert search(prefix, digest + 1, 0, 1) == 0


def test_the_last_nonce_is_searched() -> None:
    assert search(bytes(PREFIX_BYTES), 2**256, NONCE_SPACE - 1, 1) == NONCE_SPACE - 1


def test_a_mined_header_meets_its_bits() -> None:
    header = Header(
        version=1,
        height=7,
        previous=bytes(32),
        body_root=bytes(32),
        state_root=bytes(32),
        time_ms=1,
        bits=0x2000FFFF,
        producer=bytes(32),
        nonce=0,
    )
    assert NONCE_OFFSET == PREFIX_BYTES
    nonce = search(header.midstate_prefix(), bits_to_target(header.bits), 0, 2**16)
    assert nonce is not None
    assert meets_target(header.with_nonce(nonce).hash, header.bits)


@pytest.mark.parametrize(
    "prefix,start,count", [(bytes(151), 0, 1), (bytes(152), -1, 1), (bytes(152), NONCE_SPACE, 1)]
)
def test_what_no_header_has_is_refused(prefix: bytes, start: int, count: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        search(prefix, TARGET, start, count)
