"""Payloads of every kind: one byte form each, and every field checked by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from facechain.consensus.encoding import pack, unpack
from facechain.consensus.errors import DecodeError
from facechain.consensus.kinds import Kind, Role, RoleAction, StageType
from facechain.consensus.payloads import (
    MAX_BATCH_RECORDS,
    MAX_STAGE_DETAILS,
    MAX_STAGE_INPUTS,
    PAYLOADS,
    Stage,
    decode_payload,
)
from facechain.consensus.records import RECORD_BYTES
from support.chain import PRODUCER, STRANGER, make_stage, seed
from support.statements import sample_payloads

SAMPLES = sample_payloads(PRODUCER, STRANGER, seed("network"))


def fields_of(kind: Kind) -> list[Any]:
    data = SAMPLES[kind].encode()
    fields = unpack(data, max_bytes=len(data))
    assert isinstance(fields, list)
    return fields


@pytest.mark.parametrize("kind", Kind)
def test_round_trip(kind: Kind) -> None:
    data = SAMPLES[kind].encode()
    payload = decode_payload(kind, data)
    assert payload == SAMPLES[kind]
    assert payload.encode() == data
    assert isinstance(payload, PAYLOADS[kind])


@pytest.mark.parametrize("kind", Kind)
def test_fields_are_neither_more_nor_fewer(kind: Kind) -> None:
    fields = fields_of(kind)
    for wrong in ([*fields, None], fields[:-1]):
        with pytest.raises(DecodeError, match=f"{len(fields)} fields"):
            decode_payload(kind, pack(wrong))
    for other in (b"", b"\xc0", pack({"a": 1}), pack(fields) + b"\xc0"):
        with pytest.raises(DecodeError):
            decode_payload(kind, other)


HASHES = {
    Kind.STAGE: {1: "artifact"},
    Kind.ROLE_PROPOSAL: {2: "subject", 3: "encryption key"},
    Kind.ROLE_APPROVAL: {0: "proposal"},
    Kind.KEY_ROTATE: {0: "new key"},
    Kind.VIEW_GRANT: {0: "batch", 1: "viewer"},
    Kind.RETRACT: {0: "target"},
    Kind.ATTESTATION: {0: "batch", 2: "pixel hash"},
    Kind.CHECKPOINT: {1: "block hash"},
    Kind.IMAGE_BATCH: {2: "seed"},
}

WRONG: list[tuple[Kind, int, object, str]] = [
    *((kind, at, bytes(31), name) for kind, found in HASHES.items() for at, name in found.items()),
    *((kind, at, "x" * 32, name) for kind, found in HASHES.items() for at, name in found.items()),
    (Kind.IMAGE_BATCH, 0, b"", "records"),
    (Kind.IMAGE_BATCH, 0, bytes(71), "records"),
    (Kind.IMAGE_BATCH, 0, None, "records"),
    (Kind.IMAGE_BATCH, 1, bytes(32), "perceptual column"),
    (Kind.IMAGE_BATCH, 1, 5, "perceptual column"),
    (Kind.STAGE, 0, 0, "stage type"),
    (Kind.STAGE, 0, 8, "stage type"),
    (Kind.STAGE, 0, True, "stage type"),
    (Kind.STAGE, 2, [bytes(32)] * (MAX_STAGE_INPUTS + 1), "inputs"),
    (Kind.STAGE, 2, [bytes(31)], "input"),
    (Kind.STAGE, 2, None, "inputs"),
    (Kind.STAGE, 3, "x" * 129, "name"),
    (Kind.STAGE, 3, "a\nb", "name"),
    (Kind.STAGE, 3, b"x", "name"),
    (Kind.STAGE, 4, [["a"]], "detail"),
    (Kind.STAGE, 4, [["a", 1]], "detail value"),
    (Kind.STAGE, 4, [["a", "x" * 1_025]], "detail value"),
    (Kind.STAGE, 4, [["x" * 65, ""]], "detail key"),
    (Kind.STAGE, 4, [["b", ""], ["a", ""]], "details"),
    (Kind.STAGE, 4, [["a", ""], ["a", ""]], "details"),
    (Kind.ROLE_PROPOSAL, 0, 3, "action"),
    (Kind.ROLE_PROPOSAL, 1, 5, "role"),
    (Kind.ROLE_PROPOSAL, 1, int(Role.PRODUCER), "encryption key"),
    (Kind.ROLE_PROPOSAL, 3, None, "encryption key"),
    (Kind.ROLE_PROPOSAL, 0, int(RoleAction.REVOKE), "encryption key"),
    (Kind.ROLE_PROPOSAL, 4, 5, "suspect since"),
    (Kind.ROLE_PROPOSAL, 4, -1, "structure"),
    (Kind.ROLE_PROPOSAL, 5, "x" * 513, "note"),
    (Kind.KEY_ROTATE, 1, bytes(63), "consent"),
    (Kind.VIEW_GRANT, 2, bytes(513), "wrapped key"),
    (Kind.RETRACT, 1, 2**32, "record"),
    (Kind.RETRACT, 2, "x" * 513, "reason"),
    (Kind.ATTESTATION, 1, 2**32, "record"),
    (Kind.ATTESTATION, 1, None, "record"),
    (Kind.ATTESTATION, 3, "x" * 513, "note"),
    (Kind.CHECKPOINT, 0, False, "height"),
    (Kind.CANCEL, 0, "x" * 513, "note"),
    (Kind.CANCEL, 0, None, "note"),
    (Kind.PROTOCOL_UPGRADE, 0, 2**32, "version"),
    (Kind.PROTOCOL_UPGRADE, 1, "1", "activation height"),
]


@pytest.mark.parametrize("kind, at, value, name", WRONG, ids=lambda value: str(value)[:30])
def test_wrong_field_is_named(kind: Kind, at: int, value: object, name: str) -> None:
    fields = fields_of(kind)
    fields[at] = value
    with pytest.raises(DecodeError) as caught:
        decode_payload(kind, pack(fields))
    assert caught.value.what == name


@pytest.mark.parametrize(
    "kind, at",
    [(Kind.IMAGE_BATCH, 1), (Kind.IMAGE_BATCH, 2), (Kind.RETRACT, 1)],
)
def test_optional_field_may_be_nil(kind: Kind, at: int) -> None:
    fields = fields_of(kind)
    fields[at] = None
    data = pack(fields)
    assert decode_payload(kind, data).encode() == data


def test_revocation_may_name_a_height_since_which_it_is_suspect() -> None:
    fields = [int(RoleAction.REVOKE), int(Role.ADMIN), bytes(32), None, 9, "stolen"]
    assert decode_payload(Kind.ROLE_PROPOSAL, pack(fields)).encode() == pack(fields)


def test_most_records_details_and_inputs_fit() -> None:
    stage = make_stage(StageType.DATASET, *([bytes(32)] * MAX_STAGE_INPUTS))
    details = tuple((f"k{number:02}", "v") for number in range(MAX_STAGE_DETAILS))
    full = replace(stage, details=details)
    assert Stage.decode(full.encode()) == full
    with pytest.raises(DecodeError, match="structure: expected an array of at most 64"):
        Stage.decode(replace(stage, details=(*details, ("z", ""))).encode())


def test_details_are_ordered_by_their_bytes() -> None:
    stage = replace(make_stage(), details=(("B", ""), ("a", ""), ("é", "")))
    assert Stage.decode(stage.encode()) == stage


def test_more_records_than_the_limit_are_refused() -> None:
    assert RECORD_BYTES * (MAX_BATCH_RECORDS + 1) > 16 * 2**20
    with pytest.raises(DecodeError, match="structure: expected at most"):
        decode_payload(Kind.IMAGE_BATCH, bytes(16 * 2**20 + 1))


def test_perceptual_root_is_there_with_the_column_only() -> None:
    batch: Any = SAMPLES[Kind.IMAGE_BATCH]
    assert len(batch.perceptual_root()) == 32
    assert replace(batch, perceptual=None).perceptual_root() is None
