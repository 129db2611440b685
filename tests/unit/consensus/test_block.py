"""Headers, seals and bodies: their bytes, and what a nonce costs."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace
from typing import Any

import pytest

from facechain.consensus import merkle
from facechain.consensus.block import (
    BODY_TAG,
    EMPTY_BODY,
    HEADER_BYTES,
    NONCE_OFFSET,
    SEALED_HEADER_BYTES,
    Body,
    Header,
    SealedHeader,
    seal_header,
)
from facechain.consensus.encoding import pack
from facechain.consensus.errors import DecodeError
from facechain.consensus.hashing import tagged_hash
from support.chain import PRODUCER, STRANGER, ChainBuilder, make_stage, seed
from support.sha256 import BLOCK_BYTES, CountingSha256

HEADER = Header(
    version=1,
    height=2,
    previous=seed("previous"),
    body_root=seed("body"),
    state_root=seed("state"),
    time_ms=3,
    bits=4,
    producer=PRODUCER.public,
    nonce=0x0102030405060708,
)


def test_header_layout() -> None:
    expected = (
        bytes.fromhex("00000001 0000000000000002")
        + HEADER.previous
        + HEADER.body_root
        + HEADER.state_root
        + bytes.fromhex("0000000000000003 00000004")
        + HEADER.producer
        + bytes.fromhex("0102030405060708")
    )
    assert HEADER.encode() == expected
    assert len(expected) == HEADER_BYTES == 160
    assert HEADER.hash == hashlib.sha256(expected).digest()
    assert Header.decode(expected) == HEADER
    assert HEADER.midstate_prefix() == expected[:152]


@pytest.mark.parametrize("size", [0, 159, 161])
def test_header_has_160_bytes(size: int) -> None:
    with pytest.raises(DecodeError, match="header: expected 160 bytes"):
        Header.decode(bytes(size))


def test_every_field_is_under_the_hash() -> None:
    changed: dict[str, Any] = {
        "version": 2,
        "height": 3,
        "previous": bytes(32),
        "body_root": bytes(32),
        "state_root": bytes(32),
        "time_ms": 4,
        "bits": 5,
        "producer": bytes(32),
        "nonce": 0,
    }
    hashes = {replace(HEADER, **{name: value}).hash for name, value in changed.items()}
    assert len(hashes | {HEADER.hash}) == len(changed) + 1


def test_a_nonce_costs_one_compression() -> None:
    whole = CountingSha256()
    whole.update(HEADER.encode())
    assert whole.digest() == HEADER.hash
    assert whole.compressions == 3

    midstate = CountingSha256()
    midstate.update(HEADER.midstate_prefix())
    assert midstate.compressions == NONCE_OFFSET // BLOCK_BYTES == 2
    for nonce in (0, 1, 2**64 - 1):
        attempt = midstate.copy()
        attempt.update(struct.pack(">Q", nonce))
        assert attempt.digest() == HEADER.with_nonce(nonce).hash
        assert attempt.compressions == 1


def test_seal_is_the_producers_over_the_hash_for_one_network() -> None:
    network = seed("network")
    sealed = seal_header(PRODUCER, network, HEADER)
    assert sealed.has_valid_seal(network)
    assert not sealed.has_valid_seal(seed("another network"))
    assert not seal_header(STRANGER, network, HEADER).has_valid_seal(network)
    assert SealedHeader.decode(sealed.encode()) == sealed
    assert len(sealed.encode()) == SEALED_HEADER_BYTES == 224
    assert (sealed.hash, sealed.height) == (HEADER.hash, 2)
    other_nonce = SealedHeader(HEADER.with_nonce(1), sealed.seal)
    assert not other_nonce.has_valid_seal(network)


@pytest.mark.parametrize("size", [0, 160, 223, 225])
def test_sealed_header_has_224_bytes(size: int) -> None:
    with pytest.raises(DecodeError, match="sealed header: expected 224 bytes"):
        SealedHeader.decode(bytes(size))


def test_body_round_trip_and_root() -> None:
    chain = ChainBuilder()
    statements = tuple(chain.statement(PRODUCER, make_stage(name=f"stage {n}")) for n in range(3))
    body = Body(statements)
    data = body.encode()
    assert Body.decode(data, max_bytes=len(data)) == body
    size = sum(len(item.encode()) for item in statements)
    tree = merkle.root([merkle.leaf_hash(item.leaf) for item in statements])
    assert body.root() == tagged_hash(BODY_TAG, struct.pack(">QQ", 3, size), tree)
    assert Body(statements[::-1]).root() != body.root()
    assert Body(statements[:2]).root() != body.root()
    assert Body.decode(EMPTY_BODY.encode(), max_bytes=9) == EMPTY_BODY


@pytest.mark.parametrize(
    "data",
    [b"", pack([]), pack([[], []]), pack([b""]), pack([[1]]), pack([[b""]]), pack([[b"\x93"]])],
    ids=["nothing", "no list", "two lists", "bytes", "number", "empty statement", "half a statement"],
)
def test_body_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        Body.decode(data, max_bytes=100)


def test_block_names_its_header_and_hash() -> None:
    block = ChainBuilder().mine()
    assert block.header is block.sealed.header
    assert block.hash == block.header.hash
