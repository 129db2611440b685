"""What is told about a batch or model when many speak: shares, order, and who can crowd whom."""

from collections import Counter
from collections.abc import Sequence
from functools import cache

import pytest

from facechain.consensus.errors import RuleViolation
from facechain.consensus.evidence import MAX_STATEMENTS, Evidence
from facechain.consensus.kinds import StageType
from facechain.consensus.payloads import Attestation, Retract
from facechain.consensus.proofs import verify_evidence
from facechain.consensus.signing import LedgerKey
from facechain.consensus.statement import Statement
from facechain.consensus.story import Story, tell_story
from facechain.node.evidence import build_evidence
from facechain.node.mentions import (
    ATTESTATIONS_TOLD,
    BLOCKS_OPENED_MAX,
    MEASUREMENTS_EACH,
    RETRACTIONS_TOLD,
    STRANGERS_MEASUREMENTS_TOLD,
    Mentions,
)
from support.chain import ADMIN, PRODUCER, SUBMITTER, keys, make_genesis, make_stage
from support.registry import Registered, make_png, register

FILES = [make_png(number) for number in range(3)]
RECORD = 1
STRANGERS = keys(12, start=10)
MEASURED = (StageType.PRIVACY, StageType.EVALUATION)


def registered_among_strangers() -> Registered:
    return register(FILES, genesis=make_genesis(submitters=(SUBMITTER, *STRANGERS)))


def pixels(registered: Registered, record: int = RECORD) -> bytes:
    payload = registered.batch.decode_payload()
    found: bytes = payload.records[record].pixel_hash  # type: ignore[union-attr]
    return found


def story(registered: Registered) -> Story:
    """Return what verified evidence about the record tells."""
    with registered.chain.snapshot() as chain:
        (place,) = chain.claims_of_pixels(pixels(registered), limit=2)
        evidence = Evidence.decode(build_evidence(chain, place))
    assert verify_evidence(evidence, network_id=registered.chain.network_id).is_verified
    assert len(evidence.statements) <= MAX_STATEMENTS
    return tell_story(evidence)


def measure(registered: Registered, key: LedgerKey, times: int, said: str) -> list[Statement]:
    model = registered.stages[StageType.TRAINING].id
    return [
        registered.builder.statement(key, make_stage(kind, model, name=f"{said} {number}"))
        for number in range(times)
        for kind in MEASURED
    ]


def attest(registered: Registered, key: LedgerKey, record: int = RECORD) -> Statement:
    said = Attestation(
        batch=registered.batch.id, record=record, pixel_hash=pixels(registered, record), note=""
    )
    return registered.builder.statement(key, said)


def retract(
    registered: Registered, target: bytes, key: LedgerKey, record: int | None = None, why: str = ""
) -> Statement:
    return registered.builder.statement(key, Retract(target=target, record=record, reason=why))


@cache
def crowded() -> tuple[Registered, Story]:
    """A registration of which twelve strangers spoke at length before anybody else did."""
    registered = registered_among_strangers()
    flood: list[Statement] = []
    for key in STRANGERS:
        flood += measure(registered, key, 10, "a stranger's")
        flood += [attest(registered, key, record) for record in (0, 2) for _ in range(4)]
    registered.mine(flood)
    own = measure(registered, SUBMITTER, 1, "the author's")
    registered.mine([*own, attest(registered, PRODUCER)])
    withdrawn = [own[0].id, *(stage.id for stage in registered.stages.values())]
    registered.mine([retract(registered, target, ADMIN, why="withdrawn") for target in withdrawn])
    registered.mine([retract(registered, registered.batch.id, SUBMITTER, RECORD, "a person's")])
    return registered, story(registered)


def test_strangers_crowd_neither_the_origin_nor_what_its_author_measured() -> None:
    registered, told = crowded()
    shown = {fact.id for fact in told.stages}
    assert {stage.id for stage in registered.stages.values()} <= shown
    names = {fact.stage.name for fact in told.stages if fact.author == SUBMITTER.public}
    assert "the author's 0" in names


def test_strangers_crowd_no_retraction_and_no_attestation() -> None:
    registered, told = crowded()
    assert told.record_retractions == ((SUBMITTER.public, "a person's"),)
    for stage in registered.stages.values():
        fact = told.stage(stage.id)
        assert fact is not None
        assert fact.retractions == ((ADMIN.public, "withdrawn"),)
    own = [fact for fact in told.stages if fact.stage.name == "the author's 0"]
    assert sorted(len(fact.retractions) for fact in own) == [0, 1]
    assert told.attestations == (PRODUCER.public,)


def test_each_author_has_a_share_and_the_oldest_are_told() -> None:
    registered, told = crowded()
    measured = [fact for fact in told.stages if fact.author != SUBMITTER.public]
    shares = Counter((fact.author, fact.stage.stage_type) for fact in measured)
    assert shares
    assert max(shares.values()) == MEASUREMENTS_EACH
    assert {fact.stage.name for fact in measured} <= {
        f"a stranger's {number}" for number in range(MEASUREMENTS_EACH)
    }
    with registered.chain.snapshot() as chain:
        own, others = Mentions(chain).measurements(registered.stages[StageType.TRAINING].id, SUBMITTER.public)
    assert (len(own), len(others)) == (len(MEASURED), STRANGERS_MEASUREMENTS_TOLD)


def test_an_author_cannot_drown_its_own_first_words() -> None:
    registered = registered_among_strangers()
    registered.mine(measure(registered, SUBMITTER, 20, "said"))
    told = story(registered)
    for kind in MEASURED:
        assert [fact.stage.name for fact in told.of_type(kind)] == [
            f"said {number}" for number in range(MEASUREMENTS_EACH)
        ]


def attesting(registered: Registered, order: Sequence[LedgerKey]) -> tuple[bytes, ...]:
    registered.mine([attest(registered, key) for key in order])
    return story(registered).attestations


def test_attesting_keys_are_told_once_the_first_of_them() -> None:
    registered = registered_among_strangers()
    assert attesting(registered, [SUBMITTER] * 3 + [STRANGERS[0]] * 40) == (STRANGERS[0].public,)
    assert attesting(registered, STRANGERS) == tuple(key.public for key in STRANGERS[:ATTESTATIONS_TOLD])
    assert story(registered).attested_by_own_author


def test_an_author_who_withdrew_other_records_hides_no_retraction_of_this_one() -> None:
    registered = registered_among_strangers()
    batch = registered.batch.id
    others = [number for number in range(60) if number != RECORD]
    registered.mine([retract(registered, batch, SUBMITTER, number) for number in others])
    registered.mine(
        [retract(registered, batch, SUBMITTER, None, "all"), retract(registered, batch, ADMIN, RECORD, "why")]
    )
    told = story(registered)
    assert told.record_retractions == ((ADMIN.public, "why"),)
    assert told.retracted_height


def test_many_administrators_who_withdraw_every_stage_fill_no_evidence() -> None:
    administrators = keys(RETRACTIONS_TOLD + 3, start=40)
    registered = register(
        FILES, genesis=make_genesis(administrators=(ADMIN, *administrators), submitters=(SUBMITTER,))
    )
    targets = [stage.id for stage in registered.stages.values()]
    registered.mine(
        [retract(registered, target, key) for target in targets for key in administrators]
        + [
            retract(registered, registered.batch.id, key, scope)
            for scope in (None, RECORD)
            for key in administrators
        ]
    )
    told = story(registered)
    named = [told.stage(registered.stages[kind].id) for kind in (StageType.TRAINING, StageType.FILTER)]
    assert [len(fact.retractions) for fact in named if fact is not None] == [RETRACTIONS_TOLD] * 2
    assert len(told.record_retractions) == RETRACTIONS_TOLD


def test_nobody_else_can_withdraw() -> None:
    registered = registered_among_strangers()
    targets = (registered.batch.id, registered.stages[StageType.TRAINING].id)
    for target, key in zip(targets, STRANGERS, strict=False):
        with pytest.raises(RuleViolation) as raised:
            registered.builder.mine([retract(registered, target, key)])
        assert raised.value.code == "unauthorized-author"


def test_a_search_of_measurements_opens_so_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert BLOCKS_OPENED_MAX >= MAX_STATEMENTS
    monkeypatch.setattr("facechain.node.mentions.BLOCKS_OPENED_MAX", 3)  # the first holds the filter stage
    registered = registered_among_strangers()
    for key in (*STRANGERS[:2], SUBMITTER):
        registered.mine(measure(registered, key, 1, "said"))
    told = {fact.author for fact in story(registered).of_type(StageType.PRIVACY)}
    assert told == {key.public for key in STRANGERS[:2]}
