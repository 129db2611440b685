"""One payload of every kind, as tests and golden vectors use them."""

from __future__ import annotations

from facechain.consensus.kinds import Kind, Role, RoleAction, StageType
from facechain.consensus.payloads import (
    AnyPayload,
    Attestation,
    Cancel,
    Checkpoint,
    KeyRotate,
    ProtocolUpgrade,
    Retract,
    RoleApproval,
    RoleProposal,
    ViewGrant,
)
from facechain.consensus.signing import LedgerKey, Purpose
from support.chain import make_batch, make_stage, seed


def grant(role: Role, key: LedgerKey, *, encryption_key: bytes | None = None) -> RoleProposal:
    """Propose a role for a key; a viewer gets an encryption key in any case."""
    if role is Role.VIEWER and encryption_key is None:
        encryption_key = seed("encryption key")
    return RoleProposal(
        action=RoleAction.GRANT,
        role=role,
        subject=key.public,
        encryption_key=encryption_key,
        suspect_since=None,
        note="",
    )


def revoke(role: Role, key: LedgerKey, *, suspect_since: int | None = None) -> RoleProposal:
    """Propose to take a role from a key."""
    return RoleProposal(
        action=RoleAction.REVOKE,
        role=role,
        subject=key.public,
        encryption_key=None,
        suspect_since=suspect_since,
        note="",
    )


def rotation(old: LedgerKey, new: LedgerKey, network_id: bytes) -> KeyRotate:
    """Return the payload with which `old` hands over to `new`."""
    return KeyRotate(new_key=new.public, consent=new.sign(Purpose.KEY_ROTATE, network_id, old.public))


def sample_payloads(old: LedgerKey, new: LedgerKey, network_id: bytes) -> dict[Kind, AnyPayload]:
    """Return a payload of every kind with every optional field filled in."""
    return {
        Kind.IMAGE_BATCH: make_batch(3, name="sample")[0],
        Kind.STAGE: make_stage(
            StageType.TRAINING, seed("input"), name="Modell Ä", epochs="30", preset="ppsa"
        ),
        Kind.ROLE_PROPOSAL: grant(Role.VIEWER, new),
        Kind.ROLE_APPROVAL: RoleApproval(proposal=seed("proposal")),
        Kind.KEY_ROTATE: rotation(old, new, network_id),
        Kind.VIEW_GRANT: ViewGrant(batch=seed("batch"), viewer=new.public, wrapped_key=b"wrapped" * 12),
        Kind.RETRACT: Retract(target=seed("batch"), record=2, reason="depicts a person"),
        Kind.ATTESTATION: Attestation(
            batch=seed("batch"), record=1, pixel_hash=seed("pixels"), note="rendered on a CPU"
        ),
        Kind.CHECKPOINT: Checkpoint(height=7, block_hash=seed("block")),
        Kind.CANCEL: Cancel(note="made by mistake"),
        Kind.PROTOCOL_UPGRADE: ProtocolUpgrade(version=2, activation_height=100_000),
    }
