"""Frames: every message comes back, every limit holds, and nothing but a typed refusal leaves the decoder."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facechain.consensus.errors import DecodeError
from facechain.node.wire.codec import decode, disconnect_frame, encode
from facechain.node.wire.faults import PeerFault, Reason
from facechain.node.wire.fields import Blobs, Fixed, Packed, Rows, Text, Uint, fields_of
from facechain.node.wire.limits import CHUNK_BYTES, MAX_FRAME_BYTES, MAX_STATEMENT_BYTES
from facechain.node.wire.messages import (
    BY_TYPE,
    MESSAGES,
    AnnounceBlock,
    BodyChunk,
    Disconnect,
    Inventory,
    MessageSpec,
    Ping,
    Statements,
)
from support.wire import dataclass_values, largest, largest_message

ALL = pytest.mark.parametrize("spec", MESSAGES, ids=lambda spec: spec.name)

BUDGETED = {BodyChunk, Statements}
"""Types whose items could fill more than a frame: the limit of the frame is what bounds them."""


def chunk_of(frame_bytes: int) -> BodyChunk:
    """A chunk with two statements whose frame has exactly `frame_bytes` bytes."""

    def build(padding: int) -> BodyChunk:
        return BodyChunk(
            block_hash=b"\x02" * 32,
            leaves=(b"\x00" * 32,) * 40_000,
            byte_count=1,
            start=0,
            statements=(b"\x01" * 700_000, b"\x03" * padding),
        )

    return build(100_000 + frame_bytes - len(packed(build(100_000))))


def statements_of(frame_bytes: int) -> Statements:
    """Statements whose frame has exactly `frame_bytes` bytes."""

    def build(padding: int) -> Statements:
        return Statements(statements=(b"\x01" * MAX_STATEMENT_BYTES,) * 2 + (b"\x03" * padding,))

    return build(100_000 + frame_bytes - len(packed(build(100_000))))


def packed(message: Any) -> bytes:
    """The frame of a message without the checks of the encoder."""
    spec = BY_TYPE[type(message)]
    items = [field.put(getattr(message, name)) for name, field in fields_of(type(message))]
    return bytes([spec.number]) + bytes(msgpack.packb(items))


@ALL
@given(data=st.data())
def test_decode_inverts_encode(spec: MessageSpec, data: st.DataObject) -> None:
    message = data.draw(dataclass_values(spec.message))
    frame = encode(message)
    assert decode(frame) == message
    assert encode(decode(frame)) == frame
    assert len(frame) <= spec.max_bytes


@pytest.mark.parametrize(
    "spec", [spec for spec in MESSAGES if spec.message not in BUDGETED], ids=lambda spec: spec.name
)
def test_the_largest_message_of_a_type_is_exactly_at_its_limit(spec: MessageSpec) -> None:
    message = largest_message(spec.message)
    frame = encode(message)
    # The longest length prefix is assumed for packed fields and rows, whatever their real length.
    assert spec.max_bytes - 4 <= len(frame) <= spec.max_bytes
    assert decode(frame) == message


def test_a_chunk_at_the_limit_passes_and_one_byte_more_is_refused() -> None:
    at = chunk_of(MAX_FRAME_BYTES)
    assert len(encode(at)) == MAX_FRAME_BYTES
    assert decode(encode(at)) == at
    above = chunk_of(MAX_FRAME_BYTES + 1)
    with pytest.raises(ValueError, match="expected a frame of at most"):
        encode(above)
    with pytest.raises(PeerFault, match="oversized-message"):
        decode(packed(above))


def test_statements_at_the_limit_pass_and_one_byte_more_is_refused() -> None:
    at = statements_of(MAX_FRAME_BYTES)
    assert len(encode(at)) == MAX_FRAME_BYTES
    assert decode(encode(at)) == at
    with pytest.raises(PeerFault, match="oversized-message"):
        decode(packed(statements_of(MAX_FRAME_BYTES + 1)))


@ALL
def test_a_frame_above_the_limit_is_refused_before_it_is_parsed(spec: MessageSpec) -> None:
    garbage = bytes([spec.number]) + b"\xc1" * spec.max_bytes
    with pytest.raises(PeerFault) as refused:
        decode(garbage)
    assert refused.value.reason == Reason.OVERSIZED_MESSAGE
    assert str(spec.max_bytes) in refused.value.message
    with pytest.raises(DecodeError):
        decode(garbage[:-1])


@ALL
def test_every_field_above_its_own_limit_is_refused(spec: MessageSpec) -> None:
    values = {name: smallest(field) for name, field in fields_of(spec.message)}
    for name, field in fields_of(spec.message):
        for wrong in above(field):
            items = [wrong if other == name else values[other] for other in values]
            frame = bytes([spec.number]) + bytes(msgpack.packb(items))
            with pytest.raises((DecodeError, PeerFault)):
                decode(frame)


def smallest(field: Any) -> Any:
    match field:
        case Fixed(size):
            return b"\x00" * size
        case Packed():
            return b""
        case Blobs() | Rows():
            return []
        case Text():
            return ""
        case _:
            return 0


def above(field: Any) -> list[Any]:
    """Values just outside a field's shape, and of every other type."""
    others: list[Any] = [None, -1, 1.5, {}, {"a": 1}, [[]], msgpack.ExtType(1, b"x")]
    match field:
        case Uint(bits):
            return [*others, b"", "", True, *([2**bits] if bits < 64 else [])]
        case Fixed(size):
            return [*others, 0, "", b"\x00" * (size - 1), b"\x00" * (size + 1)]
        case Packed(size, items):
            return [*others, 0, "", b"\x00" * (size - 1), b"\x00" * (size * (items + 1))]
        case Blobs(size, items):
            return [*others, 0, b"", "", [0], [b""], [b"\x00" * (size + 1)], [b"\x00"] * (items + 1)]
        case Text(size):
            return [*others, 0, b"", "x" * (size + 1), "a\nb", "\x1b[31m"]
        case Rows(row, items):
            good = [smallest(inner) for _, inner in fields_of(row)]
            return [*others, 0, b"", [0], [good[:-1]], [[*good, 0]], [good] * (items + 1)]
        case _:
            return [*others, b"", "", 99]


@ALL
def test_a_field_too_many_or_too_few_is_refused(spec: MessageSpec) -> None:
    values = [smallest(field) for _, field in fields_of(spec.message)]
    wrong_ones: list[Any] = [[*values, 0], values[:-1] if values else [[]], {}, 7]
    for wrong in wrong_ones:
        with pytest.raises((DecodeError, PeerFault)):
            decode(bytes([spec.number]) + bytes(msgpack.packb(wrong)))


@ALL
@given(data=st.data())
def test_truncated_and_changed_frames_only_raise_typed_errors(spec: MessageSpec, data: st.DataObject) -> None:
    values = [smallest(field) for _, field in fields_of(spec.message)]
    frame = bytes([spec.number]) + bytes(msgpack.packb(values))
    cut = data.draw(st.integers(1, len(frame) - 1))
    with pytest.raises(DecodeError):
        decode(frame[:cut])
    position = data.draw(st.integers(1, len(frame) - 1))
    changed = bytearray(frame)
    changed[position] ^= data.draw(st.integers(1, 255))
    with_refusals(bytes(changed))


@given(number=st.sampled_from([spec.number for spec in MESSAGES]), rest=st.binary(max_size=400))
def test_garbage_only_raises_typed_errors(number: int, rest: bytes) -> None:
    with_refusals(bytes([number]) + rest)


def with_refusals(frame: bytes) -> None:
    try:
        message = decode(frame)
    except (DecodeError, PeerFault):
        return
    assert encode(message) == frame


@pytest.mark.parametrize("frame", [b"", b"\x00\x90", b"\xff\x90"])
def test_unknown_types_are_refused(frame: bytes) -> None:
    with pytest.raises(PeerFault) as refused:
        decode(frame)
    assert refused.value.reason == Reason.UNKNOWN_MESSAGE


def test_a_longer_encoding_of_the_same_value_is_refused() -> None:
    assert decode(b"\x10\x91\x07") == Ping(nonce=7)
    for longer in (b"\x10\x91\xcc\x07", b"\x10\xdc\x00\x01\x07", b"\x10\x91\x07\x00"):
        with pytest.raises(DecodeError):
            decode(longer)


@pytest.mark.parametrize(
    "message",
    [
        Ping(nonce=2**64),
        Ping(nonce=-1),
        Inventory(leaves=(b"\x00" * 31, b"\x00" * 33)),
        AnnounceBlock(sealed_header=b"", byte_count=0, leaves=()),
        Disconnect(reason="x" * 65),
        Statements(statements=(b"",)),
    ],
)
def test_the_encoder_refuses_what_the_decoder_would(message: Any) -> None:
    with pytest.raises(ValueError, match="cannot be sent"):
        encode(message)


def test_a_chunk_goes_no_further_than_its_leaves() -> None:
    leaf = b"\x01" * 32
    with pytest.raises(DecodeError, match=r"BodyChunk\.statements: expected an end of at most 2, got 3"):
        BodyChunk(block_hash=leaf, leaves=(leaf, leaf), byte_count=1, start=1, statements=(b"a", b"b"))


def test_a_disconnect_can_carry_any_text() -> None:
    message = decode(disconnect_frame("réason\n" * 40, "détail\x1b" * 100))
    assert isinstance(message, Disconnect)
    assert message.reason.startswith("r?ason?")
    assert (len(message.reason), len(message.detail)) == (64, 256)


def test_one_largest_statement_fits_a_chunk() -> None:
    assert MAX_STATEMENT_BYTES + 100 < CHUNK_BYTES < MAX_FRAME_BYTES


def test_numbers_and_types_are_unique_and_replies_are_in_the_table() -> None:
    assert (
        len({spec.number for spec in MESSAGES}) == len(MESSAGES) == len({spec.message for spec in MESSAGES})
    )
    for spec in MESSAGES:
        assert set(spec.replies) <= set(BY_TYPE)
        assert all(BY_TYPE[reply].per_minute >= spec.per_minute for reply in spec.replies)


def test_the_sizes_of_the_table_are_those_of_the_draft() -> None:
    assert {spec.name: spec.max_bytes for spec in MESSAGES} == {
        "Hello": 189,
        "Proof": 102,
        "Disconnect": 327,
        "Ping": 11,
        "Pong": 11,
        "Status": 88,
        "SendAnnouncements": 3,
        "Clock": 11,
        "GetHeaders": 3271,
        "Headers": 448_007,
        "GetBody": 42,
        "BodyChunk": 2_359_296,
        "AnnounceBlock": 2_097_394,
        "GetLeaves": 36,
        "Leaves": 2_097_202,
        "Inventory": 160_007,
        "GetStatements": 160_007,
        "Statements": 2_359_296,
        "NotFound": 160_008,
        "GetAddresses": 2,
        "Addresses": 270_007,
        "ShareAddresses": 2_707,
    }
    assert largest(Uint(8)) == 255
