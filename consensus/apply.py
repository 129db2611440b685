"""The state transition: what the statements of a block do to the chain state.

Owns the effect of every kind and the rules that need the state. Authority for block h is read from
the parent's state alone, so a grant acts from the next block; sequences, references and approvals
are read as earlier statements of the same block left them. Nothing is stored here: the caller gets
a :class:`~facechain.consensus.kv.Delta` and the state root.

Source: ``docs/protocol.md``, section "State transition".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from . import merkle
from .block import EMPTY_BODY, NO_SEAL, Block, Header, SealedHeader
from .errors import RuleViolation
from .history import node_key
from .kinds import PERMISSIONS, SEALING_ROLE, Kind, Role, RoleAction, StageType
from .kv import Bucket, Delta
from .params import Genesis, Params, Retarget
from .payloads import (
    AnyPayload,
    Attestation,
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
from .retarget import fixed_bits
from .state import MAX_INTERVALS, OPEN_END, FixedView, ProposalEntry, RoleEntry, StageEntry, State, StateView
from .statement import ABSENT, Statement
from .upgrade import FIRST_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .kv import StateReader


@dataclass(frozen=True, slots=True)
class Checked:
    """A statement that passed every rule that needs no state, with its decoded payload."""

    statement: Statement
    payload: AnyPayload


class Transition:
    """The change that block ``height`` makes to its parent's state, statement by statement."""

    def __init__(self, reader: StateReader, params: Params, *, height: int, parent_hash: bytes) -> None:
        """Start block ``height`` on the state after its parent, whose hash enters the history."""
        self.params = params
        self.height = height
        self.parent: StateView = FixedView(reader)
        self.state = State(reader)
        self._parent_hash = parent_hash

    def add(self, checked: Checked) -> None:
        """Apply one statement.

        Raises:
            RuleViolation: the statement breaks a rule; the transition must then be thrown away, since
                part of its effects may have been applied.
        """
        statement = checked.statement
        self.check_standing(statement)
        self.state.put_sequence(statement.author, statement.sequence + 1)
        _EFFECTS[statement.kind](self, statement, checked.payload)

    def attempt(self, checked: Checked) -> None:
        """Apply one statement, or leave everything as it was.

        Raises:
            RuleViolation: the statement breaks a rule.
        """
        whole = self.state
        self.state = State(whole.overlay)
        try:
            self.add(checked)
            whole.overlay.take(self.state.overlay)
        finally:
            self.state = whole

    def _complete_history(self) -> None:
        """Enter the parent's hash, once: most statements are tried without need of it."""
        if self.state.history_size() < self.height:
            self.state.append_history(self._parent_hash)

    def check_standing(self, statement: Statement) -> None:
        """Check expiry, authority and sequence of a statement, without applying it."""
        header = statement.header
        if header.valid_until_height < self.height:
            raise RuleViolation(
                "expired-statement",
                expected=f"valid until height {self.height} or later",
                got=header.valid_until_height,
            )
        held = self.parent.roles_at(header.author, self.height)
        if not held & PERMISSIONS[header.kind]:
            wanted = " or ".join(sorted(role.label for role in PERMISSIONS[header.kind]))
            raise RuleViolation(
                "unauthorized-author",
                expected=f"an author with role {wanted} for {header.kind.label}",
                got=f"{header.author.hex()[:16]}… with "
                + (", ".join(sorted(role.label for role in held)) or "no role"),
            )
        following = self.state.next_sequence(header.author)
        if header.sequence != following:
            raise RuleViolation(
                "bad-sequence", expected=f"sequence {following}", got=f"sequence {header.sequence}"
            )

    def root(self) -> bytes:
        """Return the state root after the block."""
        self._complete_history()
        return self.state.root()

    def finish(self) -> tuple[Delta, bytes]:
        """Return all changes, trees included, and the state root after the block."""
        root = self.root()
        return self.state.overlay.delta(), root

    def _entry(self, statement: bytes, what: str) -> StageEntry:
        entry = self.state.stage(statement)
        if entry is None:
            raise RuleViolation(
                "unknown-reference", expected=f"{what} that is on this chain", got=statement.hex()
            )
        return entry

    def _batch_entry(self, statement: bytes) -> StageEntry:
        entry = self._entry(statement, "an image batch")
        if entry.kind is not Kind.IMAGE_BATCH:
            raise RuleViolation(
                "unknown-reference", expected="an image batch", got=f"{entry.kind.label} {statement.hex()}"
            )
        return entry

    def image_batch(self, statement: Statement, _payload: ImageBatch) -> None:
        """A batch may name its model, clustering and filter stages; each must be of that type."""
        batch = statement.header.batch
        if batch is None:
            raise RuleViolation("bad-payload", expected="a batch header", got="none")
        named = (
            (batch.model, StageType.TRAINING),
            (batch.clustering, StageType.CLUSTERING),
            (batch.filter, StageType.FILTER),
        )
        for reference, wanted in named:
            if reference == ABSENT:
                continue
            entry = self._entry(reference, f"a {wanted.label} stage")
            if entry.stage_type != wanted:
                raise RuleViolation(
                    "unknown-reference",
                    expected=f"a {wanted.label} stage",
                    got=f"another statement {reference.hex()}",
                )
        self._put_stage(statement, 0)

    def stage(self, statement: Statement, payload: Stage) -> None:
        """A stage's inputs must be on the chain already."""
        for reference in payload.inputs:
            self._entry(reference, "an input")
        self._put_stage(statement, payload.stage_type)

    def _put_stage(self, statement: Statement, stage_type: int) -> None:
        entry = StageEntry(
            kind=statement.kind, stage_type=stage_type, height=self.height, author=statement.author
        )
        self.state.put_stage(statement.id, entry)

    def role_proposal(self, statement: Statement, payload: RoleProposal) -> None:
        """Open a proposal with the proposer's approval."""
        entry = ProposalEntry(
            payload=statement.payload, height=self.height, approvals=(statement.author,), effective_height=0
        )
        self._settle(statement.id, entry, payload)

    def role_approval(self, statement: Statement, payload: RoleApproval) -> None:
        """Add one approval to an open proposal."""
        entry = self.state.proposal(payload.proposal)
        if entry is None or entry.effective_height:
            got = "none" if entry is None else f"one that took effect at height {entry.effective_height}"
            raise RuleViolation(
                "unknown-proposal", expected=f"an open proposal {payload.proposal.hex()}", got=got
            )
        if statement.author in entry.approvals:
            raise RuleViolation(
                "duplicate-approval", expected="one approval of each administrator", got="a second one"
            )
        # Approvals of former administrators no longer count: dropping them keeps the list below the quorum.
        standing = set(self.parent.administrators())
        approvals = tuple(key for key in entry.approvals if key in standing)
        entry = replace(entry, approvals=(*approvals, statement.author))
        self._settle(payload.proposal, entry, RoleProposal.decode(entry.payload))

    def _settle(self, proposal: bytes, entry: ProposalEntry, payload: RoleProposal) -> None:
        if self._has_quorum(entry.approvals):
            self._change_role(payload)
            entry = replace(entry, effective_height=self.height)
        self.state.put_proposal(proposal, entry)

    def _has_quorum(self, keys: Iterable[bytes]) -> bool:
        """Count the keys that are administrators under the parent's state."""
        return len(set(keys) & set(self.parent.administrators())) >= self.params.quorum

    def _change_role(self, payload: RoleProposal) -> None:
        following = self.height + 1
        if payload.action is RoleAction.GRANT:
            entry = self.state.role(payload.role, payload.subject)
            times = len(entry.intervals)
            if times >= MAX_INTERVALS and not entry.is_open:
                raise RuleViolation(
                    "state-conflict",
                    expected=f"a role granted at most {MAX_INTERVALS} times to one key",
                    got=times,
                )
            self.state.open_role(payload.role, payload.subject, following, payload.encryption_key)
            return
        if payload.role is Role.ADMIN:
            left = len({*self.state.administrators()} - {payload.subject})
            if left < self.params.quorum:
                raise RuleViolation(
                    "last-admin",
                    expected=f"at least {self.params.quorum} administrators to remain",
                    got=f"{left}",
                )
        self.state.close_role(payload.role, payload.subject, following, payload.suspect_since)

    def key_rotate(self, statement: Statement, payload: KeyRotate) -> None:
        """Move every open role of the author to the new key from the next block on."""
        if any(self.state.role(role, payload.new_key).intervals for role in Role):
            raise RuleViolation(
                "state-conflict", expected="a new key that never held a role", got=payload.new_key.hex()
            )
        following = self.height + 1
        for role in Role:
            entry = self.state.role(role, statement.author)
            if entry.is_open:
                if role is SEALING_ROLE:
                    self._check_share_of_rotation(following - entry.intervals[-1][0])
                self.state.open_role(role, payload.new_key, following, entry.encryption_key)
                self.state.close_role(role, statement.author, following, entry.suspect_since)

    def _check_share_of_rotation(self, held_blocks: int) -> None:
        """A fresh key seals a fresh share: one new key a window, or rotation would lift the limit."""
        wanted = self.params.producer_window if self.params.producer_share else 0
        if held_blocks < wanted:
            raise RuleViolation(
                "state-conflict",
                expected=f"a producer's key held for {wanted} blocks before it is rotated",
                got=f"{held_blocks} blocks",
            )

    def view_grant(self, statement: Statement, payload: ViewGrant) -> None:
        """Only a batch's author hands out its content key, and only to a viewer."""
        if self._batch_entry(payload.batch).author != statement.author:
            raise RuleViolation(
                "unauthorized-author", expected="the author of the batch", got=statement.author.hex()
            )
        if not self.parent.role(Role.VIEWER, payload.viewer).holds_at(self.height):
            raise RuleViolation(
                "unknown-reference", expected="a key with role viewer", got=payload.viewer.hex()
            )

    def retract(self, statement: Statement, payload: Retract) -> None:
        """A target is withdrawn by its author or by an administrator."""
        entry = self._entry(payload.target, "a statement to retract")
        is_admin = self.parent.role(Role.ADMIN, statement.author).holds_at(self.height)
        if entry.author != statement.author and not is_admin:
            raise RuleViolation(
                "unauthorized-author",
                expected="the target's author or an administrator",
                got=statement.author.hex(),
            )
        if payload.record is not None:
            self._batch_entry(payload.target)
        elif not entry.retracted_height:
            self.state.put_stage(payload.target, replace(entry, retracted_height=self.height))

    def attestation(self, _statement: Statement, payload: Attestation) -> None:
        """An attested batch must be on the chain."""
        self._batch_entry(payload.batch)

    def checkpoint(self, statement: Statement, payload: Checkpoint) -> None:
        """Count an endorsement of one of this block's ancestors."""
        self._complete_history()
        leaf = self.state.overlay.get(Bucket.HISTORY, node_key(0, payload.height))
        if leaf != merkle.leaf_hash(payload.block_hash):
            raise RuleViolation(
                "unknown-reference",
                expected=f"the hash of this chain's block {payload.height}",
                got=payload.block_hash.hex(),
            )
        keys = self.state.endorsers(payload.height, payload.block_hash)
        if statement.author in keys:
            raise RuleViolation(
                "duplicate-approval", expected="one endorsement of each administrator", got="a second one"
            )
        keys = (*keys, statement.author)
        self.state.put_endorsers(payload.height, payload.block_hash, keys)
        current = self.state.checkpoint()
        if self._has_quorum(keys) and (current is None or payload.height > current[0]):
            self.state.put_checkpoint(payload.height, payload.block_hash)

    def protocol_upgrade(self, statement: Statement, payload: ProtocolUpgrade) -> None:
        """Count a request for a protocol version; a quorum schedules it in place of what was scheduled.

        Asking for the version in force takes a scheduled one back.
        """
        version, activation = payload.version, payload.activation_height
        if activation <= self.height:
            raise RuleViolation(
                "state-conflict", expected=f"an activation height above {self.height}", got=activation
            )
        schedule = self.state.schedule()
        in_force, pending = schedule.version_at(self.height), schedule.pending_at(self.height)
        if version < in_force:
            raise RuleViolation("state-conflict", expected=f"version {in_force} or later", got=version)
        if (version, activation) == pending or (version == in_force and pending is None):
            raise RuleViolation(
                "state-conflict", expected="a change of what is scheduled", got=f"version {version} again"
            )
        keys = self.state.upgrade_endorsers(schedule.decisions, version, activation)
        if statement.author in keys:
            raise RuleViolation(
                "duplicate-approval", expected="one request of each administrator", got="a second one"
            )
        keys = (*keys, statement.author)
        self.state.put_upgrade_endorsers(schedule.decisions, version, activation, keys)
        if self._has_quorum(keys):
            self.state.put_schedule(schedule.decided(self.height, version, activation))

    def cancel(self, _statement: Statement, _payload: AnyPayload) -> None:
        """Using up the sequence number is the whole effect."""


_Effect = Callable[[Transition, Statement, Any], None]

_EFFECTS: Mapping[Kind, _Effect] = MappingProxyType(
    {
        Kind.IMAGE_BATCH: Transition.image_batch,
        Kind.STAGE: Transition.stage,
        Kind.ROLE_PROPOSAL: Transition.role_proposal,
        Kind.ROLE_APPROVAL: Transition.role_approval,
        Kind.KEY_ROTATE: Transition.key_rotate,
        Kind.VIEW_GRANT: Transition.view_grant,
        Kind.RETRACT: Transition.retract,
        Kind.ATTESTATION: Transition.attestation,
        Kind.CHECKPOINT: Transition.checkpoint,
        Kind.CANCEL: Transition.cancel,
        Kind.PROTOCOL_UPGRADE: Transition.protocol_upgrade,
    }
)


class _Nothing:
    """The state before block 0."""

    def get(self, bucket: Bucket, key: bytes, /) -> None:
        return None


def genesis_block(genesis: Genesis) -> tuple[Block, Delta]:
    """Make block 0 and the state that it starts the chain with.

    Administrators and grants hold their roles from height 1 on. Block 0 carries no work and no seal;
    its ``previous`` field is the network id.
    """
    state = State(_Nothing())
    state.put_network(genesis.network_id)
    for key in genesis.administrators:
        state.open_role(Role.ADMIN, key, 1, None)
    for grant in genesis.grants:
        state.put_role(grant.role, grant.subject, RoleEntry(intervals=((1, OPEN_END),)))
    root = state.root()
    header = Header(
        version=FIRST_VERSION,
        height=0,
        previous=genesis.network_id,
        body_root=EMPTY_BODY.root(),
        state_root=root,
        time_ms=genesis.time_ms,
        bits=first_bits(genesis.params),
        producer=ABSENT,
        nonce=0,
    )
    return Block(SealedHeader(header, NO_SEAL), EMPTY_BODY), state.overlay.delta()


def first_bits(params: Params) -> int:
    """Return the bits of block 0 and block 1."""
    return fixed_bits(params.fixed_digits) if params.retarget is Retarget.FIXED else params.pow_limit_bits
