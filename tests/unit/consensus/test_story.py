"""What verified evidence tells about an image: every word of the story against the statements that were mined."""

from dataclasses import replace
from functools import cache

import pytest

from facechain.consensus.evidence import Evidence
from facechain.consensus.kinds import Role, StageType
from facechain.consensus.payloads import Attestation, Retract, Stage
from facechain.consensus.proofs import verify_evidence
from facechain.consensus.records import Record
from facechain.consensus.statement import ABSENT
from facechain.consensus.story import Story, tell_story
from facechain.node.evidence import _Collector, build_evidence
from support.chain import ADMIN, PRODUCER, SUBMITTER, make_stage
from support.registry import Registered, make_png, register
from support.statements import revoke

FILES = [make_png(number) for number in range(3)]
RECORD = 1
LATER_BLOCKS = 4
"""Blocks after the batch's, with what happened to it."""


def evidence_of(registered: Registered) -> Evidence:
    """Return verified evidence about record 1."""
    with registered.chain.snapshot() as chain:
        place = next(
            place
            for place in chain.claims_of_pixels(pixels_of(registered), limit=9)
            if place.record == RECORD
        )
        evidence = Evidence.decode(build_evidence(chain, place))
    assert verify_evidence(evidence, network_id=registered.chain.network_id).is_verified
    return evidence


def pixels_of(registered: Registered) -> bytes:
    payload = registered.batch.decode_payload()
    record: Record = payload.records[RECORD]  # type: ignore[union-attr]
    return record.pixel_hash


@cache
def eventful() -> Registered:
    """A batch of which much was said: two attestations, four retractions, a disputed author."""
    registered = register(FILES)
    builder, batch, pixels = registered.builder, registered.batch.id, pixels_of(registered)
    said = [
        builder.statement(
            PRODUCER, Attestation(batch=batch, record=RECORD, pixel_hash=pixels, note="the same")
        ),
        builder.statement(PRODUCER, Attestation(batch=batch, record=0, pixel_hash=pixels, note="another")),
        builder.statement(SUBMITTER, Retract(target=batch, record=RECORD, reason="resembles a person")),
        builder.statement(SUBMITTER, Retract(target=batch, record=2, reason="another record")),
    ]
    registered.mine(said)
    registered.mine([builder.statement(ADMIN, revoke(Role.SUBMITTER, SUBMITTER, suspect_since=2))])
    return registered


@cache
def story() -> Story:
    return tell_story(evidence_of(eventful()))


def test_story_names_place_and_people() -> None:
    registered = eventful()
    block = registered.builder.blocks[registered.builder.tree.active[2].hash]
    told = story()
    assert told.network_name == registered.builder.genesis.name
    assert told.network_id == registered.chain.network_id
    assert told.record.pixel_hash == pixels_of(registered)
    assert told.record_index == RECORD
    assert (told.batch, told.author) == (registered.batch.id, SUBMITTER.public)
    assert told.header == registered.batch.header.batch
    assert (told.height, told.block_hash, told.sealed_by) == (2, block.hash, PRODUCER.public)
    assert told.not_after_ms == block.header.time_ms + registered.builder.params.future_limit_ms
    assert told.claimed_time_ms == registered.batch.header.claimed_time_ms
    tip = registered.builder.tip
    assert (told.tip_height, told.tip_hash) == (tip.header.height, tip.hash)
    assert told.confirmations == LATER_BLOCKS + 1
    assert told.checkpoint_height == 2


def test_story_lists_the_stages_that_lead_to_the_image() -> None:
    told, stages = story(), eventful().stages
    by_type = {kind: statement.id for kind, statement in stages.items()}
    assert {fact.id for fact in told.stages} == set(by_type.values())
    assert all(fact.author == SUBMITTER.public for fact in told.stages)
    assert told.model is not None
    assert told.model.id == by_type[StageType.TRAINING]
    assert told.filter is not None
    assert told.filter.stage.name == "the filter"
    assert [fact.id for fact in told.of_type(StageType.DATASET)] == [by_type[StageType.DATASET]]
    assert told.of_type(StageType.PRIVACY) == ()
    assert told.stage(ABSENT) is None


def test_stages_of_other_models_are_passed_over() -> None:
    """Whoever hands out evidence may add any stage of the chain, which is signed and in a block."""
    registered = register(FILES)
    builder, training = registered.builder, registered.stages[StageType.TRAINING].id
    other = builder.statement(PRODUCER, make_stage(StageType.TRAINING, name="another model"))
    registered.mine([other])
    measured = builder.statement(PRODUCER, make_stage(StageType.PRIVACY, other.id, name="another's privacy"))
    data = builder.statement(PRODUCER, make_stage(StageType.DATASET, training, name="data of nobody"))
    about = builder.statement(PRODUCER, make_stage(StageType.PRIVACY, training, name="this model's privacy"))
    registered.mine([measured, data, about])
    with registered.chain.snapshot() as chain:
        collector = _Collector(chain)
        (place,) = chain.claims_of_pixels(pixels_of(registered), limit=9)
        good = collector.collect(place)
        added = []
        for statement in (other, measured, data):
            at = chain.place_of(statement.id)
            assert at is not None
            added.append(collector._proof(at, statement))
        evidence = replace(
            good, statements=(*good.statements, *added), blocks=tuple(collector.blocks.values())
        )
    assert verify_evidence(evidence, network_id=registered.chain.network_id).is_verified
    told = tell_story(evidence)
    assert told.stages == tell_story(good).stages
    (privacy,) = told.of_type(StageType.PRIVACY)
    assert (privacy.stage.name, privacy.author) == ("this model's privacy", PRODUCER.public)


def test_what_stands_twice_in_evidence_is_told_once() -> None:
    evidence = evidence_of(eventful())
    twice = replace(evidence, statements=evidence.statements * 2)
    assert verify_evidence(twice, network_id=eventful().chain.network_id).is_verified
    assert tell_story(twice) == story()


def test_withdrawn_stages_are_told_with_the_reason() -> None:
    registered = register(FILES)
    builder, stages = registered.builder, registered.stages
    measured = builder.statement(SUBMITTER, make_stage(StageType.PRIVACY, stages[StageType.TRAINING].id))
    registered.mine([measured])
    withdrawn = (stages[StageType.TRAINING].id, stages[StageType.DATASET].id, measured.id)
    registered.mine(
        [
            builder.statement(ADMIN, Retract(target=target, record=None, reason=f"reason {number}"))
            for number, target in enumerate(withdrawn)
        ]
    )
    told = tell_story(evidence_of(registered))
    assert {fact.id: fact.retractions for fact in told.stages if fact.retractions} == {
        target: ((ADMIN.public, f"reason {number}"),) for number, target in enumerate(withdrawn)
    }
    assert set(told.retracted_stage_types) == {StageType.TRAINING, StageType.DATASET, StageType.PRIVACY}
    assert (told.retracted_height, told.record_retractions) == (0, ())
    assert story().retracted_stage_types == ()


def test_story_tells_what_happened_since() -> None:
    told = story()
    assert told.record_retractions == ((SUBMITTER.public, "resembles a person"),)
    assert (told.attestations, told.attested_by_own_author) == ((PRODUCER.public,), False)
    assert told.retracted_height == 0
    assert told.disputed_since == 2


def test_an_attestation_by_the_batchs_own_author_is_no_auditors() -> None:
    registered = register(FILES)
    said = Attestation(batch=registered.batch.id, record=RECORD, pixel_hash=pixels_of(registered), note="")
    registered.mine([registered.builder.statement(SUBMITTER, said)])
    told = tell_story(evidence_of(registered))
    assert (told.attestations, told.attested_by_own_author) == ((), True)
    registered.mine([registered.builder.statement(key, said) for key in (PRODUCER, ADMIN, PRODUCER)])
    told = tell_story(evidence_of(registered))
    assert (told.attestations, told.attested_by_own_author) == ((PRODUCER.public, ADMIN.public), True)


def test_image_older_than_the_dispute_is_not_disputed() -> None:
    registered = register(FILES)
    registered.mine([registered.builder.statement(ADMIN, revoke(Role.SUBMITTER, SUBMITTER, suspect_since=3))])
    assert tell_story(evidence_of(registered)).disputed_since is None


def test_withdrawn_batch_is_told_with_its_height() -> None:
    registered = register(FILES)
    builder = registered.builder
    block = registered.mine(
        [builder.statement(SUBMITTER, Retract(target=registered.batch.id, record=None, reason="all of it"))]
    )
    told = tell_story(evidence_of(registered))
    assert told.retracted_height == block.header.height
    assert told.record_retractions == ()


def test_batch_that_names_no_stage() -> None:
    told = tell_story(evidence_of(register(FILES, with_stages=False, blocks_after=0)))
    assert told.stages == ()
    assert told.model is None
    assert told.filter is None
    assert told.checkpoint_height is None
    assert told.confirmations == 1


def test_evidence_about_no_batch_has_no_story() -> None:
    evidence = evidence_of(eventful())
    stage = next(iter(eventful().stages.values()))
    assert isinstance(stage.decode_payload(), Stage)
    with pytest.raises(ValueError, match="expected one that was verified"):
        tell_story(replace(evidence, batch=replace(evidence.batch, statement=stage)))
