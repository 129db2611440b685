"""The pool against the real consensus code: what is taken in, what leaves and why, what a block gets."""

from dataclasses import replace

import pytest

from facechain.consensus.block import Block
from facechain.consensus.errors import RuleViolation
from facechain.consensus.kinds import Role, RoleAction
from facechain.consensus.statement import Statement
from facechain.consensus.validation import check_statement
from facechain.node.mempool import (
    Drop,
    Mempool,
    MempoolFull,
    MempoolLimits,
    SequenceGap,
    SequenceTaken,
)
from support.ledger import ADMIN, EASY, PRODUCER, Ledger, ledger_key

A, B, C, STRANGER = (ledger_key(number) for number in (11, 12, 13, 14))
SMALL = replace(EASY, max_statement_bytes=4_096)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(authors=(A, B, C), params=SMALL)


@pytest.fixture
def pool(ledger: Ledger) -> Mempool:
    return Mempool(ledger.params, ledger.network_id)


def limited(ledger: Ledger, **changes: int) -> Mempool:
    return Mempool(ledger.params, ledger.network_id, MempoolLimits(**changes))


def fill(pool: Mempool, ledger: Ledger, *statements: Statement) -> None:
    for statement in statements:
        pool.add(statement, ledger.tip())


def move(
    pool: Mempool, ledger: Ledger, connected: tuple[Block, ...] = (), disconnected: tuple[Block, ...] = ()
) -> tuple[Drop, ...]:
    return pool.on_update(connected=connected, disconnected=disconnected, tip=ledger.tip())


def test_consecutive_sequences_are_taken_in_and_found(ledger: Ledger, pool: Mempool) -> None:
    first, second = ledger.note(A, 0), ledger.note(A, 1)
    fill(pool, ledger, first, second)
    assert len(pool) == 2
    assert pool.leaves() == (first.leaf, second.leaf)
    assert pool.get(second.leaf) is second
    assert pool.get_by_id(first.id) is first
    assert pool.size_bytes == first.size_bytes + second.size_bytes
    assert pool.next_sequence(A.public, ledger.tip()) == 2


def test_a_gap_is_refused_and_names_the_expected_sequence(ledger: Ledger, pool: Mempool) -> None:
    fill(pool, ledger, ledger.note(A, 0))
    with pytest.raises(SequenceGap, match="expected sequence 1, got 3") as refused:
        pool.add(ledger.note(A, 3), ledger.tip())
    assert refused.value.code == "sequence-gap"
    assert refused.value.expected == 1


def test_the_same_id_again_is_known(ledger: Ledger, pool: Mempool) -> None:
    statement = ledger.note(A, 0)
    assert not pool.add(statement, ledger.tip()).known
    again = pool.add(Statement.decode(statement.encode()), ledger.tip())
    assert again.known
    assert again.statement is statement
    assert len(pool) == 1


def test_the_same_id_with_another_signature_is_known_too(ledger: Ledger, pool: Mempool) -> None:
    statement = ledger.note(A, 0)
    fill(pool, ledger, statement)
    other = Statement(statement.header_bytes, bytes(64), statement.payload)
    assert pool.add(other, ledger.tip()).statement is statement


def test_another_statement_of_the_same_sequence_is_refused(ledger: Ledger, pool: Mempool) -> None:
    fill(pool, ledger, ledger.note(A, 0), ledger.note(A, 1))
    with pytest.raises(SequenceTaken, match="sign with sequence 2"):
        pool.add(ledger.note(A, 0, size=5), ledger.tip())


def test_a_sequence_that_the_chain_used_is_refused(ledger: Ledger, pool: Mempool) -> None:
    ledger.mine(ledger.note(A, 0))
    with pytest.raises(RuleViolation, match="bad-sequence"):
        pool.add(ledger.note(A, 0, size=1), ledger.tip())


def test_an_author_without_authority_is_refused(ledger: Ledger, pool: Mempool) -> None:
    with pytest.raises(RuleViolation) as refused:
        pool.add(ledger.note(STRANGER, 0), ledger.tip())
    assert refused.value.code == "unauthorized-author"


def test_an_expired_statement_is_refused(ledger: Ledger, pool: Mempool) -> None:
    ledger.mine()
    with pytest.raises(RuleViolation) as refused:
        pool.add(ledger.note(A, 0, until=1), ledger.tip())
    assert refused.value.code == "expired-statement"


def test_a_bad_signature_is_refused_and_leaves_no_trace(ledger: Ledger, pool: Mempool) -> None:
    good = ledger.note(A, 0)
    with pytest.raises(RuleViolation) as refused:
        pool.add(Statement(good.header_bytes, bytes(64), good.payload), ledger.tip())
    assert refused.value.code == "bad-signature"
    assert not len(pool)
    fill(pool, ledger, good)


def test_a_checked_statement_is_not_checked_again(ledger: Ledger, pool: Mempool) -> None:
    statement = ledger.note(A, 0)
    checked = check_statement(statement, ledger.params, ledger.network_id)
    assert pool.add(checked, ledger.tip()).statement is statement


def test_an_effect_that_the_state_refuses_is_refused_at_once(ledger: Ledger, pool: Mempool) -> None:
    unknown = ledger.stage(B, 0)
    with pytest.raises(RuleViolation) as refused:
        pool.add(ledger.stage(A, 0, unknown), ledger.tip())
    assert refused.value.code == "unknown-reference"
    fill(pool, ledger, unknown, ledger.stage(A, 0, unknown))


def test_a_second_approval_is_refused_while_the_first_waits() -> None:
    other = ledger_key(3)
    ledger = Ledger(admins=(ADMIN, other), params=replace(SMALL, quorum=2))
    pool = Mempool(ledger.params, ledger.network_id)
    proposal = ledger.proposal(ADMIN, 0, subject=STRANGER, role=Role.SUBMITTER)
    fill(pool, ledger, proposal)
    with pytest.raises(RuleViolation) as refused:
        pool.add(ledger.approval(ADMIN, 1, proposal), ledger.tip())
    assert refused.value.code == "duplicate-approval"
    fill(pool, ledger, ledger.approval(other, 0, proposal))


def test_confirmed_statements_leave_without_a_drop(ledger: Ledger, pool: Mempool) -> None:
    statements = [ledger.note(A, sequence) for sequence in range(3)]
    fill(pool, ledger, *statements)
    block = ledger.mine(*statements[:2])
    assert move(pool, ledger, (block,)) == ()
    assert pool.leaves() == (statements[2].leaf,)
    assert pool.dropped(statements[0].id) is None
    assert pool.size_bytes == statements[2].size_bytes


def test_a_rival_of_the_same_sequence_in_a_block_drops_ours_and_keeps_what_follows(
    ledger: Ledger, pool: Mempool
) -> None:
    ours, rival, following = ledger.note(A, 0), ledger.note(A, 0, size=3), ledger.note(A, 1)
    fill(pool, ledger, ours, following)
    (drop,) = move(pool, ledger, (ledger.mine(rival),))
    assert (drop.id, drop.code) == (ours.id, "sequence-taken")
    assert pool.leaves() == (following.leaf,)


def test_disconnected_statements_return_before_those_that_wait(ledger: Ledger, pool: Mempool) -> None:
    statements = [ledger.note(A, sequence) for sequence in range(4)]
    fill(pool, ledger, *statements)
    first, second = ledger.mine(statements[0]), ledger.mine(*statements[1:3])
    move(pool, ledger, (first, second))
    ledger.disconnect()
    ledger.disconnect()
    assert move(pool, ledger, (), (second, first)) == ()
    assert pool.select(ledger.tip()) == tuple(statements)


def test_what_the_new_branch_holds_does_not_return(ledger: Ledger, pool: Mempool) -> None:
    statements = [ledger.note(A, sequence) for sequence in range(3)]
    fill(pool, ledger, *statements)
    old = ledger.mine(*statements[:2])
    move(pool, ledger, (old,))
    ledger.disconnect()
    new = ledger.mine(statements[0])
    assert move(pool, ledger, (new,), (old,)) == ()
    assert pool.select(ledger.tip()) == tuple(statements[1:])


def test_a_revoked_author_leaves_with_everything(ledger: Ledger, pool: Mempool) -> None:
    fill(pool, ledger, ledger.note(A, 0), ledger.note(A, 1), ledger.note(B, 0))
    revocation = ledger.proposal(ADMIN, 0, subject=A, role=Role.SUBMITTER, action=RoleAction.REVOKE)
    drops = move(pool, ledger, (ledger.mine(revocation),))
    assert [drop.code for drop in drops] == ["unauthorized-author", "follows-dropped"]
    assert pool.dropped(drops[0].id) == drops[0]
    assert [item.author for item in pool] == [B.public]


def test_expiry_takes_what_follows_along(ledger: Ledger, pool: Mempool) -> None:
    kept, expiring, after = ledger.note(A, 0), ledger.note(A, 1, until=1), ledger.note(A, 2)
    fill(pool, ledger, kept, expiring, after)
    drops = move(pool, ledger, (ledger.mine(),))
    assert [(drop.id, drop.code) for drop in drops] == [
        (expiring.id, "expired-statement"),
        (after.id, "follows-dropped"),
    ]
    assert pool.leaves() == (kept.leaf,)


def test_an_approval_that_came_too_late_is_dropped_after_a_while() -> None:
    admins = (ADMIN, ledger_key(3), ledger_key(4))
    ledger = Ledger(admins=admins, params=replace(SMALL, quorum=2))
    pool = Mempool(ledger.params, ledger.network_id, MempoolLimits(stalled_blocks=2))
    proposal = ledger.proposal(ADMIN, 0, subject=STRANGER, role=Role.SUBMITTER)
    move(pool, ledger, (ledger.mine(proposal),))
    late = ledger.approval(admins[1], 0, proposal)
    fill(pool, ledger, late)
    assert move(pool, ledger, (ledger.mine(ledger.approval(admins[2], 0, proposal)),)) == ()
    assert pool.select(ledger.tip()) == ()
    assert move(pool, ledger, (ledger.mine(),)) == ()
    (drop,) = move(pool, ledger, (ledger.mine(),))
    assert (drop.id, drop.code) == (late.id, "unknown-proposal")


def test_a_call_with_another_tip_than_the_last_update_is_misuse(ledger: Ledger, pool: Mempool) -> None:
    fill(pool, ledger, ledger.note(A, 0))
    ledger.mine()
    with pytest.raises(ValueError, match="call on_update first"):
        pool.add(ledger.note(A, 1), ledger.tip())


def test_selection_goes_round_the_authors_and_keeps_sequences(ledger: Ledger, pool: Mempool) -> None:
    a, b = [ledger.note(A, i) for i in range(3)], [ledger.note(B, i) for i in range(2)]
    fill(pool, ledger, *a, *b)
    assert pool.select(ledger.tip()) == (a[0], b[0], a[1], b[1], a[2])
    assert pool.select(ledger.tip(), max_statements=3) == (a[0], b[0], a[1])


def test_selection_keeps_the_byte_limits_of_body_and_author(ledger: Ledger, pool: Mempool) -> None:
    a, b = [ledger.note(A, i, size=100) for i in range(3)], ledger.note(B, 0)
    fill(pool, ledger, *a, b)
    assert pool.select(ledger.tip(), max_author_bytes=2 * a[0].size_bytes) == (a[0], b, a[1])
    assert pool.select(ledger.tip(), max_bytes=a[0].size_bytes + b.size_bytes) == (a[0], b)


def test_selection_puts_a_reference_before_what_names_it(ledger: Ledger, pool: Mempool) -> None:
    early = ledger.note(B, 0)
    named = ledger.stage(A, 0)
    fill(pool, ledger, early, named, ledger.stage(B, 1, named), ledger.note(A, 1))
    chosen = pool.select(ledger.tip())
    assert len(chosen) == 4
    ledger.mine(*chosen)


def test_a_statement_waits_for_the_one_it_names_however_the_turns_fall(ledger: Ledger, pool: Mempool) -> None:
    deep = [ledger.stage(A, sequence) for sequence in range(3)]
    fill(pool, ledger, *deep)
    naming = ledger.stage(B, 0, deep[2])
    fill(pool, ledger, naming)
    chosen = pool.select(ledger.tip())
    assert chosen == (*deep, naming)
    ledger.mine(*chosen)


def test_one_author_has_a_bound(ledger: Ledger) -> None:
    pool = limited(ledger, author_statements=2)
    fill(pool, ledger, ledger.note(A, 0), ledger.note(A, 1))
    with pytest.raises(MempoolFull, match="at most 2 statements of one author") as refused:
        pool.add(ledger.note(A, 2), ledger.tip())
    assert refused.value.retry_after_seconds == 10


def test_a_full_pool_gives_up_the_highest_sequence_of_the_heaviest_author(ledger: Ledger) -> None:
    pool = limited(ledger, statements=4)
    heavy = [ledger.note(A, sequence, size=50) for sequence in range(3)]
    fill(pool, ledger, *heavy, ledger.note(B, 0))
    admitted = pool.add(ledger.note(C, 0), ledger.tip())
    assert [(drop.id, drop.code) for drop in admitted.evicted] == [(heavy[2].id, "evicted")]
    assert len(pool) == 4


def test_the_heaviest_author_displaces_nobody(ledger: Ledger) -> None:
    pool = limited(ledger, statements=3)
    fill(pool, ledger, ledger.note(A, 0), ledger.note(A, 1), ledger.note(B, 0))
    with pytest.raises(MempoolFull):
        pool.add(ledger.note(A, 2), ledger.tip())
    assert len(pool) == 3


def test_what_was_acknowledged_is_never_displaced_and_blocks_bring_room(ledger: Ledger) -> None:
    pool = limited(ledger, statements=3)
    held = [ledger.note(A, sequence, size=50) for sequence in range(3)]
    fill(pool, ledger, *held)
    pool.acknowledge([held[2].leaf])
    with pytest.raises(MempoolFull, match="try again in 10 s"):
        pool.add(ledger.note(B, 0), ledger.tip())
    move(pool, ledger, (ledger.mine(held[0]),))
    assert not pool.add(ledger.note(B, 0), ledger.tip()).evicted


def test_acknowledging_needs_the_author_s_earlier_statements_too(ledger: Ledger, pool: Mempool) -> None:
    held = [ledger.note(A, sequence) for sequence in range(3)]
    fill(pool, ledger, *held)
    assert pool.acknowledged_with([held[1].leaf]) == (held[0], held[1])


def test_returned_statements_use_the_reserve(ledger: Ledger) -> None:
    pool = limited(ledger, statements=2, returned_statements=1)
    block = ledger.mine(ledger.note(A, 0), ledger.note(A, 1))
    move(pool, ledger, (block,))
    fill(pool, ledger, ledger.note(B, 0), ledger.note(B, 1))
    ledger.disconnect()
    drops = move(pool, ledger, (), (block,))
    assert len(pool) == 3
    assert [drop.code for drop in drops] == ["mempool-full"]


def test_more_returned_statements_than_any_pool_holds_are_not_gathered_first(ledger: Ledger) -> None:
    """The first ones come back; from the first that cannot, all are dropped, since they may build on it."""
    pool = limited(ledger, statements=2, returned_statements=1)
    notes = [ledger.note(A, sequence) for sequence in range(6)]
    blocks = (ledger.mine(*notes[:2]), ledger.mine(*notes[2:]))
    move(pool, ledger, blocks)
    ledger.disconnect()
    ledger.disconnect()
    drops = move(pool, ledger, (), blocks[::-1])
    assert pool.select(ledger.tip()) == tuple(notes[:3])
    assert [(drop.id, drop.code) for drop in drops] == [(note.id, "mempool-full") for note in notes[3:]]

    many = [ledger.note(A, sequence) for sequence in range(40)]
    size = many[0].size_bytes
    assert {note.size_bytes for note in many} == {size}
    sized = limited(ledger, bytes=4_096, returned_bytes=size)
    block = ledger.mine(*many)
    ledger.disconnect()
    fit = 4_096 // size + 1
    drops = move(sized, ledger, (), (block,))
    assert sized.select(ledger.tip()) == tuple(many[:fit])
    assert [drop.code for drop in drops] == ["mempool-full"] * (40 - fit)


def test_reasons_are_remembered_up_to_a_bound(ledger: Ledger) -> None:
    pool = limited(ledger, drops=1)
    fill(pool, ledger, ledger.note(A, 0, until=1), ledger.note(A, 1, until=1))
    first, second = move(pool, ledger, (ledger.mine(),))
    assert pool.dropped(first.id) is first
    assert pool.dropped(second.id) is None


def test_limits_below_one_statement_are_refused(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="expected at least 4096"):
        limited(ledger, bytes=4_095)


def test_a_producer_s_statements_are_taken_in(ledger: Ledger, pool: Mempool) -> None:
    stage = ledger.stage(PRODUCER, 0)
    fill(pool, ledger, stage)
    assert pool.select(ledger.tip()) == (stage,)
    assert ledger.mine(stage).body.statements == (stage,)
