"""The identity handshake, machine against machine: the good case and every typed refusal, on both sides."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facechain.consensus.signing import NodeKey
from facechain.node.wire.codec import decode, encode
from facechain.node.wire.faults import (
    BadHandshakeSignature,
    CertificateMismatch,
    HandshakeError,
    HandshakeProtocolError,
    HandshakeRefused,
    Reason,
    SelfConnection,
    VersionMismatch,
    WrongNetwork,
)
from facechain.node.wire.handshake import (
    Handshake,
    HandshakeDone,
    HandshakeResult,
    HelloReceived,
    LocalNode,
)
from facechain.node.wire.messages import Disconnect, HandshakeRole, Hello, Ping, Proof, Service
from support.wire import NETWORK_ID, OTHER_NETWORK_ID, local_node

CERTIFICATE = hashlib.sha256(b"certificate").digest()
OTHER_CERTIFICATE = hashlib.sha256(b"another certificate").digest()


def machine(role: HandshakeRole, local: LocalNode, certificate: bytes = CERTIFICATE) -> Handshake:
    nonce = hashlib.sha256(role.name.encode()).digest()
    return Handshake(role=role, local=local, nonce=nonce, certificate_hash=certificate)


def initiator(local: LocalNode | None = None, certificate: bytes = CERTIFICATE) -> Handshake:
    return machine(HandshakeRole.INITIATOR, local or local_node(1), certificate)


def responder(local: LocalNode | None = None, certificate: bytes = CERTIFICATE) -> Handshake:
    return machine(HandshakeRole.RESPONDER, local or local_node(2), certificate)


Outcome = HandshakeResult | HandshakeError | None


def feed(side: Handshake, frames: list[bytes]) -> Outcome:
    outcome: Outcome = None
    for frame in frames:
        try:
            for event in side.receive(frame):
                if isinstance(event, HandshakeDone):
                    outcome = event.result
        except HandshakeError as error:
            return error
    return outcome


def run(first: Handshake, second: Handshake) -> tuple[Outcome, Outcome]:
    """Pass frames to and fro until neither side has any; return what each came to."""
    outcomes: list[Outcome] = [None, None]
    sides = (first, second)
    for turn in range(8):
        frames = sides[turn % 2].frames_to_send()
        other = (turn + 1) % 2
        if outcomes[other] is None:
            outcomes[other] = feed(sides[other], frames)
    return outcomes[0], outcomes[1]


def test_both_sides_learn_who_the_other_is() -> None:
    left = local_node(1, listen_port=4000, services=Service.RELAY, user_agent="/left/")
    left = dataclasses.replace(left, versions=(1, 1))
    right = local_node(2, versions=(1, 9))
    seen_by_left, seen_by_right = run(initiator(left), responder(right))
    assert seen_by_left == HandshakeResult(
        node_key=right.key.public,
        version=1,
        user_agent="/test:2/",
        services=Service.BODIES | Service.RELAY,
        listen_port=0,
        role=HandshakeRole.RESPONDER,
    )
    assert seen_by_right == HandshakeResult(
        node_key=left.key.public,
        version=1,
        user_agent="/left/",
        services=Service.RELAY,
        listen_port=4000,
        role=HandshakeRole.INITIATOR,
    )


def test_the_highest_common_version_is_agreed_on() -> None:
    outcomes = run(initiator(local_node(1, versions=(2, 5))), responder(local_node(2, versions=(3, 9))))
    assert [outcome.version for outcome in outcomes if isinstance(outcome, HandshakeResult)] == [5, 5]


def test_another_network_is_refused_by_both_sides_with_both_ids() -> None:
    left, right = run(initiator(), responder(local_node(2, network_id=OTHER_NETWORK_ID)))
    assert isinstance(left, WrongNetwork)
    assert (left.expected, left.got) == (NETWORK_ID, OTHER_NETWORK_ID)
    assert isinstance(right, WrongNetwork)
    assert (right.expected, right.got) == (OTHER_NETWORK_ID, NETWORK_ID)
    for error in (left, right):
        assert NETWORK_ID.hex() in error.diagnostics()
        assert OTHER_NETWORK_ID.hex() in error.diagnostics()
        assert not error.misbehaviour


def test_versions_that_do_not_meet_are_refused_by_both_sides() -> None:
    left, right = run(initiator(local_node(1, versions=(1, 2))), responder(local_node(2, versions=(3, 4))))
    assert isinstance(left, VersionMismatch)
    assert (left.expected, left.got) == ((1, 2), (3, 4))
    assert isinstance(right, VersionMismatch)
    assert (right.expected, right.got) == ((3, 4), (1, 2))


def test_a_node_that_meets_itself_is_told_so() -> None:
    left, right = run(initiator(local_node(1)), responder(local_node(1)))
    assert isinstance(left, SelfConnection)
    assert isinstance(right, SelfConnection)


def test_a_relay_with_its_own_certificate_is_refused_by_both_sides() -> None:
    left, right = run(initiator(certificate=OTHER_CERTIFICATE), responder())
    assert isinstance(left, CertificateMismatch)
    assert (left.expected, left.got) == (OTHER_CERTIFICATE, CERTIFICATE)
    assert isinstance(right, CertificateMismatch)
    assert (right.expected, right.got) == (CERTIFICATE, OTHER_CERTIFICATE)


def test_a_relay_that_rewrites_the_certificate_hash_breaks_the_signature() -> None:
    left, right = initiator(certificate=OTHER_CERTIFICATE), responder()
    assert feed(right, left.frames_to_send()) is None
    hello, proof = right.frames_to_send()
    forged = dataclasses.replace(decode_as(Proof, proof), certificate_hash=OTHER_CERTIFICATE)
    error = feed(left, [hello, encode(forged)])
    assert isinstance(error, BadHandshakeSignature)
    assert error.misbehaviour


def decode_as(kind: type, frame: bytes) -> Any:
    message = decode(frame)
    assert isinstance(message, kind)
    return message


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": b"\x09" * 32},
        {"listen_port": 99},
        {"services": 0},
        {"user_agent": "/changed/"},
        {"version_max": 2},
        {"node_key": NodeKey.from_seed(b"\x08" * 32).public},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_hello_that_was_changed_on_the_way_breaks_both_proofs(change: dict[str, Any]) -> None:
    left, right = initiator(), responder()
    (hello,) = left.frames_to_send()
    assert feed(right, [encode(dataclasses.replace(decode_as(Hello, hello), **change))]) is None
    assert isinstance(feed(left, right.frames_to_send()), BadHandshakeSignature)
    assert isinstance(feed(right, left.frames_to_send()[:1]), BadHandshakeSignature)


def test_a_replayed_proof_does_not_fit_another_handshake() -> None:
    recorded_left, recorded_right = initiator(), responder()
    hello = recorded_left.frames_to_send()
    feed(recorded_right, hello)
    feed(recorded_left, recorded_right.frames_to_send())
    (proof,) = recorded_left.frames_to_send()
    victim = Handshake(
        role=HandshakeRole.RESPONDER, local=local_node(2), nonce=b"\x55" * 32, certificate_hash=CERTIFICATE
    )
    assert isinstance(feed(victim, [*hello, proof]), BadHandshakeSignature)


def test_a_proof_of_one_role_does_not_pass_for_the_other() -> None:
    left, right = initiator(), responder()
    feed(right, left.frames_to_send())
    hello, proof = right.frames_to_send()
    mirrored = dataclasses.replace(decode_as(Hello, hello), role=HandshakeRole.INITIATOR)
    error = feed(responder(local_node(3)), [encode(mirrored), proof])
    assert isinstance(error, BadHandshakeSignature)


@pytest.mark.parametrize(
    "frames, expected",
    [
        ([encode(Ping(nonce=1))], "expected Hello, got Ping"),
        ([encode(Proof(certificate_hash=CERTIFICATE, signature=bytes(64)))], "expected Hello, got Proof"),
        ([b""], "an empty frame"),
        ([b"\xff"], "0xff"),
        ([b"\x01\xc1"], "expected a frame of the handshake"),
        ([b"\x01" + bytes(1000)], "at most 189 bytes"),
    ],
)
def test_anything_but_the_frame_that_is_due_is_refused(frames: list[bytes], expected: str) -> None:
    error = feed(responder(), frames)
    assert isinstance(error, HandshakeProtocolError)
    assert expected in error.diagnostics()
    assert error.misbehaviour


def test_two_initiators_refuse_each_other() -> None:
    left, right = run(initiator(), machine(HandshakeRole.INITIATOR, local_node(2)))
    assert isinstance(left, HandshakeProtocolError)
    assert isinstance(right, HandshakeProtocolError)


def test_a_second_hello_and_frames_after_the_end_are_refused() -> None:
    left, right = initiator(), responder()
    hello = left.frames_to_send()
    error = feed(right, hello * 2)
    assert isinstance(error, HandshakeProtocolError)
    assert "expected Proof, got Hello" in error.message
    again = feed(right, hello)
    assert isinstance(again, HandshakeProtocolError)
    assert "after the end" in again.message


def test_a_peers_disconnect_is_shown_with_its_reason() -> None:
    error = feed(initiator(), [encode(Disconnect(reason="banned", detail="until tomorrow"))])
    assert isinstance(error, HandshakeRefused)
    assert (error.reason, "until tomorrow" in error.message) == ("banned", True)


def test_a_refusal_tells_the_peer_why_after_its_own_hello() -> None:
    right = responder(local_node(2, network_id=OTHER_NETWORK_ID))
    feed(right, initiator().frames_to_send())
    hello, farewell = (decode(frame) for frame in right.frames_to_send())
    assert isinstance(hello, Hello)
    assert isinstance(farewell, Disconnect)
    assert farewell.reason == Reason.WRONG_NETWORK
    assert farewell.detail.startswith(f"expected network {OTHER_NETWORK_ID.hex()}, got {NETWORK_ID.hex()}")


def test_the_first_event_shows_an_unproven_hello() -> None:
    (frame,) = initiator().frames_to_send()
    (event,) = responder().receive(frame)
    assert isinstance(event, HelloReceived)
    assert event.hello.user_agent == "/test:1/"


@given(frames=st.lists(st.binary(max_size=200), min_size=1, max_size=3), starts=st.booleans())
def test_garbage_only_raises_typed_errors(frames: list[bytes], starts: bool) -> None:
    outcome = feed(initiator() if starts else responder(), frames)
    assert isinstance(outcome, HandshakeError)


def test_a_user_agent_that_is_too_long_is_this_nodes_own_error() -> None:
    with pytest.raises(ValueError, match="Hello cannot be sent: decode-error: user_agent"):
        responder(local_node(2, user_agent="x" * 65))


def test_unknown_service_bits_are_kept() -> None:
    services = Service(1 << 63 | Service.RELAY)
    _, seen = run(initiator(local_node(1, services=services)), responder())
    assert isinstance(seen, HandshakeResult)
    assert seen.services == services
    assert Service.RELAY in seen.services
