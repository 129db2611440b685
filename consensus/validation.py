"""Validity of headers, bodies and statements: every rule that is not an effect on the state.

Owns the order in which rules are checked, cheapest first. Each function is pure, checks and then
raises one named rule. Temporary failures (a missing parent, a time that is too new) raise
:class:`~facechain.consensus.errors.Temporary` and say nothing about the object itself.

Source: ``docs/protocol.md``, section "Validity".
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from .apply import Checked, Transition
from .block import Body, Header, SealedHeader
from .ed25519 import check_public_key
from .errors import DecodeError, RuleViolation, Temporary
from .hashing import sha256
from .kinds import SEALING_ROLE, RoleAction
from .params import MEDIAN_TIME_SPAN, Params, Retarget
from .payloads import AnyPayload, ImageBatch, KeyRotate, RoleProposal
from .retarget import asert_bits, fixed_bits
from .signing import Purpose, verify_signature
from .statement import ABSENT, BatchHeader, Statement, seed_commitment
from .upgrade import SUPPORTED_VERSIONS
from .work import meets_target

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from .kv import Delta, StateReader
    from .state import RoleEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderContext:
    """What a header is checked against: a summary of its ancestors."""

    parent_hash: bytes
    parent_time_ms: int
    height: int
    """Height that the header must have."""
    median_time_ms: int
    """Median of the last 11 ancestors' times."""
    bits: int
    """Bits that the header must have."""
    recent_producers: tuple[bytes, ...]
    """Keys that sealed the last ``producer_window - 1`` ancestors."""


def median_time_past(times_ms: Sequence[int]) -> int:
    """Return the median of the last (up to) 11 ancestor times, as in Bitcoin: the upper one of two."""
    recent = sorted(times_ms[-MEDIAN_TIME_SPAN:])
    return recent[len(recent) // 2]


def next_bits(params: Params, *, parent_height: int, parent_time_ms: int, anchor_time_ms: int | None) -> int:
    """Return the bits that the child of a block must have.

    ``anchor_time_ms`` is the time of block 1, the ASERT anchor; None while the parent is block 0.
    Anchoring at block 1 instead of block 0 lets a genesis wait on a shelf without easing the target.
    """
    if params.retarget is Retarget.FIXED:
        return fixed_bits(params.fixed_digits)
    if anchor_time_ms is None:
        return params.pow_limit_bits
    return asert_bits(
        anchor_bits=params.pow_limit_bits,
        spacing_ms=params.spacing_ms,
        half_life_ms=params.half_life_ms,
        time_delta_ms=parent_time_ms - (anchor_time_ms - params.spacing_ms),
        height_delta=parent_height - 1,
        pow_limit_bits=params.pow_limit_bits,
    )


def check_header(
    header: Header, context: HeaderContext, params: Params, versions: Container[int] = SUPPORTED_VERSIONS
) -> None:
    """Check everything about a header but its seal, its authority and the clock.

    Of a version that is not among ``versions`` nothing is known, so nothing is held against it here.

    Raises:
        Temporary: unknown-version.
        RuleViolation: bad-prevblk, bad-height, bad-diffbits, high-hash, time-too-old or
            producer-share.
    """
    if header.version not in versions:
        raise Temporary("unknown-version", expected="a version that this node knows", got=header.version)
    if header.previous != context.parent_hash:
        raise RuleViolation("bad-prevblk", expected=context.parent_hash.hex(), got=header.previous.hex())
    if header.height != context.height:
        raise RuleViolation("bad-height", expected=context.height, got=header.height)
    if header.bits != context.bits:
        raise RuleViolation("bad-diffbits", expected=f"{context.bits:#010x}", got=f"{header.bits:#010x}")
    if not meets_target(header.hash, header.bits):
        raise RuleViolation(
            "high-hash", expected=f"below the target of {header.bits:#010x}", got=header.hash.hex()
        )
    if header.time_ms <= context.median_time_ms:
        raise RuleViolation("time-too-old", expected=f"after {context.median_time_ms}", got=header.time_ms)
    if params.producer_share:
        sealed = context.recent_producers.count(header.producer) + 1
        if sealed > params.producer_share:
            raise RuleViolation(
                "producer-share",
                expected=f"at most {params.producer_share} of {params.producer_window} blocks by one key",
                got=f"{sealed}",
            )


def check_time(header: Header, params: Params, *, now_ms: int) -> None:
    """Check a header against the node's clock.

    Raises:
        Temporary: time-too-new; the header may become acceptable later.
    """
    latest = now_ms + params.future_limit_ms
    if header.time_ms > latest:
        raise Temporary("time-too-new", expected=f"at most {latest}", got=header.time_ms)


def check_seal(sealed: SealedHeader, network_id: bytes) -> None:
    """Check the producer's signature. A failure says nothing about the header's hash."""
    if not sealed.has_valid_seal(network_id):
        raise RuleViolation(
            "bad-seal",
            expected=f"a seal by {sealed.header.producer.hex()}",
            got="a signature that does not verify",
        )


def check_body(header: Header, body: Body, params: Params, *, parent_time_ms: int) -> None:
    """Check that a body belongs to a header and keeps the network's limits.

    A body of another header fails ``bad-merkle-root`` or ``payload-mismatch`` first: the leaves
    commit to payloads by hash alone, and a body with a swapped payload of the same length has the same
    root. Nothing that follows, here or in :func:`connect_block`, can be blamed on the header's hash unless
    the body really is the one it commits to; once it is, everything can (the leaves commit to
    signatures too).

    Raises:
        RuleViolation: bad-merkle-root, payload-mismatch, too-many-statements, oversized, author-quota,
            early-heartbeat.
    """
    sizes = [(statement.author, statement.size_bytes) for statement in body.statements]
    if body.root() != header.body_root:
        raise RuleViolation("bad-merkle-root", expected=header.body_root.hex(), got=body.root().hex())
    for statement in body.statements:
        check_payload_hash(statement)
    if len(sizes) > params.max_statements:
        raise RuleViolation(
            "too-many-statements", expected=f"at most {params.max_statements}", got=len(sizes)
        )
    total = sum(size for _, size in sizes)
    if total > params.max_body_bytes:
        raise RuleViolation(
            "oversized", expected=f"a body of at most {params.max_body_bytes} bytes", got=total
        )
    by_author: Counter[bytes] = Counter()
    for author, size in sizes:
        by_author[author] += size
    for author, size in by_author.items():
        if size > params.max_author_bytes:
            raise RuleViolation(
                "author-quota",
                expected=f"at most {params.max_author_bytes} bytes",
                got=f"{size} bytes by {author.hex()}",
            )
    if not body.statements and header.time_ms < parent_time_ms + params.heartbeat_ms:
        raise RuleViolation(
            "early-heartbeat",
            expected=f"an empty block no earlier than {parent_time_ms + params.heartbeat_ms}",
            got=header.time_ms,
        )


def check_payload_hash(statement: Statement) -> None:
    """Check that a payload is the one that its header commits to.

    Raises:
        RuleViolation: payload-mismatch; says nothing about the statement's id or leaf.
    """
    digest = sha256(statement.payload)
    if digest != statement.header.payload_hash:
        raise RuleViolation(
            "payload-mismatch", expected=statement.header.payload_hash.hex(), got=digest.hex()
        )


class Verified(Protocol):
    """Statements that were looked at before, by leaf (header and signature): a dict, for example."""

    def __contains__(self, leaf: object, /) -> bool:
        """Tell whether the signature of this leaf was verified."""
        ...

    def get(self, leaf: bytes, /) -> Checked | None:
        """Return what :func:`check_statement` made of it, None when that is not at hand."""
        ...


NOTHING_VERIFIED: Verified = MappingProxyType({})


def check_statement(
    statement: Statement, params: Params, network_id: bytes, *, verified: Verified = NOTHING_VERIFIED
) -> Checked:
    """Check all of a statement that needs no state, or return what that gave before in ``verified``.

    Raises:
        RuleViolation: payload-mismatch, oversized, bad-signature or bad-payload.
    """
    before = verified.get(statement.leaf)
    # A leaf does not cover the payload itself, so the statement has to be the very same.
    if before is not None and before.statement == statement:
        return before
    check_payload_hash(statement)
    size = statement.size_bytes
    if size > params.max_statement_bytes:
        raise RuleViolation(
            "oversized", expected=f"a statement of at most {params.max_statement_bytes} bytes", got=size
        )
    if statement.leaf not in verified and not statement.has_valid_signature(network_id):
        raise RuleViolation(
            "bad-signature",
            expected=f"a signature by {statement.author.hex()}",
            got="one that does not verify",
        )
    try:
        payload = statement.decode_payload()
    except DecodeError as error:
        raise RuleViolation(
            "bad-payload", expected=f"{error.what}: {error.expected}", got=error.got
        ) from error
    _check_payload(statement, payload, network_id)
    return Checked(statement, payload)


def _check_payload(statement: Statement, payload: AnyPayload, network_id: bytes) -> None:
    batch = statement.header.batch
    if isinstance(payload, ImageBatch) and batch is not None:
        _check_batch(batch, payload)
    if isinstance(payload, RoleProposal) and payload.action is RoleAction.GRANT:
        # A role that no key can use would count as an administrator for ever.
        try:
            check_public_key(payload.subject)
        except DecodeError as error:
            raise RuleViolation(
                "bad-payload", expected=f"subject: {error.expected}", got=error.got
            ) from error
    if isinstance(payload, KeyRotate) and not verify_signature(
        payload.new_key, payload.consent, Purpose.KEY_ROTATE, network_id, statement.author
    ):
        raise RuleViolation(
            "bad-payload", expected="the new key's consent", got="a signature that does not verify"
        )


def _check_batch(batch: BatchHeader, payload: ImageBatch) -> None:
    """A batch header must be true of the records that came with it."""
    facts: tuple[tuple[str, object, object], ...] = (
        ("record count", batch.record_count, len(payload.records)),
        ("records root", batch.records_root, payload.records.root()),
        ("perceptual root", batch.perceptual_root, payload.perceptual_root() or ABSENT),
    )
    for what, expected, got in facts:
        if expected != got:
            raise RuleViolation("bad-payload", expected=f"{what} {_text(expected)}", got=_text(got))
    if min(batch.width, batch.height) < 1:
        raise RuleViolation(
            "bad-payload", expected="images of at least 1 x 1", got=f"{batch.width} x {batch.height}"
        )
    if not batch.public and (payload.seed is not None or payload.perceptual is not None):
        raise RuleViolation(
            "bad-payload", expected="no seed and no perceptual column: the batch is not public", got="one"
        )
    opened = ABSENT if payload.seed is None else seed_commitment(payload.seed)
    must_open = batch.public or payload.seed is not None
    if must_open and opened != batch.seed_commitment:
        raise RuleViolation(
            "bad-payload", expected=f"the seed of {batch.seed_commitment.hex()}", got=opened.hex()
        )


def _text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def check_producer(entry: RoleEntry, producer: bytes, *, height: int) -> None:
    """Check that the sealing key of block ``height`` is a producer.

    ``entry`` is what the parent's state knows of the key as a producer, or that of any later state on the same
    chain: intervals are never taken back for heights that are over.

    Raises:
        RuleViolation: unauthorized-producer.
    """
    if not entry.holds_at(height):
        raise RuleViolation(
            "unauthorized-producer",
            expected=f"a key with role {SEALING_ROLE.label} at height {height}",
            got=producer.hex(),
        )


def check_version(
    transition: Transition, version: int, versions: Container[int] = SUPPORTED_VERSIONS
) -> None:
    """Check that a header's version is the one in force under the parent's state.

    Raises:
        RuleViolation: bad-version.
        UpgradeNeeded: it is, and not among ``versions``.
    """
    schedule = transition.parent.schedule()
    in_force = schedule.version_at(transition.height)
    if version != in_force:
        raise RuleViolation("bad-version", expected=in_force, got=version)
    schedule.check_known(transition.height, versions)


def connect_block(
    reader: StateReader,
    header: Header,
    body: Body,
    params: Params,
    network_id: bytes,
    *,
    verified: Verified = NOTHING_VERIFIED,
    versions: Container[int] = SUPPORTED_VERSIONS,
) -> tuple[Delta, tuple[Checked, ...]]:
    """Check a block against its parent's state and return what it changes.

    The header, seal, time and body limits were checked before (:func:`check_header`,
    :func:`check_seal`, :func:`check_time`, :func:`check_body`).

    Raises:
        RuleViolation: any rule about version, authority, statements or the state root.
        UpgradeNeeded: the rules of the block's version are not among ``versions``.
    """
    transition = Transition(reader, params, height=header.height, parent_hash=header.previous)
    check_version(transition, header.version, versions)
    check_producer(
        transition.parent.role(SEALING_ROLE, header.producer), header.producer, height=header.height
    )
    checked = []
    for statement in body.statements:
        item = check_statement(statement, params, network_id, verified=verified)
        transition.add(item)
        checked.append(item)
    delta, root = transition.finish()
    if root != header.state_root:
        raise RuleViolation("bad-state-root", expected=header.state_root.hex(), got=root.hex())
    return delta, tuple(checked)
