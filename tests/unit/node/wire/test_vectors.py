"""The golden frames, which another implementation can check itself against."""

from __future__ import annotations

from typing import Any

import pytest

from facechain.consensus.signing import NodeKey
from facechain.node.wire.codec import decode, encode
from facechain.node.wire.fields import fields_of, take_fields
from facechain.node.wire.handshake import Handshake, HandshakeDone, LocalNode
from facechain.node.wire.messages import BY_TYPE, MESSAGES, Address, HandshakeRole, Missing, Phase, Service
from support.vectors import load

VECTORS = load("wire")
BY_NAME = {spec.name: spec.message for spec in MESSAGES}
TEXTS = {"reason", "detail"}


def plain(name: str, value: Any) -> Any:
    """The value that a field's JSON stands for."""
    if name == "addresses":
        return tuple(take_fields(Address, row, name) for row in value)
    if name == "missing":
        return Missing(value)
    if isinstance(value, list):
        return tuple(bytes.fromhex(item) for item in value)
    return bytes.fromhex(value) if isinstance(value, str) and name not in TEXTS else value


@pytest.mark.parametrize("row", VECTORS["frames"], ids=lambda row: row["message"])
def test_golden_frames(row: dict[str, Any]) -> None:
    cls = BY_NAME[row["message"]]
    assert [name for name, _ in fields_of(cls)] == list(row["fields"])
    message: Any = cls(**{name: plain(name, value) for name, value in row["fields"].items()})
    assert encode(message).hex() == row["frame"]
    assert decode(bytes.fromhex(row["frame"])) == message


def test_every_message_of_a_session_has_a_golden_frame() -> None:
    assert {row["message"] for row in VECTORS["frames"]} == {
        spec.name for spec in MESSAGES if BY_TYPE[spec.message].phase is not Phase.HANDSHAKE
    }


def test_the_golden_handshake() -> None:
    vector = VECTORS["handshake"]

    def side(role: HandshakeRole) -> Handshake:
        mine = vector[role.name.lower()]
        local = LocalNode(
            key=NodeKey.from_seed(bytes.fromhex(mine["seed"])),
            network_id=bytes.fromhex(vector["network_id"]),
            user_agent=mine["user_agent"],
            listen_port=mine["listen_port"],
            services=Service(mine["services"]),
            versions=(vector["versions"][0], vector["versions"][1]),
        )
        return Handshake(
            role=role,
            local=local,
            nonce=bytes.fromhex(mine["nonce"]),
            certificate_hash=bytes.fromhex(vector["certificate_hash"]),
        )

    for role, other in ((HandshakeRole.INITIATOR, "responder"), (HandshakeRole.RESPONDER, "initiator")):
        machine = side(role)
        sent = machine.frames_to_send()
        machine.receive(bytes.fromhex(vector[other]["hello"]))
        sent += machine.frames_to_send()
        mine = vector[role.name.lower()]
        assert [frame.hex() for frame in sent] == [mine["hello"], mine["proof"]]
        (event,) = machine.receive(bytes.fromhex(vector[other]["proof"]))
        assert isinstance(event, HandshakeDone)
        assert event.result.user_agent == f"/{other}/"
