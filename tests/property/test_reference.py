"""The page's second implementation (`support.reference`) and the project's own agree on chains and on rules."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from facechain.consensus.errors import ConsensusError
from facechain.consensus.kinds import Kind, Role, StageType
from facechain.consensus.kv import Bucket
from facechain.consensus.params import Genesis, Grant, Params, Retarget
from facechain.consensus.payloads import (
    AnyPayload,
    Cancel,
    Checkpoint,
    KeyRotate,
    ProtocolUpgrade,
    Retract,
    RoleApproval,
)
from facechain.consensus.signing import LedgerKey, Purpose
from facechain.consensus.state import OPEN_END, RoleEntry, role_key
from facechain.consensus.statement import Statement
from support import reference_rules as page
from support.agreement import (
    A0,
    A1,
    A2,
    FRESH,
    ODD,
    P0,
    P1,
    S0,
    S1,
    STRANGER,
    VIEWER,
    Pair,
    asert_pair,
    attest,
    every_kind,
    flipped,
    quorum_genesis,
    view,
)
from support.chain import (
    ChainBuilder,
    easy_params,
    make_batch,
    make_genesis,
    make_stage,
    seed,
)
from support.reference import Reference, Rejected
from support.reference import Role as PageRole
from support.statements import grant, revoke, rotation


def test_chains_with_every_kind_are_accepted_by_both_under_asert() -> None:
    pair = asert_pair()
    kinds = {item.kind for block in pair.chain.blocks.values() for item in block.body.statements}
    assert kinds == set(Kind)
    assert len({block.header.bits for block in pair.chain.blocks.values()}) > 5


def test_chains_with_every_kind_are_accepted_by_both_with_a_fixed_target() -> None:
    pair = every_kind(Pair.of(quorum_genesis(retarget=Retarget.FIXED, fixed_digits=1, heartbeat_ms=0)))
    assert {block.header.bits for block in pair.chain.blocks.values()} == {page.to_bits(16**63)}


def drawn(
    pair: Pair, draw: random.Random, known: dict[str, list[bytes]], before: Counter[bytes]
) -> Statement:
    """Make some statement; most obey the rules."""
    chain, people = pair.chain, (A0, A1, A2, P0, P1, S0, S1, VIEWER, *FRESH[:4])
    standing = {role: [key for key in people if chain.view().role(role, key.public).is_open] for role in Role}

    def one(role: Role) -> LedgerKey:
        fitting = standing[role] if draw.random() < 0.9 else people
        return draw.choice(fitting or people)

    def some(name: str) -> bytes:
        return draw.choice(known[name]) if known[name] and draw.random() < 0.95 else seed("unknown")

    kind, who = draw.choice(list(Kind)), draw.choice(people)
    makers, other, role = (
        draw.choice((Role.PRODUCER, Role.SUBMITTER)),
        draw.choice(people),
        draw.choice(list(Role)),
    )
    height = draw.randrange(chain.height + 2)
    block = chain.tree.active[min(height, chain.height)].hash
    by_kind: dict[Kind, tuple[LedgerKey, AnyPayload | None]] = {
        Kind.IMAGE_BATCH: (one(makers), None),
        Kind.STAGE: (one(makers), make_stage(draw.choice(list(StageType)), some("stages"))),
        Kind.ROLE_PROPOSAL: (one(Role.ADMIN), draw.choice((grant(role, other), revoke(role, other)))),
        Kind.ROLE_APPROVAL: (one(Role.ADMIN), RoleApproval(proposal=some("proposals"))),
        Kind.KEY_ROTATE: (who, rotation(who, other, chain.network_id)),
        Kind.VIEW_GRANT: (one(makers), view(some("stages"), other.public)),
        Kind.RETRACT: (
            one(draw.choice((makers, Role.ADMIN))),
            Retract(target=some("stages"), record=draw.choice((None, 1)), reason=""),
        ),
        Kind.ATTESTATION: (who, attest(some("stages"), 0, block, "")),
        Kind.CHECKPOINT: (one(Role.ADMIN), Checkpoint(height=height, block_hash=block)),
        Kind.CANCEL: (who, Cancel(note="")),
        Kind.PROTOCOL_UPGRADE: (
            one(Role.ADMIN),
            ProtocolUpgrade(version=draw.randrange(2), activation_height=height + draw.randrange(3)),
        ),
    }
    author, payload = by_kind[kind]
    batch = None
    if payload is None:
        named = {"model": some("stages")} if draw.random() < 0.3 else {}
        payload, batch = make_batch(1, name=str(draw.random()), public=draw.random() < 0.5, **named)
    sequence = chain.view().next_sequence(author.public) + before[author.public]
    if draw.random() < 0.03:
        sequence += 1
    until = chain.height + draw.choice((0, 1)) if draw.random() < 0.1 else 2**64 - 1
    made = pair.say(author, payload, batch=batch, sequence=sequence, valid_until_height=until)
    if kind in {Kind.IMAGE_BATCH, Kind.STAGE}:
        known["stages"].append(made.id)
    if kind is Kind.ROLE_PROPOSAL:
        known["proposals"].append(made.id)
    before[author.public] += 1
    return made


@pytest.mark.parametrize("share", [0, 3])
def test_random_chains_get_the_same_verdicts(share: int) -> None:
    pair = Pair.of(quorum_genesis(producer_share=share, producer_window=share + 1 if share else 0))
    draw = random.Random(share)
    known: dict[str, list[bytes]] = {"stages": [], "proposals": []}
    while pair.verdicts.total() < 220:
        kept: list[Statement] = []
        sealer = draw.choice((P0, P1, S0, *FRESH[:4]))
        for _ in range(draw.randrange(5)):
            made = drawn(pair, draw, known, Counter(item.author for item in kept))
            if pair.judge_statements("a drawn statement", *kept, made) is None:
                kept.append(made)
        gap = draw.choice((1, 5_000, 10_000, 20_000))
        block = pair.chain.forge(kept, key=sealer, time_ms=pair.chain.tip.header.time_ms + gap)
        if pair.judge_block(block, "a drawn block") is None:
            pair.chain.accept(block)
            pair.reference.accept(block.sealed.encode(), block.body.encode())
            pair.same()
    assert pair.chain.height >= 10
    assert len(pair.verdicts) >= 9
    pair.count(220)


# Rules of the state, limits


def one_of(chain: ChainBuilder, kind: Kind) -> Statement:
    """Return the first statement of a kind."""
    blocks = chain.blocks.values()
    return next(item for block in blocks for item in block.body.statements if item.kind is kind)


def state_cases(pair: Pair) -> Iterator[tuple[str, str | None, list[Statement]]]:
    """Yield what breaks one rule of the state each."""
    say, chain, network = pair.say, pair.chain, pair.chain.network_id
    new, unknown = FRESH[7], seed("unknown")
    batch, done = one_of(chain, Kind.IMAGE_BATCH), one_of(chain, Kind.ROLE_PROPOSAL)
    chain._waiting.clear()
    yield "a model that is no training", "unknown-reference", [chain.batch(S0, model=batch.id)]
    yield "an unknown filter", "unknown-reference", [chain.batch(S0, filter=unknown)]
    yield "an unknown input", "unknown-reference", [say(S0, make_stage(StageType.FILTER, unknown))]
    first = say(S0, make_stage(StageType.TRAINING))
    yield "a model of this block", None, [first, chain.batch(S0, model=first.id)]
    twice = chain.batch(S0, name="twice")
    yield "a statement twice", "bad-sequence", [twice, twice]
    yield "a done proposal", "unknown-proposal", [say(new, RoleApproval(proposal=done.id))]
    yield "an unknown proposal", "unknown-proposal", [say(new, RoleApproval(proposal=unknown))]
    begun = say(A1, grant(Role.SUBMITTER, STRANGER))
    yield "one's own proposal", "duplicate-approval", [begun, say(A1, RoleApproval(proposal=begun.id))]
    last = say(A1, revoke(Role.ADMIN, new))
    yield "the last but one administrator", "last-admin", [last, say(new, RoleApproval(proposal=last.id))]
    absent = say(A1, revoke(Role.ADMIN, STRANGER))
    yield "no administrator", None, [absent, say(new, RoleApproval(proposal=absent.id))]
    yield "a new key with a role", "state-conflict", [say(S0, rotation(S0, S1, network))]
    yield "a new key that had a role", "state-conflict", [say(S0, rotation(S0, A2, network))]
    yield "one's own key", "state-conflict", [say(S0, rotation(S0, S0, network))]
    yield "a key that was granted and revoked at once", None, [say(S0, rotation(S0, FRESH[5], network))]
    yield "a new key twice", "state-conflict", [say(k, rotation(k, FRESH[11], network)) for k in (S0, S1)]


def more_state_cases(pair: Pair) -> Iterator[tuple[str, str | None, list[Statement]]]:
    """Yield what breaks one rule of the state each: references, retractions, checkpoints, upgrades."""
    say, chain = pair.say, pair.chain
    new, viewer, unknown = FRESH[7], FRESH[8], seed("unknown")
    stage, batch = one_of(chain, Kind.STAGE), one_of(chain, Kind.IMAGE_BATCH)
    yield "no consent", "bad-payload", [say(S0, KeyRotate(new_key=FRESH[11].public, consent=bytes(64)))]
    yield "another's batch", "unauthorized-author", [say(S1, view(batch.id, viewer.public, b""))]
    yield "no viewer", "unknown-reference", [say(S0, view(batch.id, S1.public, b""))]
    yield "a viewer no more", "unknown-reference", [say(S0, view(batch.id, VIEWER.public, b""))]
    yield "a stage to view", "unknown-reference", [say(S0, view(stage.id, viewer.public, b""))]
    yield (
        "another's stage",
        "unauthorized-author",
        [say(S1, Retract(target=stage.id, record=None, reason=""))],
    )
    yield "another's record", "unauthorized-author", [say(S1, Retract(target=stage.id, record=0, reason=""))]
    yield "a stage's record", "unknown-reference", [say(A1, Retract(target=stage.id, record=0, reason=""))]
    yield (
        "nothing to retract",
        "unknown-reference",
        [say(A1, Retract(target=unknown, record=None, reason=""))],
    )
    yield "retracted again", None, [say(A1, Retract(target=batch.id, record=None, reason=""))]
    yield "an attested stage", "unknown-reference", [say(A1, attest(stage.id, 0, unknown, ""))]
    tip, height = chain.tip.hash, chain.height
    yield "this block", "unknown-reference", [say(A1, Checkpoint(height=height + 1, block_hash=tip))]
    yield "the parent", None, [say(A1, Checkpoint(height=height, block_hash=tip))]
    yield "another hash", "unknown-reference", [say(A1, Checkpoint(height=height - 1, block_hash=tip))]
    vouched = Checkpoint(height=height, block_hash=tip)
    yield "vouched twice", "duplicate-approval", [say(A1, vouched), say(A1, vouched)]
    yield "vouched by two", None, [say(A1, vouched), say(new, vouched)]
    for above, code in ((1, "state-conflict"), (2, None)):
        yield "an upgrade", code, [say(A1, ProtocolUpgrade(version=5, activation_height=height + above))]
    scheduled = ProtocolUpgrade(version=2, activation_height=9_000)
    yield "an upgrade scheduled already", "state-conflict", [say(A1, scheduled)]
    yield "another height", None, [say(A1, replace(scheduled, activation_height=9_001))]
    yield "the version in force", None, [say(A1, replace(scheduled, version=1))]
    yield "a version below it", "state-conflict", [say(A1, replace(scheduled, version=0))]
    asked = ProtocolUpgrade(version=5, activation_height=height + 9)
    yield "asked twice", "duplicate-approval", [say(A1, asked), say(A1, asked)]
    weak = replace(grant(Role.SUBMITTER, STRANGER), subject=bytes([1]) + bytes(31))
    yield "a subject of small order", "bad-payload", [say(A1, weak)]
    yield (
        "no subject to revoke",
        None,
        [say(A1, replace(revoke(Role.SUBMITTER, STRANGER), subject=bytes(32)))],
    )


def test_rules_of_the_state() -> None:
    pair = replace(asert_pair(), verdicts=Counter())
    pair.chain._waiting.clear()
    for what, code, statements in itertools.chain(state_cases(pair), more_state_cases(pair)):
        assert pair.judge_statements(what, *statements) == code, what
    pair.count(36)


def test_roles_act_from_the_next_block_on() -> None:
    pair = Pair.of(quorum_genesis())
    say, mine = pair.say, pair.mine
    batch, pending = pair.chain.batch(S0), say(A2, grant(Role.SUBMITTER, STRANGER))
    mine(batch, pending)
    opened = say(A0, grant(Role.VIEWER, VIEWER))
    agreed = [opened, say(A1, RoleApproval(proposal=opened.id))]
    shown = say(S0, view(batch.id, VIEWER.public))
    assert pair.judge_statements("a viewer of this block", *agreed, shown) == "unknown-reference"
    used = say(VIEWER, Cancel(note=""))
    assert pair.judge_statements("a role of this block", *agreed, used) == "unauthorized-author"
    mine(*agreed)
    assert (
        pair.judge_statements("a viewer of the block before", say(S0, view(batch.id, VIEWER.public))) is None
    )
    # An approval counts as long as its author was an administrator after the parent.
    fewer = say(A0, revoke(Role.ADMIN, A2))
    ended = say(A0, revoke(Role.SUBMITTER, S1, suspect_since=2))
    approvals = [say(A1, RoleApproval(proposal=item.id)) for item in (fewer, ended, pending)]
    mine(fewer, ended, *approvals, say(S1, Cancel(note="")), say(A2, Cancel(note="")))
    for key, code in ((S1, "unauthorized-author"), (A2, "unauthorized-author"), (STRANGER, None)):
        assert pair.judge_statements("the block after", say(key, Cancel(note=""))) == code
    again = say(A0, revoke(Role.SUBMITTER, S1))
    mine(again, say(A1, RoleApproval(proposal=again.id)))
    assert pair.reference.state.roles[page.SUBMITTER, S1.public].suspect is None


def test_the_median_of_few_blocks() -> None:
    pair = Pair.of(quorum_genesis())
    for after in (1, 5_000, 3, 7_000, 2, 9_000, 4, 1_000, 6, 2_000, 8, 3_000, 5):
        times = sorted(node.time_ms for node in pair.chain.tree.active[-11:])
        median = times[len(times) // 2]
        for time_ms, code in ((median, "time-too-old"), (median + 1, None)):
            block = pair.chain.forge([pair.say(S0, Cancel(note=""))], key=P0, time_ms=time_ms)
            pair.chain._waiting.clear()
            assert pair.judge_block(block, "at the median") == code
        pair.mine(pair.say(S0, Cancel(note="")), after=after)


def test_facts_of_a_batch() -> None:
    pair = Pair.of(quorum_genesis())
    payload, header = make_batch(2)
    hidden, of_hidden = make_batch(2, public=False)
    secret, zeros = replace(hidden, seed=payload.seed), bytes(32)
    cases = [
        (payload, header, None),
        (hidden, of_hidden, None),
        (hidden, replace(of_hidden, seed_commitment=zeros), None),
        (payload, replace(header, width=0), "bad-payload"),
        (payload, replace(header, height=0), "bad-payload"),
        (payload, replace(header, record_count=1), "bad-payload"),
        (payload, replace(header, records_root=zeros), "bad-payload"),
        (payload, replace(header, perceptual_root=zeros), "bad-payload"),
        (payload, replace(header, public=False), "bad-payload"),
        (secret, of_hidden, "bad-payload"),
        (payload, replace(header, seed_commitment=seed("other")), "bad-payload"),
        (replace(payload, seed=None), header, "bad-payload"),
        (replace(payload, seed=None), replace(header, seed_commitment=zeros), None),
        (replace(payload, perceptual=None), header, "bad-payload"),
        (replace(payload, perceptual=None), replace(header, perceptual_root=zeros), None),
        (replace(payload, perceptual=seed("one hash")), header, "bad-payload"),
        (payload, replace(header, group=zeros, part_index=6, part_count=7), None),
    ]
    for number, (content, facts, code) in enumerate(cases):
        statement = pair.say(S0, content, batch=facts)
        assert pair.judge_statements(f"case {number}", statement) == code, number


@pytest.mark.parametrize(
    "spans, is_open, code", [(1023, False, None), (1024, False, "state-conflict"), (1024, True, None)]
)
def test_the_intervals_of_a_role(spans: int, is_open: bool, code: str | None) -> None:
    pair = Pair.of(make_genesis(administrators=(A0,), producers=(P0,)))
    intervals = [(2**20 + 2 * number, 2**20 + 2 * number + 1) for number in range(spans)]
    if is_open:
        intervals[-1] = (intervals[-1][0], OPEN_END)
    entry = RoleEntry(intervals=tuple(intervals), encryption_key=seed("old key"))
    pair.chain.state().entries[Bucket.ROLES, role_key(Role.VIEWER, VIEWER.public)] = entry.encode()
    held = PageRole(tuple(intervals), seed("old key"))
    pair.reference.state.roles[page.VIEWER, VIEWER.public] = held
    assert pair.judge_statements("once more", pair.say(A0, grant(Role.VIEWER, VIEWER))) == code


def test_limits_of_a_network() -> None:
    pair = Pair.of(
        make_genesis(
            administrators=(A0,),
            producers=(P0,),
            submitters=(S0, S1),
            max_statements=3,
            max_statement_bytes=4_096,
            max_body_bytes=9_000,
            max_author_bytes=6_000,
        )
    )
    say, chain = pair.say, pair.chain

    def batches(*authors: LedgerKey, count: int = 1) -> list[Statement]:
        return [chain.batch(key, count, name=f"{number}") for number, key in enumerate(authors)]

    assert pair.judge_statements("three", *batches(S0, S1, S1)) is None
    assert pair.judge_statements("four", *batches(S0, S1, S1, P0)) == "too-many-statements"
    assert pair.judge_statements("a long one", *batches(S0, count=40)) == "oversized"
    assert pair.judge_statements("two of three KiB", *batches(S0, S1, count=25)) is None
    assert pair.judge_statements("one author", *batches(S0, S0, count=25)) == "author-quota"
    assert pair.judge_statements("three of three KiB", *batches(S0, S1, P0, count=25)) == "oversized"
    pair.mine(say(S0, Cancel(note="")))
    parent = chain.tip.header.time_ms
    for after, code in ((9_000, None), (8_999, "early-heartbeat")):
        assert pair.judge_block(chain.forge(time_ms=parent + after, key=P0), "heartbeat") == code
    pair.count(8)


def test_the_share_of_a_producer() -> None:
    pair = Pair.of(quorum_genesis(producer_share=2, producer_window=4))
    moved = rotation(P0, FRESH[2], pair.chain.network_id)
    for turn in range(14):
        key = (P0, P0, P1, P1)[turn % 4]
        for other in (P0, P1):
            found = pair.judge_block(pair.chain.forge(key=other), "a turn")
            assert other is not key or found is None
        held = turn + 1 >= 4
        again = pair.judge_statements("a rotation", pair.say(P0, moved), key=key)
        assert again == (None if held else "state-conflict")
        pair.mine(key=key)
    pair.mine(pair.say(P0, moved), key=P1 if pair.judge_block(pair.chain.forge(key=P0), "?") else P0)
    assert pair.verdicts["producer-share", "producer-share"] > 5
    pair.count(40)


# Genesis


def both_read(genesis: bytes) -> bool:
    """Tell whether a genesis is good; both must say the same."""
    found = []
    for read in (Genesis.decode, Reference):
        try:
            read(genesis)
        except (ConsensusError, Rejected):
            found.append(False)
        else:
            found.append(True)
    assert found[0] == found[1], found
    return found[0]


def test_mutations_of_a_genesis() -> None:
    genesis = quorum_genesis()
    raw = genesis.encode()
    assert both_read(raw)
    assert not any(both_read(flipped(raw, at, at % 8)) for at in range(0, len(raw), 2))
    genesis = make_genesis(administrators=(A0,))
    defaults = genesis.params
    verdicts: Counter[bool] = Counter()
    odd = (
        *(
            0,
            1,
            2,
            3,
            16,
            17,
            64,
            65,
            99,
            100,
            999,
            1000,
            1024,
            1025,
            4095,
            4096,
            9_999,
            10_000,
            65_536,
            65_537,
        ),
        *(
            2**20,
            2**20 + 1,
            2**26,
            2**26 + 1,
            86_400_000,
            86_400_001,
            2_592_000_000,
            2_592_000_001,
            7_200_000,
        ),
        *(7_200_001, 2**32 - 1, 0x1F010000, 0x20010000, 0x20800000, 0x1F800001, 0x22000001, 0x217FFFFF),
    )
    for item in dataclasses.fields(Params):
        for value in odd:
            if item.name == "retarget" and value not in {1, 2}:
                continue
            change: dict[str, Any] = {item.name: value}
            changed = replace(genesis, params=replace(defaults, **change))
            try:
                signed = changed.signed_by(A0).encode()
            except (OverflowError, ConsensusError):
                continue
            verdicts[both_read(signed)] += 1
    assert verdicts[True] > 80
    assert verdicts[False] > 150


def resigned(fields: list[Any], administrators: tuple[LedgerKey, ...] = (A0, A1, A2)) -> bytes:
    unsigned = page.encode(fields)
    ordered = sorted(administrators, key=lambda key: key.public)
    return page.encode([unsigned, [key.sign(Purpose.GENESIS, page.sha(unsigned)) for key in ordered]])


def test_changed_fields_of_a_genesis() -> None:
    unsigned, signatures = page.decode(page.GENESIS, quorum_genesis().encode())
    fields = page.decode(page.UNSIGNED, unsigned)
    assert both_read(resigned(fields))
    good = sum(
        both_read(resigned([*fields[:at], odd, *fields[at + 1 :]]))
        for at in range(7)
        for odd in (*ODD, "b" * 65)
    )
    assert good == 20
    for at, other in (
        (5, fields[5][::-1]),
        (5, fields[5][:2]),
        (5, [*fields[5], STRANGER.public]),
        (5, []),
        (6, fields[6][::-1]),
        (6, [*fields[6], fields[6][-1]]),
        (6, [[1, STRANGER.public]]),
        (6, [[4, STRANGER.public]]),
        (6, [[2, bytes(32)]]),
        (6, [[2, page.u64(7) * 4]]),
        (3, [3, *fields[3][1:]]),
        (3, fields[3][:-1]),
        (1, 1),
    ):
        assert not both_read(resigned([*fields[:at], other, *fields[at + 1 :]])), (at, other)
    assert not both_read(page.encode([unsigned, signatures[::-1]]))
    assert not both_read(page.encode([unsigned, signatures[:-1]]))
    assert both_read(resigned([*fields[:3], easy_params(quorum=3).values(), *fields[4:]]))
    assert not both_read(resigned([*fields[:3], easy_params(quorum=4).values(), *fields[4:]]))
    assert Grant(role=Role.PRODUCER, subject=P0.public).subject in {key for _, key in fields[6]}
