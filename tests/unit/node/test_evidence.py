from dataclasses import replace

import pytest

from facechain.consensus.evidence import Evidence
from facechain.consensus.image import decode_image, file_hash, pixel_hash
from facechain.consensus.kinds import Role, RoleAction, StageType
from facechain.consensus.payloads import Attestation, Retract, RoleProposal
from facechain.consensus.proofs import LAYERS, Status, Subject, Verdict, verify_evidence
from facechain.consensus.story import tell_story
from facechain.node.chain_index import RecordPlace
from facechain.node.evidence import EvidenceUnavailable, build_evidence
from facechain.node.store.schema import Table
from support.chain import ADMIN, SUBMITTER, make_genesis, make_stage
from support.registry import Registered, make_png, register

FILES = [make_png(number) for number in range(5)]


def evidence_of(registered: Registered, record: int = 2) -> Evidence:
    digest = pixel_hash(decode_image(registered.files[record]))
    with registered.chain.snapshot() as chain:
        (place,) = chain.claims_of_pixels(digest, limit=8)
        return Evidence.decode(build_evidence(chain, place))


def subject_of(data: bytes) -> Subject:
    return Subject(pixel_hash=pixel_hash(decode_image(data)), file_hash=file_hash(data))


def verify(registered: Registered, evidence: Evidence, record: int = 2) -> Verdict:
    return verify_evidence(
        evidence, network_id=registered.chain.network_id, subject=subject_of(registered.files[record])
    )


@pytest.mark.parametrize("blocks_after", [0, 1, 2, 14])
@pytest.mark.parametrize("with_stages", [True, False])
def test_evidence_of_a_registered_image_passes_every_layer(*, blocks_after: int, with_stages: bool) -> None:
    registered = register(FILES, blocks_after=blocks_after, with_stages=with_stages)
    evidence = evidence_of(registered)
    verdict = verify(registered, evidence)
    assert [(layer.name, layer.status) for layer in verdict.layers] == [
        (name, Status.PASSED) for name in LAYERS
    ]
    story = tell_story(evidence)
    assert story.confirmations == blocks_after + 1
    assert story.record_index == 2
    assert story.author == SUBMITTER.public
    assert story.checkpoint_height == (story.height if blocks_after else None)
    assert (story.filter is not None) is with_stages
    assert (story.model is not None) is with_stages
    assert len(story.of_type(StageType.DATASET)) == int(with_stages)
    block = registered.builder.blocks[story.block_hash]
    assert story.not_before_ms < block.header.time_ms < story.not_after_ms
    assert not story.retracted_height
    assert story.disputed_since is None


def test_every_record_of_every_batch_size_verifies() -> None:
    for count in (1, 2, 5):
        registered = register(FILES[:count], with_stages=False)
        for record in range(count):
            assert verify(registered, evidence_of(registered, record), record).is_verified


def test_encoding_is_canonical() -> None:
    evidence = evidence_of(register(FILES))
    assert Evidence.decode(evidence.encode()) == evidence


def test_retraction_attestation_and_dispute_are_told() -> None:
    registered = register(FILES)
    builder = registered.builder
    record = evidence_of(registered).record
    statements = [
        builder.statement(
            SUBMITTER,
            Attestation(batch=registered.batch.id, record=2, pixel_hash=record.record[:32], note="again"),
        ),
        builder.statement(SUBMITTER, Retract(target=registered.batch.id, record=2, reason="a mistake")),
        builder.statement(SUBMITTER, Retract(target=registered.batch.id, record=None, reason="all of it")),
        builder.statement(
            ADMIN,
            RoleProposal(
                action=RoleAction.REVOKE,
                role=Role.SUBMITTER,
                subject=SUBMITTER.public,
                encryption_key=None,
                suspect_since=1,
                note="",
            ),
        ),
    ]
    block = registered.mine(statements)
    registered.mine()
    evidence = evidence_of(registered)
    assert verify(registered, evidence).is_verified
    story = tell_story(evidence)
    assert story.retracted_height == block.header.height
    assert story.record_retractions == ((SUBMITTER.public, "a mistake"),)
    assert (story.attestations, story.attested_by_own_author) == ((), True)
    assert story.disputed_since == 1
    assert tell_story(evidence_of(registered, 1)).record_retractions == ()


def test_privacy_measured_after_the_batch_is_told() -> None:
    registered = register(FILES)
    training = registered.stages[StageType.TRAINING].id
    registered.mine(
        [registered.builder.statement(SUBMITTER, make_stage(StageType.PRIVACY, training, auc="0.51"))]
    )
    evidence = evidence_of(registered)
    assert verify(registered, evidence).is_verified
    (privacy,) = tell_story(evidence).of_type(StageType.PRIVACY)
    assert privacy.stage.details == (("auc", "0.51"),)


def test_an_image_of_another_file_or_other_pixels() -> None:
    registered = register(FILES)
    evidence = evidence_of(registered)
    other = subject_of(FILES[0])
    for given, layer in (
        (other, "pixels"),
        (replace(other, file_hash=None), "pixels"),
        (replace(other, pixel_hash=None), "file bytes"),
    ):
        verdict = verify_evidence(evidence, subject=given)
        assert verdict.failure is not None
        assert verdict.failure.name == layer
        assert not verdict.is_recoded
    recoded = replace(subject_of(FILES[2]), file_hash=bytes(32))
    verdict = verify_evidence(evidence, subject=recoded)
    assert verdict.is_verified
    assert verdict.is_recoded


def test_another_network_is_named_by_the_last_layers() -> None:
    registered = register(FILES)
    verdict = verify_evidence(evidence_of(registered), network_id=make_genesis(name="other").network_id)
    assert verdict.failure is not None
    assert verdict.failure.name == "chain"


def test_a_pruned_body_and_a_missing_record_are_refused() -> None:
    registered = register(FILES)
    with registered.chain.snapshot() as chain, pytest.raises(EvidenceUnavailable, match="a record"):
        build_evidence(chain, RecordPlace(2, 0, 99))
    with registered.chain.snapshot() as chain, pytest.raises(EvidenceUnavailable):
        build_evidence(chain, RecordPlace(99, 0, 0))
    block_hash = registered.builder.tree.active[2].hash
    registered.chain.store.transact(lambda writer: writer.delete(Table.BODIES, block_hash))
    with (
        registered.chain.snapshot() as chain,
        pytest.raises(EvidenceUnavailable) as raised,
    ):
        build_evidence(chain, RecordPlace(2, 0, 0))
    assert "keeps all bodies" in raised.value.diagnostics()
