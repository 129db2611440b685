"""Kinds of statement, roles, stage types, and who may send what.

Owns the numbers on the wire and the role x kind matrix. All kinds are reserved from the first
draft: a kind without effects on the state is still decoded, signed, sequenced and stored.

Source: ``docs/protocol.md``, section "Statements".
"""

from __future__ import annotations

from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Kind(IntEnum):
    """Kind of a statement (u8 on the wire)."""

    IMAGE_BATCH = 1
    STAGE = 2
    ROLE_PROPOSAL = 3
    ROLE_APPROVAL = 4
    KEY_ROTATE = 5
    VIEW_GRANT = 6
    RETRACT = 7
    ATTESTATION = 8
    CHECKPOINT = 9
    CANCEL = 10
    PROTOCOL_UPGRADE = 11

    @property
    def label(self) -> str:
        """The kind's name in documents and messages, e.g. ``image-batch``."""
        return self.name.lower().replace("_", "-")


class Role(IntEnum):
    """Role of a ledger key (u8 on the wire)."""

    ADMIN = 1
    PRODUCER = 2
    SUBMITTER = 3
    VIEWER = 4

    @property
    def label(self) -> str:
        """The role's name on the command line, e.g. ``producer``."""
        return self.name.lower()


class StageType(IntEnum):
    """Step of the producer's pipeline that a ``stage`` statement records (u8 on the wire)."""

    DATASET = 1
    TRAINING = 2
    EVALUATION = 3
    GENERATION = 4
    CLUSTERING = 5
    FILTER = 6
    PRIVACY = 7

    @property
    def label(self) -> str:
        """The step's name, e.g. ``training``."""
        return self.name.lower()


class RoleAction(IntEnum):
    """What a role proposal asks for (u8 on the wire)."""

    GRANT = 1
    REVOKE = 2

    @property
    def label(self) -> str:
        """``grant`` or ``revoke``."""
        return self.name.lower()


SEALING_ROLE = Role.PRODUCER
"""The role that a block's producer key must hold."""

_EVERY_ROLE = frozenset(Role)
_MAKERS = frozenset({Role.PRODUCER, Role.SUBMITTER})
_ADMINS = frozenset({Role.ADMIN})

PERMISSIONS: Mapping[Kind, frozenset[Role]] = MappingProxyType(
    {
        Kind.IMAGE_BATCH: _MAKERS,
        Kind.STAGE: _MAKERS,
        Kind.ROLE_PROPOSAL: _ADMINS,
        Kind.ROLE_APPROVAL: _ADMINS,
        Kind.KEY_ROTATE: _EVERY_ROLE,
        Kind.VIEW_GRANT: _MAKERS,
        Kind.RETRACT: _MAKERS | _ADMINS,
        Kind.ATTESTATION: _EVERY_ROLE,
        Kind.CHECKPOINT: _ADMINS,
        Kind.CANCEL: _EVERY_ROLE,
        Kind.PROTOCOL_UPGRADE: _ADMINS,
    }
)
"""Role x kind matrix: the author must hold at least one of these roles at the block's height."""
