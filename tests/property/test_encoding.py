"""The canonical encoding and everything built on it: what is written is read, garbage is a DecodeError."""

from __future__ import annotations

from collections.abc import Callable

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facechain.consensus.block import Body, Header, SealedHeader
from facechain.consensus.encoding import MAX_DEPTH, MAX_ITEMS_DEFAULT, pack, unpack
from facechain.consensus.errors import DecodeError
from facechain.consensus.kinds import Kind
from facechain.consensus.kv import Delta
from facechain.consensus.params import Genesis
from facechain.consensus.payloads import decode_payload
from facechain.consensus.records import Record
from facechain.consensus.sparse import SparseProof
from facechain.consensus.state import ProposalEntry, RoleEntry, StageEntry
from facechain.consensus.statement import Statement, StatementHeader
from support.chain import ADMIN, PRODUCER, SUBMITTER, ChainBuilder, make_batch, make_genesis
from support.statements import sample_payloads

LIMIT = 2**20

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(0, 2**64 - 1),
    st.binary(max_size=300),
    st.text(max_size=80),
)


def nested(depth: int) -> st.SearchStrategy[object]:
    return LEAVES if depth == 0 else st.one_of(LEAVES, st.lists(nested(depth - 1), max_size=5))


@given(nested(MAX_DEPTH))
def test_round_trip(value: object) -> None:
    data = pack(value)
    found = unpack(data, max_bytes=len(data))
    assert found == value
    assert pack(found) == data


@settings(max_examples=500)
@given(st.binary(max_size=200))
def test_garbage_is_canonical_or_a_decode_error(data: bytes) -> None:
    try:
        value = unpack(data, max_bytes=LIMIT)
    except DecodeError:
        return
    assert pack(value) == data


ANY = st.recursive(
    st.one_of(LEAVES, st.integers(-(2**63), -1), st.floats()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)


def plain(value: object) -> bool:
    if isinstance(value, list):
        return all(plain(item) for item in value)
    if isinstance(value, (dict, float)):
        return False
    return not isinstance(value, int) or value >= 0


@settings(max_examples=300)
@given(ANY)
def test_agrees_with_the_library_on_what_is_in_the_subset(value: object) -> None:
    data = msgpack.packb(value)
    try:
        found = unpack(data, max_bytes=LIMIT)
    except DecodeError:
        assert not plain(value) or depth_of(value) > MAX_DEPTH
    else:
        assert plain(value)
        assert found == msgpack.unpackb(data)


def outcome(data: bytes, max_items: int) -> object:
    try:
        return repr(unpack(data, max_bytes=LIMIT, max_items=max_items))
    except DecodeError:
        return DecodeError


@settings(max_examples=500)
@given(st.one_of(st.binary(max_size=60), ANY.map(msgpack.packb)), st.data())
def test_few_items_and_many_are_read_alike(packed: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(packed)))
    damaged = packed[:at] + data.draw(st.binary(max_size=2)) + packed[at:]
    for item in (packed, damaged):
        assert outcome(item, MAX_ITEMS_DEFAULT) == outcome(item, MAX_ITEMS_DEFAULT + 1)


def depth_of(value: object) -> int:
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


CHAIN = ChainBuilder()
PAYLOADS = sample_payloads(PRODUCER, SUBMITTER, CHAIN.network_id)
STATEMENT = CHAIN.statement(PRODUCER, PAYLOADS[Kind.IMAGE_BATCH], batch=make_batch(3, name="sample")[1])
BLOCK = CHAIN.mine([CHAIN.statement(ADMIN, PAYLOADS[Kind.CANCEL], sequence=0)])
STATE = CHAIN.state()


def payload_reader(kind: Kind) -> Callable[[bytes], object]:
    return lambda data: decode_payload(kind, data)


READERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    **{kind.label: (payload_reader(kind), payload.encode()) for kind, payload in PAYLOADS.items()},
    "statement": (Statement.decode, STATEMENT.encode()),
    "statement header": (StatementHeader.decode, STATEMENT.header_bytes),
    "header": (Header.decode, BLOCK.header.encode()),
    "sealed header": (SealedHeader.decode, BLOCK.sealed.encode()),
    "body": (lambda data: Body.decode(data, max_bytes=LIMIT), BLOCK.body.encode()),
    "genesis": (Genesis.decode, make_genesis().encode()),
    "record": (Record.decode, bytes(range(70))),
    "delta": (Delta.decode, CHAIN.deltas[BLOCK.hash].encode()),
    "role entry": (RoleEntry.decode, RoleEntry(intervals=((1, 2),), suspect_since=3).encode()),
    "proposal entry": (
        ProposalEntry.decode,
        ProposalEntry(payload=b"p", height=1, approvals=(bytes(32),), effective_height=0).encode(),
    ),
    "stage entry": (
        StageEntry.decode,
        StageEntry(kind=Kind.STAGE, stage_type=2, height=1, author=bytes(32)).encode(),
    ),
    "sparse proof": (SparseProof.decode, SparseProof(siblings=(bytes(32),), terminal=None).encode()),
}


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=40)
@given(data=st.data())
def test_damaged_structures_are_decode_errors_or_other_structures(name: str, data: st.DataObject) -> None:
    read, good = READERS[name]
    assert read(good).encode() == good  # type: ignore[attr-defined]
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(start + 4, len(good))))
    damaged = good[:start] + data.draw(st.binary(max_size=6)) + good[end:]
    try:
        found = read(damaged)
    except DecodeError:
        return
    assert found.encode() == damaged  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=25)
@given(garbage=st.binary(max_size=300))
def test_garbage_is_a_decode_error(name: str, garbage: bytes) -> None:
    read, _ = READERS[name]
    try:
        found = read(garbage)
    except DecodeError:
        return
    assert found.encode() == garbage  # type: ignore[attr-defined]
