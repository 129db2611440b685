"""What a node's HTTP API answers, as typed values.

Owns the names and types of the answers' fields (version /v1) and refuses answers without them: whatever
listens at the address may not be a node. Fields that are not named here may come and go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self

from .errors import CheckFailedError

HASH_BYTES: Final = 32
SHOWN_CHARACTERS: Final = 60


class AnswerError(CheckFailedError):
    """The answer is not what a node of this version says."""

    def __init__(self, what: str, *, expected: str, got: object) -> None:
        """`what` names the answer or the field."""
        text = repr(got)
        short = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
        super().__init__(
            what,
            expected=expected,
            got=short,
            advice="check that --api names a facechain node of this version",
        )


class Receipt(StrEnum):
    """How far a statement has come; each level includes the ones before."""

    QUEUED = "queued"
    RELAYED = "relayed"
    SEALED = "sealed"
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    """Dropped: it will not be sealed as it is. No level, but what a node says instead of one."""


@dataclass(frozen=True, slots=True)
class Fields:
    """A JSON object whose fields are read with their types; AnswerError on another type."""

    what: str
    content: Mapping[str, Any]

    @classmethod
    def of(cls, what: str, value: object) -> Self:
        """Require a JSON object."""
        if not isinstance(value, dict):
            raise AnswerError(what, expected="a JSON object", got=value)
        return cls(what, value)

    def _get(self, name: str, expected: str, kind: type) -> Any:
        value = self.content.get(name)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise AnswerError(f"{self.what}: {name}", expected=expected, got=value)
        return value

    def is_null(self, name: str) -> bool:
        """Tell whether the field is null or not there."""
        return self.content.get(name) is None

    def text(self, name: str) -> str:
        """Return a string."""
        value: str = self._get(name, "a string", str)
        return value

    def flag(self, name: str) -> bool:
        """Return a boolean."""
        value: bool = self._get(name, "true or false", bool)
        return value

    def number(self, name: str) -> int:
        """Return a whole number that is not negative."""
        value: int = self._get(name, "a whole number", int)
        if value < 0:
            raise AnswerError(f"{self.what}: {name}", expected="a whole number", got=value)
        return value

    def optional_number(self, name: str) -> int | None:
        """Return a whole number, None for null."""
        return None if self.is_null(name) else self.number(name)

    def hash(self, name: str) -> bytes:
        """Return 32 bytes given as hex."""
        return _hash(self.content.get(name), f"{self.what}: {name}")

    def optional_hash(self, name: str) -> bytes | None:
        """Return 32 bytes given as hex, None for null."""
        return None if self.is_null(name) else self.hash(name)

    def numbers(self, name: str) -> tuple[int, ...]:
        """Return a list of whole numbers."""
        found = tuple(self.items(name))
        if not all(type(item) is int for item in found):
            raise AnswerError(f"{self.what}: {name}", expected="whole numbers", got=found)
        return found

    def items(self, name: str) -> list[Any]:
        """Return a list."""
        value: list[Any] = self._get(name, "a list", list)
        return value

    def objects(self, name: str) -> list[Fields]:
        """Return a list of objects."""
        return [Fields.of(f"{self.what}: {name}", item) for item in self.items(name)]

    def hashes(self, name: str) -> tuple[bytes, ...]:
        """Return a list of 32 bytes each."""
        return tuple(_hash(item, f"{self.what}: {name}") for item in self.items(name))


def _hash(value: object, what: str) -> bytes:
    try:
        if isinstance(value, str) and len(value) == 2 * HASH_BYTES:
            found = bytes.fromhex(value)  # skips blanks
            if len(found) == HASH_BYTES:
                return found
    except ValueError:
        pass
    raise AnswerError(what, expected=f"{2 * HASH_BYTES} hex digits", got=value)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """GET /v1/status."""

    network_id: bytes
    name: str
    height: int
    tip: bytes
    syncing: bool
    content: Mapping[str, Any]
    """All of the answer."""

    @classmethod
    def of(cls, value: object) -> Self:
        """Read an answer."""
        fields = Fields.of("status", value)
        return cls(
            network_id=fields.hash("network_id"),
            name=fields.text("name"),
            height=fields.number("height"),
            tip=fields.hash("tip"),
            syncing=fields.flag("syncing"),
            content=fields.content,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """GET /v1/accounts/{public key}."""

    key: bytes
    roles: tuple[str, ...]
    """Held at the next height."""
    next_sequence: int
    """Counts the statements in the node's mempool."""

    @classmethod
    def of(cls, value: object) -> Self:
        """Read an answer."""
        fields = Fields.of("account", value)
        return cls(
            key=fields.hash("key"),
            roles=tuple(str(role) for role in fields.items("roles")),
            next_sequence=fields.number("next_sequence_with_mempool"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleHolding:
    """One entry of GET /v1/roles."""

    role: str
    key: bytes
    held: bool
    """At the height that was asked about."""
    intervals: tuple[tuple[int, int | None], ...]
    """Heights [from, until); until is None for as long as nobody revokes."""
    suspect_since: int | None

    @classmethod
    def of(cls, fields: Fields) -> Self:
        """Read one entry."""
        return cls(
            role=fields.text("role"),
            key=fields.hash("key"),
            held=fields.flag("held"),
            intervals=tuple(
                (item.number("from"), item.optional_number("until")) for item in fields.objects("intervals")
            ),
            suspect_since=fields.optional_number("suspect_since"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """GET /v1/roles."""

    height: int
    entries: tuple[RoleHolding, ...]
    content: Mapping[str, Any]

    @classmethod
    def of(cls, value: object) -> Self:
        """Read an answer."""
        fields = Fields.of("roles", value)
        entries = tuple(RoleHolding.of(item) for item in fields.objects("entries"))
        return cls(height=fields.number("at_height"), entries=entries, content=fields.content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One entry of GET /v1/proposals."""

    id: bytes
    action: str
    role: str
    subject: bytes
    note: str
    height: int
    approvals: tuple[bytes, ...]
    effective_height: int | None
    """Block in which the quorum was reached; None while open."""

    @classmethod
    def of(cls, fields: Fields) -> Self:
        """Read one entry."""
        return cls(
            id=fields.hash("id"),
            action=fields.text("action"),
            role=fields.text("role"),
            subject=fields.hash("key"),
            note=fields.text("note"),
            height=fields.number("height"),
            approvals=fields.hashes("approvals"),
            effective_height=fields.optional_number("effective_height"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposals:
    """GET /v1/proposals."""

    quorum: int
    """Approvals that a proposal needs."""
    entries: tuple[Proposal, ...]
    content: Mapping[str, Any]

    @classmethod
    def of(cls, value: object) -> Self:
        """Read an answer."""
        fields = Fields.of("proposals", value)
        entries = tuple(Proposal.of(item) for item in fields.objects("proposals"))
        return cls(quorum=fields.number("quorum"), entries=entries, content=fields.content)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeRequest:
    """A version that some administrators asked for."""

    version: int
    height: int
    approvals: tuple[str, ...]

    @classmethod
    def of(cls, fields: Fields) -> Self:
        """Read one entry."""
        return cls(
            version=fields.number("version"),
            height=fields.number("activation_height"),
            approvals=tuple(str(key) for key in fields.items("approvals")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrades:
    """GET /v1/upgrade."""

    block_version: int
    """Of the next block."""
    supported: tuple[int, ...]
    """Versions that the node knows."""
    scheduled: tuple[int, int] | None
    """Version and height."""
    quorum: int
    requests: tuple[UpgradeRequest, ...]
    content: Mapping[str, Any]

    @classmethod
    def of(cls, value: object) -> Self:
        """Read an answer."""
        fields = Fields.of("upgrade", value)
        scheduled = None
        if not fields.is_null("scheduled"):
            inner = Fields.of("scheduled", fields.content["scheduled"])
            scheduled = inner.number("version"), inner.number("activation_height")
        return cls(
            block_version=fields.number("block_version"),
            supported=fields.numbers("supported"),
            scheduled=scheduled,
            quorum=fields.number("quorum"),
            requests=tuple(UpgradeRequest.of(item) for item in fields.objects("requests")),
            content=fields.content,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockName:
    """Height and hash of a block: GET /v1/blocks/{reference}, and in GET /v1/checkpoint."""

    height: int
    hash: bytes
    content: Mapping[str, Any]

    @classmethod
    def of(cls, value: object) -> Self:
        """Read an answer."""
        fields = Fields.of("block", value)
        return cls(height=fields.number("height"), hash=fields.hash("hash"), content=fields.content)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementStatus:
    """POST /v1/statements and GET /v1/statements/{id}."""

    id: bytes
    receipt: Receipt
    height: int | None
    """Height of the block that holds it."""
    confirmations: int
    refusal: str | None
    """Why it was dropped, with receipt `refused`."""
    content: Mapping[str, Any]

    @classmethod
    def of(cls, value: object) -> Self:
        """Read an answer; one without height and confirmations is about a statement in no block."""
        fields = Fields.of("statement", value)
        receipt = fields.text("receipt")
        if receipt not in Receipt.__members__.values():
            raise AnswerError("statement: receipt", expected=" or ".join(Receipt), got=receipt)
        refused = (
            None if fields.is_null("refused") else Fields.of("statement: refused", fields.content["refused"])
        )
        return cls(
            id=fields.hash("id"),
            receipt=Receipt(receipt),
            height=fields.optional_number("height"),
            confirmations=fields.optional_number("confirmations") or 0,
            refusal=None if refused is None else f"{refused.text('code')}: {refused.text('message')}",
            content=fields.content,
        )
