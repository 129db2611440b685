"""Each limit from both sides, and each refusal in its own words: expected and got are promised to people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from facechain.consensus.apply import Checked
from facechain.consensus.block import Block, Body, Header, SealedHeader
from facechain.consensus.errors import DecodeError, RuleViolation
from facechain.consensus.kinds import Role
from facechain.consensus.payloads import Cancel
from facechain.consensus.signing import LedgerKey
from facechain.consensus.state import RoleEntry
from facechain.consensus.statement import ABSENT, Statement, seed_commitment
from facechain.consensus.upgrade import UpgradeNeeded
from facechain.consensus.validation import (
    HeaderContext,
    check_body,
    check_header,
    check_payload_hash,
    check_producer,
    check_seal,
    check_statement,
    check_time,
    connect_block,
)
from support.chain import (
    ADMIN,
    EASY_BITS,
    PRODUCER,
    STRANGER,
    SUBMITTER,
    ChainBuilder,
    keys,
    make_batch,
    make_stage,
    seed,
)
from support.statements import grant, revoke, rotation

NEWCOMER = keys(1, start=60)[0]


def refusal(check: Callable[[], object]) -> tuple[str, object, object]:
    """Return code, expected and got of the rule that is broken."""
    with pytest.raises(RuleViolation) as caught:
        check()
    return caught.value.code, caught.value.expected, caught.value.got


# -- headers


def context_of(header: Header, **changes: Any) -> HeaderContext:
    """Return what a header fits."""
    context = HeaderContext(
        parent_hash=header.previous,
        parent_time_ms=0,
        height=header.height,
        median_time_ms=header.time_ms - 1,
        bits=header.bits,
        recent_producers=(),
    )
    return replace(context, **changes)


@pytest.fixture(scope="module")
def chain() -> ChainBuilder:
    return ChainBuilder()


@pytest.fixture(scope="module")
def header(chain: ChainBuilder) -> Header:
    return chain.forge().header


def test_header_that_fits_is_accepted_and_its_like_is_not(chain: ChainBuilder, header: Header) -> None:
    check_header(header, context_of(header), chain.params)
    later = replace(header, time_ms=header.time_ms - 1)
    assert refusal(lambda: check_header(later, context_of(header), chain.params))[0] == "time-too-old"


def test_header_is_refused_in_words(chain: ChainBuilder, header: Header) -> None:
    def told(**changes: Any) -> tuple[str, object, object]:
        return refusal(lambda: check_header(header, context_of(header, **changes), chain.params))

    assert told(parent_hash=seed("p")) == ("bad-prevblk", seed("p").hex(), header.previous.hex())
    assert told(height=7) == ("bad-height", 7, 1)
    assert told(bits=0x0300FFFF) == ("bad-diffbits", "0x0300ffff", f"{EASY_BITS:#010x}")
    assert told(median_time_ms=1_900_000_000_000) == (
        "time-too-old",
        "after 1900000000000",
        header.time_ms,
    )


def test_time_equal_to_the_median_is_too_old(chain: ChainBuilder, header: Header) -> None:
    context = context_of(header, median_time_ms=header.time_ms)
    assert refusal(lambda: check_header(header, context, chain.params))[0] == "time-too-old"


def test_unknown_version_is_told(chain: ChainBuilder, header: Header) -> None:
    found = refusal(lambda: check_header(replace(header, version=7), context_of(header), chain.params))
    assert found == ("unknown-version", "a version that this node knows", 7)


def test_hash_above_the_target_is_told(chain: ChainBuilder, header: Header) -> None:
    unpaid = header
    while int.from_bytes(unpaid.hash, "big") >> 255 == 0:
        unpaid = unpaid.with_nonce(unpaid.nonce + 1)
    found = refusal(lambda: check_header(unpaid, context_of(unpaid), chain.params))
    assert found == ("high-hash", f"below the target of {EASY_BITS:#010x}", unpaid.hash.hex())


def test_share_of_a_producer_counts_this_block(chain: ChainBuilder, header: Header) -> None:
    params = replace(chain.params, producer_share=2, producer_window=4)
    other = STRANGER.public
    once = context_of(header, recent_producers=(other, header.producer, other))
    check_header(header, once, params)
    twice = context_of(header, recent_producers=(header.producer, other, header.producer))
    check_header(header, twice, chain.params)
    assert refusal(lambda: check_header(header, twice, params)) == (
        "producer-share",
        "at most 2 of 4 blocks by one key",
        "3",
    )


def test_time_ahead_of_the_clock(chain: ChainBuilder, header: Header) -> None:
    now_ms = header.time_ms - chain.params.future_limit_ms
    check_time(header, chain.params, now_ms=now_ms)
    found = refusal(lambda: check_time(header, chain.params, now_ms=now_ms - 1))
    assert found == ("time-too-new", f"at most {header.time_ms - 1}", header.time_ms)


def test_seal_is_the_producers(chain: ChainBuilder, header: Header) -> None:
    found = refusal(lambda: check_seal(SealedHeader(header, bytes(64)), chain.network_id))
    assert found == ("bad-seal", f"a seal by {PRODUCER.public.hex()}", "a signature that does not verify")


# -- bodies


def body_check(
    chain: ChainBuilder, statements: list[Statement], *, waited_ms: int | None = None, **params: Any
) -> None:
    """Check a body that truly belongs to its header, under changed limits."""
    header, body = chain.draft(statements)
    parent_ms = header.time_ms - (chain.params.heartbeat_ms if waited_ms is None else waited_ms)
    check_body(header, body, replace(chain.params, **params), parent_time_ms=parent_ms)


@pytest.fixture
def two_by_one() -> tuple[ChainBuilder, list[Statement], int]:
    """Two statements of one author and one of another, all of one size."""
    chain = ChainBuilder()
    statements = [chain.statement(key, Cancel(note="x" * 100)) for key in (SUBMITTER, PRODUCER, SUBMITTER)]
    sizes = {statement.size_bytes for statement in statements}
    assert len(sizes) == 1
    return chain, statements, sizes.pop()


Three = tuple[ChainBuilder, list[Statement], int]


def test_body_of_another_header_is_told(two_by_one: Three) -> None:
    chain, statements, _ = two_by_one
    header, _ = chain.draft(statements)
    other = Body(tuple(statements[:1]))
    found = refusal(lambda: check_body(header, other, chain.params, parent_time_ms=0))
    assert found == ("bad-merkle-root", header.body_root.hex(), other.root().hex())


def test_limit_of_statements(two_by_one: Three) -> None:
    chain, statements, _ = two_by_one
    body_check(chain, statements, max_statements=3)
    assert refusal(lambda: body_check(chain, statements, max_statements=2)) == (
        "too-many-statements",
        "at most 2",
        3,
    )


def test_limit_of_body_bytes(two_by_one: Three) -> None:
    chain, statements, size = two_by_one
    body_check(chain, statements, max_body_bytes=3 * size)
    assert refusal(lambda: body_check(chain, statements, max_body_bytes=3 * size - 1)) == (
        "oversized",
        f"a body of at most {3 * size - 1} bytes",
        3 * size,
    )


def test_limit_of_an_author(two_by_one: Three) -> None:
    chain, statements, size = two_by_one
    body_check(chain, statements, max_author_bytes=2 * size)
    assert refusal(lambda: body_check(chain, statements, max_author_bytes=2 * size - 1)) == (
        "author-quota",
        f"at most {2 * size - 1} bytes",
        f"{2 * size} bytes by {SUBMITTER.public.hex()}",
    )


def test_heartbeat_is_waited_for_by_empty_blocks_alone(two_by_one: Three) -> None:
    chain, statements, _ = two_by_one
    interval = chain.params.heartbeat_ms
    header, _ = chain.draft()
    body_check(chain, [], waited_ms=interval)
    body_check(chain, statements, waited_ms=0)
    assert refusal(lambda: body_check(chain, [], waited_ms=interval - 1)) == (
        "early-heartbeat",
        f"an empty block no earlier than {header.time_ms + 1}",
        header.time_ms,
    )


def test_swapped_payload_is_told() -> None:
    good = ChainBuilder().statement(SUBMITTER, Cancel(note="a"))
    swapped = Statement(good.header_bytes, good.signature, Cancel(note="b").encode())
    right, wrong = ChainBuilder().statement(SUBMITTER, Cancel(note="b")), good.header.payload_hash
    check_payload_hash(good)
    assert refusal(lambda: check_payload_hash(swapped)) == (
        "payload-mismatch",
        wrong.hex(),
        right.header.payload_hash.hex(),
    )


# -- statements


def statement_check(chain: ChainBuilder, statement: Statement, **params: Any) -> Checked:
    return check_statement(statement, replace(chain.params, **params), chain.network_id)


def test_limit_of_a_statement() -> None:
    chain = ChainBuilder()
    good = chain.batch()
    size = good.size_bytes
    statement_check(chain, good, max_statement_bytes=size)
    assert refusal(lambda: statement_check(chain, good, max_statement_bytes=size - 1)) == (
        "oversized",
        f"a statement of at most {size - 1} bytes",
        size,
    )


def test_signature_is_the_authors() -> None:
    chain = ChainBuilder()
    good = chain.batch()
    unsigned = Statement(good.header_bytes, bytes(64), good.payload)
    assert refusal(lambda: statement_check(chain, unsigned)) == (
        "bad-signature",
        f"a signature by {SUBMITTER.public.hex()}",
        "one that does not verify",
    )


def test_payload_that_does_not_decode_is_told_with_its_cause() -> None:
    chain = ChainBuilder()
    wrong = chain.statement(SUBMITTER, make_stage(), kind=None)
    wrong = chain.statement(SUBMITTER, Cancel(note=""), kind=wrong.header.kind)
    with pytest.raises(DecodeError) as cause:
        wrong.decode_payload()
    with pytest.raises(RuleViolation) as caught:
        statement_check(chain, wrong)
    assert caught.value.code == "bad-payload"
    assert caught.value.expected == f"{cause.value.what}: {cause.value.expected}"
    assert caught.value.got == cause.value.got
    assert isinstance(caught.value.__cause__, DecodeError)


def test_granted_subject_is_a_point_and_a_revoked_one_may_be_anything() -> None:
    chain = ChainBuilder()
    nobody = replace(grant(Role.PRODUCER, ADMIN), subject=bytes(32))
    with pytest.raises(RuleViolation) as caught:
        statement_check(chain, chain.statement(ADMIN, nobody))
    assert (caught.value.code, caught.value.expected, caught.value.got) == (
        "bad-payload",
        "subject: a canonical Ed25519 point, not of small order",
        "a point of small order",
    )
    assert isinstance(caught.value.__cause__, DecodeError)
    statement_check(chain, chain.statement(ADMIN, replace(revoke(Role.PRODUCER, ADMIN), subject=bytes(32))))


def test_new_key_consents_to_this_author_on_this_network() -> None:
    chain = ChainBuilder()
    good = rotation(ADMIN, NEWCOMER, chain.network_id)
    statement_check(chain, chain.statement(ADMIN, good))
    elsewhere = rotation(ADMIN, NEWCOMER, seed("another network"))
    unwilling = replace(good, new_key=STRANGER.public)
    for author, payload in ((SUBMITTER, good), (ADMIN, elsewhere), (ADMIN, unwilling)):
        assert refusal(
            lambda author=author, payload=payload: statement_check(  # type: ignore[misc]
                chain, chain.statement(author, payload)
            )
        ) == ("bad-payload", "the new key's consent", "a signature that does not verify")


# -- batches


def batch(key: LedgerKey = SUBMITTER, **fields: Any) -> tuple[ChainBuilder, Statement]:
    chain = ChainBuilder()
    return chain, chain.batch(key, **fields)


def batch_refusal(**fields: Any) -> tuple[str, object, object]:
    chain, statement = batch(**fields)
    return refusal(lambda: statement_check(chain, statement))


def test_batch_header_is_refused_in_words() -> None:
    payload, true = make_batch(1)
    other = seed("x")
    root, column = payload.records.root(), payload.perceptual_root()
    assert column is not None
    assert batch_refusal(record_count=2) == ("bad-payload", "record count 2", "1")
    assert batch_refusal(records_root=other) == ("bad-payload", f"records root {other.hex()}", root.hex())
    assert batch_refusal(perceptual_root=other) == (
        "bad-payload",
        f"perceptual root {other.hex()}",
        column.hex(),
    )
    assert batch_refusal(seed_commitment=other) == (
        "bad-payload",
        f"the seed of {other.hex()}",
        true.seed_commitment.hex(),
    )


@pytest.mark.parametrize("width, height", [(0, 32), (32, 0)])
def test_image_without_pixels_is_refused(width: int, height: int) -> None:
    assert batch_refusal(width=width, height=height) == (
        "bad-payload",
        "images of at least 1 x 1",
        f"{width} x {height}",
    )


@pytest.mark.parametrize("width, height", [(1, 32), (32, 1), (1, 1)])
def test_smallest_images_are_welcome(width: int, height: int) -> None:
    chain, statement = batch(width=width, height=height)
    checked = statement_check(chain, statement)
    assert checked.statement == statement
    assert checked.payload == statement.decode_payload()


@pytest.mark.parametrize("kept", ["seed", "perceptual"])
def test_private_batch_keeps_seed_and_looks_to_itself(kept: str) -> None:
    payload, header = make_batch(1, public=True)
    payload = replace(payload, seed=None) if kept == "perceptual" else replace(payload, perceptual=None)
    header = replace(header, public=False, perceptual_root=payload.perceptual_root() or ABSENT)
    chain = ChainBuilder()
    statement = chain.statement(SUBMITTER, payload, batch=header)
    assert refusal(lambda: statement_check(chain, statement)) == (
        "bad-payload",
        "no seed and no perceptual column: the batch is not public",
        "one",
    )


def test_public_batch_opens_the_seed_it_committed_to() -> None:
    payload, header = make_batch(1)
    closed = replace(payload, seed=None)
    chain = ChainBuilder()
    assert refusal(lambda: statement_check(chain, chain.statement(SUBMITTER, closed, batch=header))) == (
        "bad-payload",
        f"the seed of {header.seed_commitment.hex()}",
        ABSENT.hex(),
    )
    assert header.seed_commitment == seed_commitment(payload.seed or b"")


# -- blocks


def test_sealing_key_holds_the_role_at_the_height() -> None:
    entry = RoleEntry(intervals=((2, 5),))
    for height in (2, 4):
        check_producer(entry, PRODUCER.public, height=height)
    for height in (1, 5):
        assert refusal(
            lambda height=height: check_producer(  # type: ignore[misc]
                entry, PRODUCER.public, height=height
            )
        ) == ("unauthorized-producer", f"a key with role producer at height {height}", PRODUCER.public.hex())


def connect(chain: ChainBuilder, block: Block, **options: Any) -> object:
    return connect_block(chain.state(), block.header, block.body, chain.params, chain.network_id, **options)


def test_state_root_and_version_are_told() -> None:
    chain = ChainBuilder()
    true = chain.forge().header.state_root.hex()
    forged = chain.forge(state_root=seed("another"))
    assert refusal(lambda: connect(chain, forged)) == ("bad-state-root", seed("another").hex(), true)
    assert refusal(lambda: connect(chain, chain.forge(version=2))) == ("bad-version", 1, 2)


def test_block_of_a_version_that_is_not_known_here_stops_the_node() -> None:
    chain = ChainBuilder()
    block = chain.forge()
    connect(chain, block, versions={1})
    with pytest.raises(UpgradeNeeded):
        connect(chain, block, versions={2})


def test_signatures_of_a_block_that_were_verified_are_not_verified_again() -> None:
    chain = ChainBuilder()
    good = chain.batch()
    header, body = chain.draft([good])
    unsigned = Statement(good.header_bytes, bytes(64), good.payload)
    block = chain.seal(replace(header, body_root=Body((unsigned,)).root()), Body((unsigned,)))
    _, checked = connect_block(
        chain.state(),
        block.header,
        block.body,
        chain.params,
        chain.network_id,
        verified={unsigned.leaf: None},
    )
    assert [item.statement for item in checked] == [unsigned]
    assert body.statements == (good,)
    assert refusal(lambda: connect(chain, block))[0] == "bad-signature"
