"""Every rule by name: for each, an object that breaks it and nothing that comes before it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from facechain.consensus import validation
from facechain.consensus.apply import Checked
from facechain.consensus.block import Block, Body, SealedHeader
from facechain.consensus.chain import HeaderNode
from facechain.consensus.errors import RULES, RuleViolation, Temporary
from facechain.consensus.hashing import sha256
from facechain.consensus.kinds import Kind, Role
from facechain.consensus.params import Params, Retarget
from facechain.consensus.payloads import Cancel, ProtocolUpgrade, RoleApproval
from facechain.consensus.retarget import asert_bits, fixed_bits
from facechain.consensus.statement import (
    ABSENT,
    Statement,
    seed_commitment,
)
from facechain.consensus.validation import check_time, median_time_past, next_bits
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
    seed,
    solve,
)
from support.statements import grant, revoke


def broken(check: Callable[[], object]) -> RuleViolation:
    with pytest.raises(RuleViolation) as caught:
        check()
    return caught.value


# -- headers


def high_hash(chain: ChainBuilder) -> None:
    header, body = chain.draft()
    while int.from_bytes(header.hash, "big") >> 255 == 0:
        header = header.with_nonce(header.nonce + 1)
    chain.check(chain.seal(header, body, mined=False))


def bad_diffbits(chain: ChainBuilder) -> None:
    chain.check(chain.forge(bits=0x207FFFFE))


def time_too_old(chain: ChainBuilder) -> None:
    blocks = chain.mine_many(12)
    chain.check(chain.forge([chain.batch()], time_ms=blocks[6].header.time_ms))


def time_too_new(chain: ChainBuilder) -> None:
    header = chain.forge().header
    now = header.time_ms - chain.params.future_limit_ms
    check_time(header, chain.params, now_ms=now)
    check_time(header, chain.params, now_ms=now - 1)


def bad_prevblk(chain: ChainBuilder) -> None:
    bad = chain.forge(state_root=ABSENT)
    chain.tree.mark_invalid(chain.tree.add_header(bad.sealed))
    header = replace(chain.forge().header, previous=bad.hash, height=2)
    chain.tree.add_header(SealedHeader(solve(header), bytes(64)))


def missing_parent(chain: ChainBuilder) -> None:
    chain.check(chain.forge(previous=seed("unknown")))


def bad_height(chain: ChainBuilder) -> None:
    chain.check(chain.forge(height=2))


def unknown_version(chain: ChainBuilder) -> None:
    chain.check(chain.forge(version=2))


def bad_version_too_early(_chain: ChainBuilder) -> None:
    chain = ChainBuilder(versions={1, 2})
    chain.check(chain.forge(version=2))


def bad_version_outdated(_chain: ChainBuilder) -> None:
    chain = ChainBuilder(versions={1, 2})
    chain.mine([chain.statement(ADMIN, ProtocolUpgrade(version=2, activation_height=2))])
    chain.check(chain.forge(version=1))


def bad_seal(chain: ChainBuilder) -> None:
    block = chain.forge()
    chain.check(Block(SealedHeader(block.header, block.sealed.seal[:-1] + b"\x00"), block.body))


def unauthorized_producer(chain: ChainBuilder) -> None:
    chain.check(chain.forge(key=SUBMITTER))


def producer_share(_chain: ChainBuilder) -> None:
    second = keys(1, start=40)[0]
    chain = ChainBuilder(make_genesis(producers=[PRODUCER, second], producer_share=1, producer_window=2))
    chain.mine()
    chain.mine(key=second)
    chain.mine()
    chain.check(chain.forge())


def fork_of_two(chain: ChainBuilder) -> HeaderNode:
    """Return a branch that leaves the active chain two blocks below its tip."""
    fork = chain.mine()
    chain.mine_many(2)
    branch = chain.forge([chain.batch()], parent=fork)
    node = chain.node(chain.accept(branch))
    chain.tree.check_reorg(node, checkpoint_height=1, max_reorg=2)
    return node


def below_checkpoint(chain: ChainBuilder) -> None:
    chain.tree.check_reorg(fork_of_two(chain), checkpoint_height=2, max_reorg=2)


def max_reorg(chain: ChainBuilder) -> None:
    chain.tree.check_reorg(fork_of_two(chain), checkpoint_height=1, max_reorg=1)


# -- bodies


def bad_merkle_root(chain: ChainBuilder) -> None:
    block = chain.forge([chain.batch()])
    chain.check(Block(block.sealed, Body(())))


def bad_state_root(chain: ChainBuilder) -> None:
    chain.check(chain.forge(state_root=seed("another state")))


def oversized_statement(_chain: ChainBuilder) -> None:
    chain = ChainBuilder(make_genesis(max_statement_bytes=4_096))
    chain.mine([chain.batch(count=32)])
    chain.check(chain.forge([chain.batch(count=64)]))


def oversized_body(_chain: ChainBuilder) -> None:
    chain = ChainBuilder(make_genesis(max_statement_bytes=4_096, max_body_bytes=8_192))
    chain.check(chain.forge([chain.batch(count=30, name=str(number)) for number in range(3)]))


def too_many_statements(_chain: ChainBuilder) -> None:
    chain = ChainBuilder(make_genesis(max_statements=2))
    chain.mine([chain.batch(name=name) for name in "ab"])
    chain.check(chain.forge([chain.batch(name=name) for name in "cde"]))


def author_quota(_chain: ChainBuilder) -> None:
    chain = ChainBuilder(make_genesis(max_author_bytes=8_192))
    two = [chain.batch(count=30, name="a"), chain.batch(count=30, name="b")]
    chain.mine([*two, chain.batch(PRODUCER, count=30, name="c")])
    chain.check(chain.forge([chain.batch(count=30, name=name) for name in "def"]))


def early_heartbeat(chain: ChainBuilder) -> None:
    at = chain.mine().header.time_ms + chain.params.heartbeat_ms
    chain.check(chain.forge(time_ms=at))
    chain.check(chain.forge(time_ms=at - 1))


# -- statements


def bad_signature(chain: ChainBuilder) -> None:
    good = chain.batch()
    chain.check(chain.forge([Statement(good.header_bytes, bytes(64), good.payload)]))


def unauthorized_author(chain: ChainBuilder) -> None:
    chain.check(chain.forge([chain.batch(STRANGER)]))


def bad_sequence(chain: ChainBuilder) -> None:
    chain.check(chain.forge([chain.statement(SUBMITTER, make_stage(), sequence=1)]))


def expired_statement(chain: ChainBuilder) -> None:
    chain.check(chain.forge([chain.statement(SUBMITTER, make_stage(), valid_until_height=0)]))


def bad_payload(chain: ChainBuilder) -> None:
    good = chain.statement(SUBMITTER, Cancel(note=""), kind=Kind.STAGE)
    chain.check(chain.forge([good]))


def payload_mismatch(chain: ChainBuilder) -> None:
    good = chain.statement(SUBMITTER, Cancel(note="ab"))
    swapped = Statement(good.header_bytes, good.signature, Cancel(note="ba").encode())
    chain.check(chain.forge([swapped]))


def state_conflict(chain: ChainBuilder) -> None:
    payload = ProtocolUpgrade(version=2, activation_height=1)
    chain.check(chain.forge([chain.statement(ADMIN, payload)]))


def unknown_reference(chain: ChainBuilder) -> None:
    chain.check(chain.forge([chain.batch(model=seed("no model"))]))


def unknown_proposal(chain: ChainBuilder) -> None:
    chain.check(chain.forge([chain.statement(ADMIN, RoleApproval(proposal=seed("none")))]))


def duplicate_approval(_chain: ChainBuilder) -> None:
    chain = ChainBuilder(make_genesis(administrators=[ADMIN, STRANGER], quorum=2))
    proposal = chain.statement(ADMIN, grant(Role.PRODUCER, SUBMITTER))
    chain.mine([proposal])
    chain.check(chain.forge([chain.statement(ADMIN, RoleApproval(proposal=proposal.id))]))


def last_admin(chain: ChainBuilder) -> None:
    chain.check(chain.forge([chain.statement(ADMIN, revoke(Role.ADMIN, ADMIN))]))


BREAKS: dict[str, tuple[Callable[[ChainBuilder], None], ...]] = {
    "high-hash": (high_hash,),
    "bad-diffbits": (bad_diffbits,),
    "time-too-old": (time_too_old,),
    "time-too-new": (time_too_new,),
    "bad-prevblk": (bad_prevblk,),
    "missing-parent": (missing_parent,),
    "bad-height": (bad_height,),
    "unknown-version": (unknown_version,),
    "bad-version": (bad_version_too_early, bad_version_outdated),
    "bad-seal": (bad_seal,),
    "unauthorized-producer": (unauthorized_producer,),
    "producer-share": (producer_share,),
    "below-checkpoint": (below_checkpoint,),
    "max-reorg": (max_reorg,),
    "bad-merkle-root": (bad_merkle_root,),
    "bad-state-root": (bad_state_root,),
    "oversized": (oversized_statement, oversized_body),
    "too-many-statements": (too_many_statements,),
    "author-quota": (author_quota,),
    "early-heartbeat": (early_heartbeat,),
    "bad-signature": (bad_signature,),
    "unauthorized-author": (unauthorized_author,),
    "bad-sequence": (bad_sequence,),
    "expired-statement": (expired_statement,),
    "bad-payload": (bad_payload,),
    "payload-mismatch": (payload_mismatch,),
    "state-conflict": (state_conflict,),
    "unknown-reference": (unknown_reference,),
    "unknown-proposal": (unknown_proposal,),
    "duplicate-approval": (duplicate_approval,),
    "last-admin": (last_admin,),
}

CASES = [(code, case) for code, cases in BREAKS.items() for case in cases]


@pytest.mark.parametrize("code, case", CASES, ids=[case.__name__ for _, case in CASES])
def test_rule_is_broken_by_name(code: str, case: Callable[[ChainBuilder], None]) -> None:
    error = broken(lambda: case(ChainBuilder()))
    assert error.code == code
    assert isinstance(error, Temporary) is not RULES[code].permanent
    assert str(error.expected) != str(error.got)


def test_every_rule_is_broken_somewhere() -> None:
    assert set(BREAKS) == set(RULES)


# -- what is, and what is not, a property of the block's hash


def test_swapped_payloads_are_blamed_on_the_sender_and_not_on_the_block() -> None:
    """Two payloads trade bytes: leaves, byte count and body root stay the same, sizes do not."""
    chain = ChainBuilder(make_genesis(max_author_bytes=8_192, max_statement_bytes=8_192))
    mine = [chain.statement(SUBMITTER, make_stage(name="a", text="x" * 900))]
    theirs = [chain.batch(PRODUCER, count=75)]
    block = chain.forge([*mine, *theirs])
    chain.check(block)
    kept, moved = theirs[0].payload[:300], theirs[0].payload[300:]
    twisted = Body(
        (
            Statement(mine[0].header_bytes, mine[0].signature, mine[0].payload + moved),
            Statement(theirs[0].header_bytes, theirs[0].signature, kept),
        )
    )
    assert twisted.statements[0].size_bytes > chain.params.max_author_bytes
    assert twisted.byte_count() == block.body.byte_count()
    assert twisted.root() == block.header.body_root
    error = broken(lambda: chain.check(Block(block.sealed, twisted)))
    assert error.code == "payload-mismatch"
    assert not error.rule.cacheable
    chain.accept(block)


def test_padded_payload_is_not_blamed_on_the_statement() -> None:
    chain = ChainBuilder(make_genesis(max_statement_bytes=4_096))
    good = chain.batch()
    padded = Statement(good.header_bytes, good.signature, good.payload + bytes(5_000))
    error = broken(lambda: validation.check_statement(padded, chain.params, chain.network_id))
    assert error.code == "payload-mismatch"
    assert validation.check_statement(good, chain.params, chain.network_id).statement is good


def test_rules_that_say_nothing_about_the_hash() -> None:
    uncacheable = {rule.code for rule in RULES.values() if not rule.cacheable}
    assert uncacheable == {
        "time-too-new",
        "missing-parent",
        "unknown-version",
        "bad-seal",
        "below-checkpoint",
        "max-reorg",
        "bad-merkle-root",
        "bad-signature",
        "payload-mismatch",
    }
    assert not any(rule.punish or rule.cacheable for rule in RULES.values() if not rule.permanent)


def test_what_was_checked_before_stands_for_that_very_statement_only() -> None:
    chain = ChainBuilder()
    good = chain.batch()
    before = {good.leaf: Checked(good, good.decode_payload())}
    again = Statement.decode(good.encode())
    found = validation.check_statement(again, chain.params, chain.network_id, verified=before)
    assert found is before[good.leaf]
    swapped = Statement(good.header_bytes, good.signature, good.payload[:-1] + b"?")
    assert swapped.leaf == good.leaf
    error = broken(
        lambda: validation.check_statement(swapped, chain.params, chain.network_id, verified=before)
    )
    assert error.code == "payload-mismatch"


def test_verified_leaves_are_not_verified_again() -> None:
    chain = ChainBuilder()
    good = chain.batch()
    unsigned = Statement(good.header_bytes, bytes(64), good.payload)
    checked = validation.check_statement(
        unsigned, chain.params, chain.network_id, verified={sha256(good.header_bytes + bytes(64)): None}
    )
    assert checked.statement is unsigned
    error = broken(
        lambda: validation.check_statement(
            unsigned, chain.params, chain.network_id, verified={good.leaf: None, good.id: None}
        )
    )
    assert error.code == "bad-signature"


def test_header_of_another_parent() -> None:
    chain = ChainBuilder()
    header = chain.forge().header
    chain.mine()
    context = chain.tree.context(chain.tree.tip)
    error = broken(lambda: validation.check_header(header, context, chain.params))
    assert error.code == "bad-prevblk"


# -- batches


BATCHES: dict[str, Callable[[ChainBuilder], Statement]] = {
    "record count": lambda chain: chain.batch(record_count=2),
    "records root": lambda chain: chain.batch(records_root=seed("x")),
    "perceptual root": lambda chain: chain.batch(perceptual_root=seed("x")),
    "perceptual root without the column": lambda chain: chain.batch(public=False, perceptual_root=seed("x")),
    "width": lambda chain: chain.batch(width=0),
    "height": lambda chain: chain.batch(height=0),
    "seed commitment": lambda chain: chain.batch(seed_commitment=seed("x")),
    "opened seed without a commitment": lambda chain: chain.batch(seed_commitment=ABSENT),
    "public batch with a closed seed": lambda chain: _batch(chain, public=True, opened=False),
    "private batch with an opened seed": lambda chain: _batch(chain, public=False, opened=True),
    "private batch with a perceptual column": lambda chain: _batch(chain, public=False, column=True),
}


def _batch(
    chain: ChainBuilder, *, public: bool, opened: bool | None = None, column: bool | None = None
) -> Statement:
    payload, header = make_batch(1, public=True)
    payload = replace(
        payload,
        seed=payload.seed if (public if opened is None else opened) else None,
        perceptual=payload.perceptual if (public if column is None else column) else None,
    )
    header = replace(header, public=public, perceptual_root=payload.perceptual_root() or ABSENT)
    return chain.statement(SUBMITTER, payload, batch=header)


@pytest.mark.parametrize("name", BATCHES)
def test_batch_header_is_true_of_its_records(name: str) -> None:
    chain = ChainBuilder()
    error = broken(lambda: chain.check(chain.forge([BATCHES[name](chain)])))
    assert error.code == "bad-payload"


def test_batches_that_are_welcome() -> None:
    chain = ChainBuilder()
    payload, header = make_batch(2, name="unseeded")
    unseeded = chain.statement(
        SUBMITTER, replace(payload, seed=None), batch=replace(header, seed_commitment=ABSENT)
    )
    plain = chain.statement(
        SUBMITTER,
        replace(payload, perceptual=None),
        batch=replace(header, perceptual_root=ABSENT, seed_commitment=seed_commitment(payload.seed or b"")),
    )
    batches = [
        unseeded,
        plain,
        chain.batch(public=False, name="private"),
        chain.batch(count=5, name="public"),
    ]
    block = chain.mine(batches)
    assert chain.tip == block
    assert block.body.statements == tuple(batches)
    assert all(chain.view().stage(batch.id) for batch in batches)


# -- time and bits


def test_median_time_past_takes_the_last_eleven() -> None:
    assert median_time_past([5]) == 5
    assert median_time_past([1, 2]) == 2
    assert median_time_past([9, 1, 5]) == 5
    times = list(range(100, 120))
    random.Random(3).shuffle(times)
    assert median_time_past(times) == sorted(times[-11:])[5]


def test_bits_of_the_first_blocks_and_after() -> None:
    params = Params()
    assert next_bits(params, parent_height=0, parent_time_ms=0, anchor_time_ms=None) == params.pow_limit_bits
    expected = asert_bits(
        anchor_bits=params.pow_limit_bits,
        spacing_ms=params.spacing_ms,
        half_life_ms=params.half_life_ms,
        time_delta_ms=2_000 + params.spacing_ms,
        height_delta=4,
        pow_limit_bits=params.pow_limit_bits,
    )
    found = next_bits(params, parent_height=5, parent_time_ms=1_002_000, anchor_time_ms=1_000_000)
    assert found == expected != params.pow_limit_bits
    fixed = Params(retarget=Retarget.FIXED, fixed_digits=2)
    assert next_bits(fixed, parent_height=9, parent_time_ms=0, anchor_time_ms=0) == fixed_bits(2)


def test_a_genesis_on_the_shelf_does_not_ease_the_target() -> None:
    chain = ChainBuilder()
    day = 86_400_000
    chain.mine(time_ms=chain.genesis.time_ms + 400 * day)
    fast = chain.mine([chain.batch(name="a")], time_ms=chain.tip.header.time_ms + 1)
    third = chain.forge([chain.batch(name="b")], time_ms=fast.header.time_ms + 1)
    assert fast.header.bits == chain.params.pow_limit_bits
    assert third.header.bits < chain.params.pow_limit_bits


def test_fixed_difficulty_is_the_papers_leading_zeros() -> None:
    chain = ChainBuilder(make_genesis(retarget=Retarget.FIXED, fixed_digits=1))
    assert all(block.hash.hex().startswith("0") for block in chain.mine_many(3))


def test_idle_network_keeps_its_target() -> None:
    chain = ChainBuilder()
    assert {block.header.bits for block in chain.mine_many(40)} == {chain.params.pow_limit_bits}
