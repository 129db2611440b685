"""What statements do to the state: roles, quorums, rotation, references, checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from facechain.consensus.apply import Transition, first_bits, genesis_block
from facechain.consensus.block import NO_SEAL
from facechain.consensus.errors import RuleViolation
from facechain.consensus.kinds import PERMISSIONS, Kind, Role, StageType
from facechain.consensus.params import Params, Retarget
from facechain.consensus.payloads import (
    AnyPayload,
    Attestation,
    Cancel,
    Checkpoint,
    ProtocolUpgrade,
    Retract,
    RoleApproval,
    ViewGrant,
)
from facechain.consensus.signing import LedgerKey, Purpose, signed_message
from facechain.consensus.state import MAX_INTERVALS, OPEN_END, RoleEntry
from facechain.consensus.statement import ABSENT, Statement
from facechain.consensus.validation import check_statement
from facechain.consensus.work import bits_to_target
from support.chain import (
    ADMIN,
    PRODUCER,
    STRANGER,
    SUBMITTER,
    ChainBuilder,
    keys,
    make_batch,
    make_genesis,
    make_stage,
    other_signature,
    seed,
)
from support.statements import grant, revoke, rotation

SECOND, THIRD, VIEWER, NEWCOMER = keys(4, start=30)
AUTHORS = {Role.ADMIN: ADMIN, Role.PRODUCER: PRODUCER, Role.SUBMITTER: SUBMITTER, Role.VIEWER: VIEWER}


def refused(chain: ChainBuilder, *statements: Statement, key: LedgerKey = PRODUCER) -> str:
    """Return the rule that a block with these statements breaks."""
    with pytest.raises(RuleViolation) as caught:
        chain.check(chain.forge(statements, key=key))
    chain._waiting.clear()
    return caught.value.code


def with_viewer() -> ChainBuilder:
    chain = ChainBuilder()
    chain.mine([chain.statement(ADMIN, grant(Role.VIEWER, VIEWER))])
    return chain


def approved(chain: ChainBuilder, proposal: Statement, *approvers: LedgerKey) -> list[Statement]:
    return [chain.statement(key, RoleApproval(proposal=proposal.id)) for key in approvers]


def three_administrators(quorum: int = 2) -> ChainBuilder:
    return ChainBuilder(make_genesis(administrators=[ADMIN, SECOND, THIRD], quorum=quorum))


# -- the role x kind matrix


def payload_for(chain: ChainBuilder, kind: Kind, author: LedgerKey, batch: Statement) -> AnyPayload:
    """Return a payload of a kind that has nothing against it but, perhaps, its author."""
    if kind is Kind.ROLE_APPROVAL:
        return RoleApproval(proposal=seed("no such proposal"))
    payloads: dict[Kind, Callable[[], AnyPayload]] = {
        Kind.IMAGE_BATCH: lambda: make_batch(1)[0],
        Kind.STAGE: make_stage,
        Kind.ROLE_PROPOSAL: lambda: grant(Role.PRODUCER, NEWCOMER),
        Kind.KEY_ROTATE: lambda: rotation(author, NEWCOMER, chain.network_id),
        Kind.VIEW_GRANT: lambda: ViewGrant(batch=batch.id, viewer=VIEWER.public, wrapped_key=b""),
        Kind.RETRACT: lambda: Retract(target=batch.id, record=None, reason=""),
        Kind.ATTESTATION: lambda: Attestation(batch=batch.id, record=0, pixel_hash=bytes(32), note=""),
        Kind.CHECKPOINT: lambda: Checkpoint(height=0, block_hash=chain.genesis_block.hash),
        Kind.CANCEL: lambda: Cancel(note=""),
        Kind.PROTOCOL_UPGRADE: lambda: ProtocolUpgrade(version=2, activation_height=99),
    }
    return payloads[kind]()


@pytest.mark.parametrize("role", [*Role, None], ids=lambda role: role.label if role else "nobody")
@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.label)
def test_matrix(kind: Kind, role: Role | None) -> None:
    chain = with_viewer()
    author = AUTHORS[role] if role else STRANGER
    owner = author if role in {Role.PRODUCER, Role.SUBMITTER} else SUBMITTER
    batch = chain.batch(owner, name="target")
    chain.mine([batch])
    header = make_batch(1)[1] if kind is Kind.IMAGE_BATCH else None
    statement = chain.statement(author, payload_for(chain, kind, author, batch), batch=header)
    if role not in PERMISSIONS[kind]:
        assert refused(chain, statement) == "unauthorized-author"
    elif kind is Kind.ROLE_APPROVAL:
        assert refused(chain, statement) == "unknown-proposal"
    else:
        chain.mine([statement])
        assert chain.view().next_sequence(author.public) == statement.sequence + 1


def test_every_kind_has_somebody_who_may_send_it() -> None:
    assert set(PERMISSIONS) == set(Kind)
    assert all(PERMISSIONS.values())


# -- genesis


def test_genesis_block_has_no_work_no_seal_and_names_the_network() -> None:
    genesis = make_genesis()
    block, delta = genesis_block(genesis)
    assert block.sealed.seal == NO_SEAL
    assert (block.header.height, block.header.nonce, block.header.producer) == (0, 0, ABSENT)
    assert block.header.previous == genesis.network_id
    assert block.header.time_ms == genesis.time_ms
    assert all(change.old is None for change in delta)
    view = ChainBuilder(genesis).view()
    assert view.administrators() == (ADMIN.public,)
    assert view.roles_at(ADMIN.public, 0) == frozenset()
    assert view.roles_at(ADMIN.public, 1) == {Role.ADMIN}


def test_first_bits_follow_the_retarget_rule() -> None:
    assert first_bits(Params()) == 0x1F010000
    assert bits_to_target(first_bits(Params(retarget=Retarget.FIXED, fixed_digits=3))) == 16**61


# -- roles


def test_grant_acts_from_the_next_block() -> None:
    chain = ChainBuilder()
    granted = chain.statement(ADMIN, grant(Role.SUBMITTER, NEWCOMER))
    same_block = chain.batch(NEWCOMER)
    assert refused(chain, granted, same_block) == "unauthorized-author"
    chain.mine([granted])
    chain.mine([chain.batch(NEWCOMER)])
    assert chain.view().role(Role.SUBMITTER, NEWCOMER.public).intervals == ((2, OPEN_END),)


def test_revocation_acts_from_the_next_block_and_keeps_the_interval() -> None:
    chain = ChainBuilder()
    revoked = chain.statement(ADMIN, revoke(Role.SUBMITTER, SUBMITTER, suspect_since=0))
    chain.mine([revoked, chain.batch()])
    assert refused(chain, chain.batch()) == "unauthorized-author"
    entry = chain.view().role(Role.SUBMITTER, SUBMITTER.public)
    assert entry == RoleEntry(intervals=((1, 2),), suspect_since=0)
    chain.mine([chain.statement(ADMIN, grant(Role.SUBMITTER, SUBMITTER))])
    assert chain.view().role(Role.SUBMITTER, SUBMITTER.public).intervals == ((1, 2), (3, OPEN_END))
    chain.mine([chain.batch()])


def test_granted_producer_seals_from_the_next_block() -> None:
    chain = ChainBuilder()
    granted = chain.statement(ADMIN, grant(Role.PRODUCER, NEWCOMER))
    with pytest.raises(RuleViolation, match="unauthorized-producer"):
        chain.check(chain.forge([granted], key=NEWCOMER))
    chain.mine([granted])
    chain.mine(key=NEWCOMER)


def test_quorum_counts_distinct_administrators() -> None:
    chain = three_administrators(quorum=3)
    proposal = chain.statement(ADMIN, grant(Role.PRODUCER, NEWCOMER))
    chain.mine([proposal])
    assert not chain.view().role(Role.PRODUCER, NEWCOMER.public).intervals
    assert refused(chain, *approved(chain, proposal, ADMIN)) == "duplicate-approval"
    chain.mine(approved(chain, proposal, SECOND))
    assert refused(chain, *approved(chain, proposal, SECOND)) == "duplicate-approval"
    assert not chain.view().role(Role.PRODUCER, NEWCOMER.public).intervals
    chain.mine(approved(chain, proposal, THIRD))
    entry = chain.view().proposal(proposal.id)
    assert entry is not None
    assert (entry.effective_height, len(entry.approvals)) == (3, 3)
    assert chain.view().role(Role.PRODUCER, NEWCOMER.public).intervals == ((4, OPEN_END),)
    assert refused(chain, *approved(chain, proposal, ADMIN)) == "unknown-proposal"


def test_proposal_and_approvals_may_share_a_block() -> None:
    chain = three_administrators()
    proposal = chain.statement(ADMIN, grant(Role.PRODUCER, NEWCOMER))
    chain.mine([proposal, *approved(chain, proposal, SECOND)])
    assert chain.view().role(Role.PRODUCER, NEWCOMER.public).is_open
    late = chain.statement(ADMIN, grant(Role.PRODUCER, STRANGER))
    assert refused(chain, *approved(chain, late, SECOND), late) == "unknown-proposal"


def test_approval_of_a_former_administrator_no_longer_counts() -> None:
    chain = three_administrators()
    proposal = chain.statement(SECOND, grant(Role.PRODUCER, NEWCOMER))
    chain.mine([proposal])
    removal = chain.statement(ADMIN, revoke(Role.ADMIN, SECOND))
    chain.mine([removal, *approved(chain, removal, THIRD)])
    chain.mine(approved(chain, proposal, ADMIN))
    assert not chain.view().role(Role.PRODUCER, NEWCOMER.public).intervals
    entry = chain.view().proposal(proposal.id)
    assert entry is not None
    assert entry.approvals == (ADMIN.public,)
    chain.mine(approved(chain, proposal, THIRD))
    assert chain.view().role(Role.PRODUCER, NEWCOMER.public).is_open


def test_rotated_administrator_does_not_count_twice() -> None:
    chain = three_administrators()
    proposal = chain.statement(SECOND, grant(Role.PRODUCER, NEWCOMER))
    chain.mine([proposal, chain.statement(SECOND, rotation(SECOND, STRANGER, chain.network_id))])
    chain.mine(approved(chain, proposal, STRANGER))
    assert not chain.view().role(Role.PRODUCER, NEWCOMER.public).intervals
    chain.mine(approved(chain, proposal, ADMIN))
    assert chain.view().role(Role.PRODUCER, NEWCOMER.public).is_open


@pytest.mark.parametrize("subject", [ADMIN, SECOND])
def test_last_administrators_stay(subject: LedgerKey) -> None:
    chain = ChainBuilder(make_genesis(administrators=[ADMIN, SECOND], quorum=2))
    removal = chain.statement(ADMIN, revoke(Role.ADMIN, subject))
    assert refused(chain, removal, *approved(chain, removal, SECOND)) == "last-admin"


def test_two_removals_in_one_block_see_each_other() -> None:
    chain = ChainBuilder(make_genesis(administrators=[ADMIN, SECOND], quorum=1))
    first = chain.statement(ADMIN, revoke(Role.ADMIN, SECOND))
    second = chain.statement(SECOND, revoke(Role.ADMIN, ADMIN))
    assert refused(chain, first, second) == "last-admin"
    chain.mine([chain.statement(ADMIN, revoke(Role.ADMIN, SECOND))])
    assert chain.view().administrators() == (ADMIN.public,)


def test_revoking_an_administrator_who_is_none_changes_nothing() -> None:
    chain = ChainBuilder()
    chain.mine([chain.statement(ADMIN, revoke(Role.ADMIN, STRANGER))])
    assert chain.view().administrators() == (ADMIN.public,)


def test_a_role_goes_to_a_key_that_can_sign() -> None:
    chain = ChainBuilder()
    payload = grant(Role.ADMIN, NEWCOMER)
    for subject in (bytes(32), b"\x01" + bytes(31), b"\xff" * 32, b"\x02" + bytes(31)):
        bad = type(payload).decode(payload.encode().replace(NEWCOMER.public, subject))
        assert refused(chain, chain.statement(ADMIN, bad)) == "bad-payload"


def test_number_of_grants_to_one_key_is_bounded() -> None:
    chain = ChainBuilder()
    transition = chain.transition()
    spans = tuple((2 * number, 2 * number + 1) for number in range(MAX_INTERVALS))
    transition.state.put_role(Role.PRODUCER, NEWCOMER.public, RoleEntry(intervals=spans))
    with pytest.raises(RuleViolation, match="at most 1024 times") as caught:
        transition._change_role(grant(Role.PRODUCER, NEWCOMER))
    assert caught.value.code == "state-conflict"


# -- key rotation


def test_rotation_moves_all_roles_from_the_next_block_on() -> None:
    chain = ChainBuilder(make_genesis(producers=[PRODUCER, ADMIN]))
    chain.mine([chain.statement(ADMIN, grant(Role.VIEWER, ADMIN, encryption_key=seed("mailbox")))])
    rotated = chain.statement(ADMIN, rotation(ADMIN, NEWCOMER, chain.network_id))
    chain.mine([rotated, chain.statement(ADMIN, Cancel(note="still me in this block"))])
    view = chain.view()
    assert view.roles_at(ADMIN.public, chain.height + 1) == frozenset()
    assert view.roles_at(NEWCOMER.public, chain.height + 1) == {Role.ADMIN, Role.PRODUCER, Role.VIEWER}
    assert view.role(Role.VIEWER, NEWCOMER.public).encryption_key == seed("mailbox")
    assert view.administrators() == (NEWCOMER.public,)
    assert refused(chain, chain.statement(ADMIN, Cancel(note=""))) == "unauthorized-author"
    chain.mine([chain.statement(NEWCOMER, grant(Role.SUBMITTER, STRANGER))], key=NEWCOMER)


def test_rotation_needs_the_new_keys_consent_and_a_fresh_key() -> None:
    chain = ChainBuilder()
    consent_of_nobody = (
        rotation(ADMIN, NEWCOMER, seed("another network")),
        rotation(SUBMITTER, NEWCOMER, chain.network_id),
    )
    for payload in consent_of_nobody:
        assert refused(chain, chain.statement(ADMIN, payload)) == "bad-payload"
    for known in (PRODUCER, ADMIN):
        payload = rotation(ADMIN, known, chain.network_id)
        assert refused(chain, chain.statement(ADMIN, payload)) == "state-conflict"


def test_rotation_does_not_lift_the_producers_share() -> None:
    chain = ChainBuilder(make_genesis(producers=[PRODUCER, SECOND], producer_share=2, producer_window=4))
    first = rotation(PRODUCER, NEWCOMER, chain.network_id)
    chain.mine(key=SECOND)
    chain.mine()
    assert refused(chain, chain.statement(PRODUCER, first)) == "state-conflict"
    chain.mine(key=SECOND)
    chain.mine([chain.statement(PRODUCER, first)])
    second = rotation(NEWCOMER, THIRD, chain.network_id)
    assert refused(chain, chain.statement(NEWCOMER, second), key=NEWCOMER) == "state-conflict"
    chain.mine([chain.statement(ADMIN, rotation(ADMIN, STRANGER, chain.network_id))], key=NEWCOMER)


# -- sequences


def test_sequences_count_without_a_gap() -> None:
    chain = ChainBuilder()
    for wrong in (1, 2**64 - 1):
        assert refused(chain, chain.statement(SUBMITTER, make_stage(), sequence=wrong)) == "bad-sequence"
    chain.mine([chain.statement(SUBMITTER, make_stage(name=str(number))) for number in range(3)])
    for wrong in (0, 2, 4):
        assert refused(chain, chain.statement(SUBMITTER, make_stage(), sequence=wrong)) == "bad-sequence"


def test_an_attempt_that_fails_leaves_the_transition_as_it_was() -> None:
    chain = ChainBuilder()
    good, later = (chain.statement(SUBMITTER, make_stage(name=name)) for name in ("one", "two"))
    bad = chain.statement(SUBMITTER, make_stage(StageType.TRAINING, seed("nowhere")), sequence=1)
    checked = [check_statement(item, chain.params, chain.network_id) for item in (good, bad, later)]
    tried, plain = chain.transition(), chain.transition()
    tried.attempt(checked[0])
    with pytest.raises(RuleViolation, match="unknown-reference"):
        tried.attempt(checked[1])
    assert tried.state.next_sequence(SUBMITTER.public) == 1
    tried.attempt(checked[2])
    for item in (checked[0], checked[2]):
        plain.add(item)
    assert tried.finish() == plain.finish()


def test_cancel_uses_a_sequence_number_up() -> None:
    chain = ChainBuilder()
    chain.mine([chain.statement(SUBMITTER, Cancel(note="lost"), sequence=0)])
    stale = chain.statement(SUBMITTER, make_stage(), sequence=0)
    assert refused(chain, stale) == "bad-sequence"
    chain.mine([chain.statement(SUBMITTER, make_stage(), sequence=1)])


def test_same_id_with_another_valid_signature() -> None:
    chain = ChainBuilder()
    statement = chain.statement(PRODUCER, Cancel(note=""))
    message = signed_message(Purpose.STATEMENT, chain.network_id, statement.id)
    twin = Statement(statement.header_bytes, other_signature(seed("key 1"), message), statement.payload)
    assert twin.leaf != statement.leaf
    assert refused(chain, statement, twin) == "bad-sequence"
    one, other = chain.forge([statement]), chain.forge([twin])
    assert one.header.body_root != other.header.body_root
    assert one.header.state_root == other.header.state_root
    chain.accept(other)


def test_expiry_is_the_last_height_that_may_hold_a_statement() -> None:
    chain = ChainBuilder()
    chain.mine()
    expired = chain.statement(SUBMITTER, make_stage(), valid_until_height=1)
    assert refused(chain, expired) == "expired-statement"
    chain.mine([chain.statement(SUBMITTER, make_stage(), valid_until_height=2)])


# -- references


def test_batch_names_stages_of_the_right_type() -> None:
    chain = ChainBuilder()
    stages: dict[str, Statement] = {
        name: chain.statement(SUBMITTER, make_stage(kind, name=name))
        for name, kind in (
            ("model", StageType.TRAINING),
            ("clustering", StageType.CLUSTERING),
            ("filter", StageType.FILTER),
        )
    }
    named: dict[str, Any] = {name: item.id for name, item in stages.items()}
    chain.mine([*stages.values(), chain.batch(**named)])
    for field, wrong in (("model", "filter"), ("clustering", "model"), ("filter", "clustering")):
        for reference in (stages[wrong].id, seed("nothing")):
            fields: dict[str, Any] = {field: reference}
            assert refused(chain, chain.batch(**fields)) == "unknown-reference"
    batch = chain.batch(name="other")
    chain.mine([batch])
    assert refused(chain, chain.batch(model=batch.id)) == "unknown-reference"


def test_stage_inputs_are_on_the_chain_before_it() -> None:
    chain = ChainBuilder()
    first = chain.statement(SUBMITTER, make_stage(), sequence=0)
    second = chain.statement(SUBMITTER, make_stage(StageType.TRAINING, first.id), sequence=1)
    assert refused(chain, second) == "bad-sequence"
    orphan = chain.statement(SUBMITTER, make_stage(StageType.TRAINING, seed("?")), sequence=0)
    assert refused(chain, orphan) == "unknown-reference"
    chain.mine([first, second])
    entry = chain.view().stage(second.id)
    assert entry is not None
    assert (entry.stage_type, entry.height, entry.author) == (2, 1, SUBMITTER.public)


def test_view_grant_is_by_the_batchs_author_to_a_viewer() -> None:
    chain = with_viewer()
    batch, stage = chain.batch(), chain.statement(SUBMITTER, make_stage())
    chain.mine([batch, stage])

    def view_grant(author: LedgerKey, target: Statement, viewer: LedgerKey) -> Statement:
        payload = ViewGrant(batch=target.id, viewer=viewer.public, wrapped_key=b"k")
        return chain.statement(author, payload)

    assert refused(chain, view_grant(PRODUCER, batch, VIEWER)) == "unauthorized-author"
    assert refused(chain, view_grant(SUBMITTER, batch, STRANGER)) == "unknown-reference"
    assert refused(chain, view_grant(SUBMITTER, stage, VIEWER)) == "unknown-reference"
    chain.mine([view_grant(SUBMITTER, batch, VIEWER)])


def test_retraction_is_by_the_author_or_an_administrator() -> None:
    chain = ChainBuilder()
    batch, stage = chain.batch(), chain.statement(SUBMITTER, make_stage())
    chain.mine([batch, stage])

    def retract(author: LedgerKey, target: Statement, record: int | None = None) -> Statement:
        return chain.statement(author, Retract(target=target.id, record=record, reason=""))

    assert refused(chain, retract(PRODUCER, batch)) == "unauthorized-author"
    assert refused(chain, retract(SUBMITTER, stage, record=0)) == "unknown-reference"
    chain.mine([retract(SUBMITTER, batch, record=0)])
    entry = chain.view().stage(batch.id)
    assert entry is not None
    assert entry.retracted_height == 0
    chain.mine([retract(ADMIN, batch), retract(SUBMITTER, stage)])
    chain.mine([retract(SUBMITTER, batch)])
    entries = [chain.view().stage(item.id) for item in (batch, stage)]
    assert [entry.retracted_height for entry in entries if entry] == [3, 3]


def test_attestation_is_of_a_batch_on_the_chain() -> None:
    chain = ChainBuilder()
    stage = chain.statement(SUBMITTER, make_stage())
    chain.mine([stage])
    for target in (stage.id, seed("nothing")):
        payload = Attestation(batch=target, record=0, pixel_hash=bytes(32), note="")
        assert refused(chain, chain.statement(PRODUCER, payload)) == "unknown-reference"


# -- checkpoints


def test_checkpoint_is_in_force_with_a_quorum() -> None:
    chain = three_administrators()
    blocks = chain.mine_many(3)

    def vouch(key: LedgerKey, height: int, block_hash: bytes) -> Statement:
        return chain.statement(key, Checkpoint(height=height, block_hash=block_hash))

    assert refused(chain, vouch(ADMIN, 2, blocks[2].hash)) == "unknown-reference"
    assert refused(chain, vouch(ADMIN, 4, seed("future"))) == "unknown-reference"
    chain.mine([vouch(ADMIN, 3, blocks[2].hash)])
    assert chain.view().checkpoint() is None
    assert refused(chain, vouch(ADMIN, 3, blocks[2].hash)) == "duplicate-approval"
    chain.mine([vouch(SECOND, 3, blocks[2].hash)])
    assert chain.view().checkpoint() == (3, blocks[2].hash)
    assert set(chain.view().endorsers(3, blocks[2].hash)) == {ADMIN.public, SECOND.public}
    chain.mine([vouch(ADMIN, 1, blocks[0].hash), vouch(SECOND, 1, blocks[0].hash)])
    assert chain.view().checkpoint() == (3, blocks[2].hash)
    parent = chain.tip
    chain.mine([vouch(ADMIN, chain.height, parent.hash), vouch(THIRD, chain.height, parent.hash)])
    assert chain.view().checkpoint() == (parent.header.height, parent.hash)


def test_batch_without_its_header_is_refused() -> None:
    chain = ChainBuilder()
    stage = chain.statement(SUBMITTER, make_stage())
    with pytest.raises(RuleViolation, match="a batch header, got none"):
        Transition.image_batch(chain.transition(), stage, make_batch(1)[0])
