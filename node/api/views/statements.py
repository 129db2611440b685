"""Statements and their payloads as JSON, with the receipt that they have reached."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from ....consensus.kinds import RoleAction
from ....consensus.payloads import (
    AnyPayload,
    Attestation,
    Cancel,
    Checkpoint,
    ImageBatch,
    KeyRotate,
    ProtocolUpgrade,
    Retract,
    RoleApproval,
    RoleProposal,
    Stage,
    ViewGrant,
)
from ....consensus.statement import ABSENT, NEVER_EXPIRES, BatchHeader, Statement
from ...chain_index import Place
from ...mempool import Drop
from ..problems import STATEMENT_NOT_FOUND, not_found
from ..snapshot import Snapshot
from .blocks import JsonObject

CONFIRMED_FROM: Final = 2
"""Confirmations from which a statement counts as `confirmed`; with one it is `sealed`."""


class Receipt(StrEnum):
    """How far a statement has come."""

    QUEUED = "queued"
    RELAYED = "relayed"
    SEALED = "sealed"
    CONFIRMED = "confirmed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """What the mempool knows of a statement id."""

    statement: Statement | None = None
    holders: int = 0
    drop: Drop | None = None


def reference(value: bytes) -> str | None:
    """Return a reference as hex, None when it is not given."""
    return None if value == ABSENT else value.hex()


def batch_view(batch: BatchHeader) -> JsonObject:
    """Return the signed header of an image batch."""
    return {
        "record_count": batch.record_count,
        "records_root": batch.records_root.hex(),
        "perceptual_root": reference(batch.perceptual_root),
        "width": batch.width,
        "height": batch.height,
        "public": batch.public,
        "model": reference(batch.model),
        "clustering": reference(batch.clustering),
        "filter": reference(batch.filter) or "none",
        "seed_commitment": reference(batch.seed_commitment),
        "micro_batch": batch.micro_batch,
        "manifest_hash": reference(batch.manifest_hash),
        "group": batch.group.hex(),
        "part_index": batch.part_index,
        "part_count": batch.part_count,
    }


def receipt_of(place: Place | None, confirmations: int, pooled: Pooled) -> Receipt:
    """Return the level that a known statement has reached."""
    if place is not None:
        return Receipt.CONFIRMED if confirmations >= CONFIRMED_FROM else Receipt.SEALED
    if pooled.statement is None:
        return Receipt.REFUSED
    return Receipt.RELAYED if pooled.holders else Receipt.QUEUED


def statement_view(snapshot: Snapshot, statement_id: bytes, pooled: Pooled) -> JsonObject:
    """Return a statement wherever it stands: on the chain, in the mempool, or dropped with a reason.

    Raises:
        ApiProblem: 404 `statement-not-found`.
    """
    place = snapshot.chain.place_of(statement_id)
    statement = pooled.statement if place is None else snapshot.chain.statement_at(place)
    confirmations = 0 if place is None else snapshot.confirmations(place.height)
    drop = pooled.drop if place is None and pooled.statement is None else None
    if place is None and statement is None and drop is None:
        raise not_found(
            STATEMENT_NOT_FOUND,
            f"statement {statement_id.hex()} is neither on the chain nor in this node's mempool",
            got=statement_id.hex(),
        )
    return {
        "id": statement_id.hex(),
        "receipt": receipt_of(place, confirmations, pooled),
        "holders": pooled.holders,
        "height": None if place is None else place.height,
        "index": None if place is None else place.index,
        "block_hash": None if place is None else (snapshot.chain.block_hash(place.height) or b"").hex(),
        "confirmations": confirmations,
        "refused": None
        if drop is None
        else {"code": drop.code, "message": drop.message, "height": drop.height},
        **(_dropped_fields(drop) if statement is None else statement_fields(statement)),
    }


def statement_bytes(snapshot: Snapshot, statement_id: bytes, pooled: Pooled) -> bytes:
    """Return an encoded statement from the chain or the mempool.

    Raises:
        ApiProblem: 404 `statement-not-found`.
    """
    found = snapshot.chain.statement(statement_id)
    statement = pooled.statement if found is None else found[1]
    if statement is None:
        raise not_found(
            STATEMENT_NOT_FOUND,
            f"statement {statement_id.hex()} is not held by this node",
            got=statement_id.hex(),
        )
    return statement.encode()


def _dropped_fields(drop: Drop | None) -> JsonObject:
    """Fields that are still known without the statement itself (dropped, or its body pruned)."""
    if drop is None:
        return {}
    return {"leaf": drop.leaf.hex(), "author": drop.author.hex(), "sequence": drop.sequence}


def statement_fields(statement: Statement) -> JsonObject:
    """Return what a statement itself says, its payload too (records of a batch are counted, not listed)."""
    header = statement.header
    expires = header.valid_until_height
    return {
        "leaf": statement.leaf.hex(),
        "kind": statement.kind.label,
        "author": header.author.hex(),
        "sequence": header.sequence,
        "claimed_time_ms": header.claimed_time_ms,
        "valid_until_height": None if expires == NEVER_EXPIRES else expires,
        "payload_hash": header.payload_hash.hex(),
        "signature": statement.signature.hex(),
        "size_bytes": statement.size_bytes,
        "batch": None if header.batch is None else batch_view(header.batch),
        "payload": payload_view(statement.decode_payload()),
    }


def stage_view(stage: Stage) -> JsonObject:
    """Return a stage payload."""
    return {
        "stage_type": stage.stage_type.label,
        "name": stage.name,
        "artifact": reference(stage.artifact),
        "inputs": [item.hex() for item in stage.inputs],
        "details": dict(stage.details),
    }


def proposal_payload_view(payload: RoleProposal) -> JsonObject:
    """Return a role proposal payload."""
    return {
        "action": RoleAction(payload.action).label,
        "role": payload.role.label,
        "key": payload.subject.hex(),
        "encryption_key": None if payload.encryption_key is None else payload.encryption_key.hex(),
        "suspect_since": payload.suspect_since,
        "note": payload.note,
    }


def payload_view(payload: AnyPayload) -> JsonObject:
    """Return any payload."""
    view: Any
    match payload:
        case ImageBatch():
            view = {
                "records": len(payload.records),
                "perceptual": payload.perceptual is not None,
                "seed": None if payload.seed is None else payload.seed.hex(),
            }
        case Stage():
            view = stage_view(payload)
        case RoleProposal():
            view = proposal_payload_view(payload)
        case RoleApproval():
            view = {"proposal": payload.proposal.hex()}
        case KeyRotate():
            view = {"new_key": payload.new_key.hex()}
        case ViewGrant():
            view = {"batch": payload.batch.hex(), "viewer": payload.viewer.hex()}
        case Retract():
            view = {"target": payload.target.hex(), "record": payload.record, "reason": payload.reason}
        case Attestation():
            view = {
                "batch": payload.batch.hex(),
                "record": payload.record,
                "pixel_hash": payload.pixel_hash.hex(),
                "note": payload.note,
            }
        case Checkpoint():
            view = {"height": payload.height, "block_hash": payload.block_hash.hex()}
        case Cancel():
            view = {"note": payload.note}
        case ProtocolUpgrade():
            view = {"version": payload.version, "activation_height": payload.activation_height}
    return dict(view)
