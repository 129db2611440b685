"""Rates, solicitation and pings of one connection, on a clock that the test moves."""

from __future__ import annotations

import pytest

from facechain.node.wire.codec import encode
from facechain.node.wire.faults import PeerFault, Reason
from facechain.node.wire.handshake import PROTOCOL_VERSIONS
from facechain.node.wire.limits import PACE_SHARE
from facechain.node.wire.messages import (
    BY_TYPE,
    MESSAGES,
    REPLIES,
    Addresses,
    BodyChunk,
    GetAddresses,
    GetBody,
    GetHeaders,
    GetStatements,
    Headers,
    Inventory,
    MessageSpec,
    Missing,
    NotFound,
    Phase,
    Ping,
    Pong,
    Proof,
    Statements,
)
from facechain.node.wire.session import Session, TokenBucket
from support.wire import largest_message

SESSION_MESSAGES = [spec for spec in MESSAGES if spec.phase is not Phase.HANDSHAKE]
HASH = b"\x01" * 32


def refused(session: Session, frame: bytes, now: float = 0.0) -> str:
    with pytest.raises(PeerFault) as fault:
        session.incoming(frame, now)
    return fault.value.reason


def test_a_bucket_gives_its_size_at_once_and_then_its_rate() -> None:
    bucket = TokenBucket(60, 100.0)
    assert [bucket.take(100.0) for _ in range(61)] == [True] * 60 + [False]
    assert bucket.seconds_until_next(100.0) == pytest.approx(1.0)
    assert not bucket.take(100.9)
    assert bucket.take(101.0)
    assert [bucket.take(10_000.0) for _ in range(61)].count(True) == 60
    assert not bucket.take(5.0)  # a clock that jumps back gives nothing


def test_a_wait_ends_however_sums_of_times_are_rounded() -> None:
    now = 1e9 / 3
    bucket = TokenBucket(7, now)
    for _ in range(2_000):
        waits = 0
        while delay := bucket.seconds_until_next(now):
            now += delay
            waits += 1
            assert waits < 3
        assert bucket.take(now)


@pytest.mark.parametrize("spec", SESSION_MESSAGES, ids=lambda spec: spec.name)
def test_every_row_accepts_its_rate_and_refuses_one_more(spec: MessageSpec) -> None:
    session = Session(0.0)
    # The rate is judged before the content: an undecodable frame uses up a token as well.
    frame = bytes([spec.number])
    for _ in range(spec.per_minute):
        assert refused(session, frame) in {Reason.MALFORMED_MESSAGE, Reason.UNSOLICITED_REPLY}
    assert refused(session, frame) == Reason.RATE_LIMIT
    assert refused(session, frame, 60.0 / spec.per_minute + 0.001) != Reason.RATE_LIMIT


@pytest.mark.parametrize("spec", SESSION_MESSAGES, ids=lambda spec: spec.name)
def test_a_paced_sender_never_meets_its_peers_limit(spec: MessageSpec) -> None:
    """Even when the peer reads everything of the first minute only at its end."""
    sender = TokenBucket(spec.per_minute * PACE_SHARE, 0.0)
    receiver = TokenBucket(spec.per_minute, 0.0)
    now, sent = 0.0, 0
    while now <= 60.0:
        if sender.take(now):
            sent += 1
        else:
            now += sender.seconds_until_next(now) + 1e-9
    assert all(receiver.take(60.0) for _ in range(sent))


def test_sending_uses_up_the_pace() -> None:
    session = Session(0.0)
    for nonce in range(int(BY_TYPE[Ping].per_minute * PACE_SHARE)):
        assert session.send_delay_seconds(Ping, 0.0) == 0.0
        session.outgoing(Ping(nonce=nonce), 0.0)
    assert session.send_delay_seconds(Ping, 0.0) == pytest.approx(2.0)


@pytest.mark.parametrize("reply", sorted(REPLIES, key=str))
def test_a_reply_nobody_asked_for_is_refused(reply: type) -> None:
    assert refused(Session(0.0), bytes([BY_TYPE[reply].number, 0x90])) == Reason.UNSOLICITED_REPLY


def test_each_request_allows_one_reply() -> None:
    session = Session(0.0)
    empty = encode(Headers(sealed_headers=()))
    session.outgoing(GetHeaders(locator=(HASH,), stop_hash=bytes(32)), 0.0)
    session.outgoing(GetHeaders(locator=(HASH,), stop_hash=bytes(32)), 0.0)
    session.incoming(empty, 0.0)
    session.incoming(empty, 0.0)
    assert refused(session, empty) == Reason.UNSOLICITED_REPLY


def test_not_found_answers_bodies_and_statements() -> None:
    session = Session(0.0)
    session.outgoing(GetBody(block_hash=HASH, start=0, with_leaves=True), 0.0)
    session.outgoing(GetStatements(leaves=(HASH,)), 0.0)
    missing = NotFound(missing=Missing.BODY, hashes=(HASH,))
    assert session.incoming(encode(missing), 0.0) == missing
    session.incoming(encode(NotFound(missing=Missing.STATEMENT, hashes=(HASH,))), 0.0)
    assert refused(session, encode(missing)) == Reason.UNSOLICITED_REPLY


def test_answers_may_come_in_any_order() -> None:
    session = Session(0.0)
    session.outgoing(GetBody(block_hash=HASH, start=0, with_leaves=True), 0.0)
    session.outgoing(GetStatements(leaves=(HASH,)), 0.0)
    session.incoming(encode(NotFound(missing=Missing.STATEMENT, hashes=(HASH,))), 0.0)
    chunk = BodyChunk(block_hash=HASH, leaves=(), byte_count=1, start=0, statements=(b"a",))
    assert session.incoming(encode(chunk), 0.0) == chunk
    assert refused(session, encode(chunk)) == Reason.UNSOLICITED_REPLY


def test_a_not_found_of_the_other_kind_is_unsolicited() -> None:
    session = Session(0.0)
    session.outgoing(GetStatements(leaves=(HASH,)), 0.0)
    assert refused(session, encode(NotFound(missing=Missing.BODY, hashes=()))) == Reason.UNSOLICITED_REPLY


def test_late_answers_to_many_requests_are_all_welcome() -> None:
    session = Session(0.0)
    for _ in range(1000):
        session.outgoing(GetStatements(leaves=(HASH,)), 0.0)
    session.outgoing(GetAddresses(), 0.0)
    for _ in range(1000):
        session.incoming(encode(Statements(statements=())), 0.0)
    session.incoming(encode(Addresses(addresses=())), 0.0)
    assert refused(session, encode(Statements(statements=()))) == Reason.UNSOLICITED_REPLY


def test_pings_measure_the_round_trip_and_only_the_right_nonce_answers() -> None:
    session = Session(0.0)
    session.outgoing(Ping(nonce=7), 10.0)
    awaited = session.awaits_pong
    session.incoming(encode(Pong(nonce=7)), 10.25)
    assert session.round_trip_seconds == pytest.approx(0.25)
    assert (awaited, session.awaits_pong) == (True, False)
    session.outgoing(Ping(nonce=8), 20.0)
    assert refused(session, encode(Pong(nonce=7)), 20.1) == Reason.UNSOLICITED_REPLY


def test_handshake_messages_are_refused_in_a_session_both_ways() -> None:
    proof = Proof(certificate_hash=HASH, signature=bytes(64))
    assert refused(Session(0.0), encode(proof)) == Reason.UNEXPECTED_MESSAGE
    with pytest.raises(ValueError, match="got one of the handshake"):
        Session(0.0).outgoing(proof, 0.0)


def test_bytes_are_counted_by_name_both_ways() -> None:
    session = Session(0.0)
    frame = session.outgoing(Inventory(leaves=(HASH,)), 0.0)
    session.incoming(frame, 0.0)
    assert session.sent_bytes == session.received_bytes == {"Inventory": len(frame)}


def test_every_reply_but_not_found_answers_one_type_of_request() -> None:
    for reply in REPLIES - {NotFound}:
        assert sum(reply in spec.replies for spec in MESSAGES) == 1, reply


@pytest.mark.parametrize("spec", [spec for spec in MESSAGES if spec.since > 1], ids=lambda spec: spec.name)
def test_a_later_versions_message_is_unknown_on_an_earlier_connection(spec: MessageSpec) -> None:
    message = largest_message(spec.message)
    now, before = Session(0.0, spec.since), Session(0.0, spec.since - 1)
    for asked in (row.message for row in MESSAGES if spec.message in row.replies):
        now.outgoing(largest_message(asked), 0.0)
    assert now.incoming(now.outgoing(message, 0.0), 0.0) == message
    assert refused(before, encode(message)) == Reason.UNKNOWN_MESSAGE
    with pytest.raises(ValueError, match=f"expected a message of wire version {spec.since - 1}"):
        before.outgoing(message, 0.0)


def test_the_newest_version_is_the_one_that_the_newest_message_came_with() -> None:
    assert max(spec.since for spec in MESSAGES) == PROTOCOL_VERSIONS[1]
    assert {spec.since for spec in MESSAGES} <= set(range(PROTOCOL_VERSIONS[0], PROTOCOL_VERSIONS[1] + 1))
