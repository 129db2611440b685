"""Packed records: 70 bytes each, with an RFC 6962 root and proofs."""

from __future__ import annotations

import pytest

from facechain.consensus import merkle
from facechain.consensus.errors import DecodeError, ProofError
from facechain.consensus.records import NO_CLUSTER, RECORD_BYTES, Record, Records
from support.chain import make_records

RECORD = Record(pixel_hash=b"p" * 32, file_hash=b"f" * 32, generator_index=0x01020304, cluster=0x0506)


def test_layout_is_big_endian_without_gaps() -> None:
    assert RECORD.encode() == b"p" * 32 + b"f" * 32 + bytes([1, 2, 3, 4, 5, 6])
    assert len(RECORD.encode()) == RECORD_BYTES == 70
    assert Record.decode(RECORD.encode()) == RECORD


@pytest.mark.parametrize("size", [0, 69, 71, 140])
def test_a_record_has_70_bytes(size: int) -> None:
    with pytest.raises(DecodeError, match="record: expected 70 bytes"):
        Record.decode(bytes(size))


@pytest.mark.parametrize("size", [1, 69, 71])
def test_a_packed_array_has_whole_records(size: int) -> None:
    with pytest.raises(DecodeError, match="multiple of 70 bytes"):
        Records(bytes(size))


def test_records_come_back_in_order() -> None:
    records = make_records(5)
    assert len(records) == 5
    assert Records.of(records) == records
    assert records[3] == list(records)[3]
    assert records.raw(4) == records.packed[-70:]
    assert records[0].cluster != NO_CLUSTER


@pytest.mark.parametrize("index", [-1, 5])
def test_index_outside_the_batch(index: int) -> None:
    with pytest.raises(IndexError, match="of 5"):
        make_records(5).raw(index)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8])
def test_every_record_has_a_proof_under_the_root(count: int) -> None:
    records = make_records(count)
    leaves = [merkle.leaf_hash(records.raw(index)) for index in range(count)]
    assert records.root() == merkle.root(leaves)
    for index in range(count):
        assert list(records.prove(index)) == list(merkle.inclusion_proof(leaves, index))
        merkle.check_inclusion(
            leaf=merkle.leaf_hash(records.raw(index)),
            index=index,
            size=count,
            proof=records.prove(index),
            root=records.root(),
        )


def test_changed_record_has_no_proof() -> None:
    records = make_records(4)
    with pytest.raises(ProofError):
        merkle.check_inclusion(
            leaf=merkle.leaf_hash(records.raw(1)[:-1] + b"\xff"),
            index=1,
            size=4,
            proof=records.prove(1),
            root=records.root(),
        )
