"""Statements: the signed header, the detached payload, id and leaf."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from facechain.consensus.encoding import pack, unpack
from facechain.consensus.errors import DecodeError
from facechain.consensus.hashing import tagged_hash
from facechain.consensus.kinds import Kind
from facechain.consensus.payloads import Cancel
from facechain.consensus.signing import Purpose, signed_message
from facechain.consensus.statement import (
    MAX_HEADER_BYTES,
    BatchHeader,
    Statement,
    StatementHeader,
    group_id,
    seed_commitment,
)
from support.chain import PRODUCER, SUBMITTER, ChainBuilder, make_batch, other_signature, seed
from support.statements import sample_payloads

CHAIN = ChainBuilder()


def of_kind(kind: Kind) -> Statement:
    payload = sample_payloads(PRODUCER, SUBMITTER, CHAIN.network_id)[kind]
    batch = make_batch(3, name="sample")[1] if kind is Kind.IMAGE_BATCH else None
    return CHAIN.statement(PRODUCER, payload, batch=batch, sequence=4)


def header_fields(kind: Kind) -> list[Any]:
    fields = unpack(of_kind(kind).header_bytes, max_bytes=MAX_HEADER_BYTES)
    assert isinstance(fields, list)
    return fields


@pytest.mark.parametrize("kind", Kind)
def test_round_trip(kind: Kind) -> None:
    statement = of_kind(kind)
    data = statement.encode()
    again = Statement.decode(data)
    assert again == statement
    assert again.encode() == data
    assert (again.kind, again.author, again.sequence) == (kind, PRODUCER.public, 4)
    assert again.size_bytes == len(data)
    assert again.decode_payload() == sample_payloads(PRODUCER, SUBMITTER, CHAIN.network_id)[kind]
    assert again.has_valid_signature(CHAIN.network_id)
    assert not again.has_valid_signature(seed("another network"))


def test_id_and_leaf_are_hashes_of_what_they_say() -> None:
    statement = of_kind(Kind.STAGE)
    assert statement.id == hashlib.sha256(statement.header_bytes).digest()
    assert statement.leaf == hashlib.sha256(statement.header_bytes + statement.signature).digest()


def test_same_id_with_another_valid_signature_is_another_leaf() -> None:
    statement = of_kind(Kind.CANCEL)
    message = signed_message(Purpose.STATEMENT, CHAIN.network_id, statement.id)
    signature = other_signature(seed("key 1"), message)
    twin = Statement(statement.header_bytes, signature, statement.payload)
    assert signature != statement.signature
    assert twin.has_valid_signature(CHAIN.network_id)
    assert twin.id == statement.id
    assert twin.leaf != statement.leaf


def test_commitments() -> None:
    assert seed_commitment(seed("s")) == tagged_hash("facechain/seed/v1", seed("s"))
    assert group_id([seed("a"), seed("b")]) == tagged_hash("facechain/batch-group/v1", seed("a"), seed("b"))


WRONG: list[tuple[int, object, str]] = [
    (0, 0, "kind"),
    (0, 12, "kind"),
    (0, 256, "kind"),
    (0, True, "kind"),
    (0, int(Kind.IMAGE_BATCH), "batch header"),
    (1, bytes(31), "author"),
    (2, "0", "sequence"),
    (3, None, "claimed time"),
    (4, False, "valid until height"),
    (5, bytes(33), "payload hash"),
    (6, [], "batch header"),
]


@pytest.mark.parametrize("at, value, name", WRONG)
def test_wrong_header_field_is_named(at: int, value: object, name: str) -> None:
    fields = header_fields(Kind.CANCEL)
    fields[at] = value
    with pytest.raises(DecodeError) as caught:
        StatementHeader.decode(pack(fields))
    assert caught.value.what == name


BATCH_FIELDS = [
    "record count",
    "records root",
    "perceptual root",
    "width",
    "height",
    "public",
    "model",
    "clustering",
    "filter",
    "seed commitment",
    "micro-batch",
    "manifest hash",
    "batch group",
    "part index",
    "part count",
]


@pytest.mark.parametrize("at", range(len(BATCH_FIELDS)), ids=BATCH_FIELDS)
def test_wrong_batch_field_is_named(at: int) -> None:
    fields = header_fields(Kind.IMAGE_BATCH)
    assert len(fields[6]) == len(BATCH_FIELDS)
    for wrong in (None, "x", bytes(31), 2**32, 2**64 - 1):
        fields[6][at] = wrong
        with pytest.raises(DecodeError) as caught:
            StatementHeader.decode(pack(fields))
        assert caught.value.what == BATCH_FIELDS[at]


@pytest.mark.parametrize("index, count", [(0, 0), (1, 1), (5, 3)])
def test_part_index_is_below_the_part_count(index: int, count: int) -> None:
    header = make_batch(1, part_index=index, part_count=count)[1]
    with pytest.raises(DecodeError, match=f"part index: expected below the part count {count}"):
        BatchHeader.of(unpack(pack(header.values()), max_bytes=999))


def test_other_kinds_have_no_batch_header() -> None:
    fields = header_fields(Kind.IMAGE_BATCH)
    fields[0] = int(Kind.STAGE)
    with pytest.raises(DecodeError, match="batch header"):
        StatementHeader.decode(pack(fields))


def test_longest_batch_header_is_far_below_the_limit() -> None:
    header = make_batch(
        1, record_count=2**32 - 1, width=65_535, height=65_535, micro_batch=2**32 - 1, part_count=2**32 - 1
    )[1]
    most = StatementHeader(
        kind=Kind.IMAGE_BATCH,
        author=bytes(32),
        sequence=2**64 - 1,
        claimed_time_ms=2**64 - 1,
        valid_until_height=2**64 - 1,
        payload_hash=bytes(32),
        batch=replace(header, part_index=2**32 - 2),
    )
    assert StatementHeader.decode(most.encode()) == most
    assert len(most.encode()) <= 420


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b"", bytes(64)],
        [b"", bytes(64), b""],
        [bytes(1_025), bytes(64), b""],
        [None, bytes(64), b""],
        "header without signature",
        "signature too short",
    ],
    ids=str,
)
def test_statement_is_refused(parts: Any) -> None:
    good = of_kind(Kind.CANCEL)
    if parts == "header without signature":
        parts = [good.header_bytes, None, good.payload]
    elif parts == "signature too short":
        parts = [good.header_bytes, bytes(63), good.payload]
    with pytest.raises(DecodeError):
        Statement.decode(pack(parts))


def test_statement_built_from_parts_is_checked_too() -> None:
    good = of_kind(Kind.CANCEL)
    with pytest.raises(DecodeError, match="signature: expected 64 bytes"):
        Statement(good.header_bytes, bytes(65), good.payload)


def test_statement_longer_than_the_callers_limit() -> None:
    statement = CHAIN.statement(PRODUCER, Cancel(note="x" * 300), sequence=0)
    with pytest.raises(DecodeError, match="at most 300 bytes"):
        Statement.decode(statement.encode(), max_bytes=300)
