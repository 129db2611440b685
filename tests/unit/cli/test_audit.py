"""Audits through nodes that lie: whatever they hand out is verified here."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facechain.cli.audit_report import audit_json, audit_lines
from facechain.cli.audited_image import AuditedImage, open_image
from facechain.cli.auditing import Audit, Result, Unproven, audit_hash, audit_image
from facechain.cli.client_images import ImageClient, LookMatch
from facechain.cli.errors import ExitCode, NotFoundError, UsageError
from facechain.consensus.evidence import Evidence
from facechain.consensus.kinds import Role, RoleAction, StageType
from facechain.consensus.payloads import Attestation, Retract, RoleProposal
from support.api_thread import ApiThread
from support.chain import ADMIN, PRODUCER, SUBMITTER, make_genesis, make_stage
from support.pictures import altered, describe, encode_png, make_picture, picture_batch

PICTURES = [make_picture(number) for number in range(4)]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ApiThread]:
    """Four pictures of one batch with stages, on a node that holds the images."""
    with ApiThread(make_genesis(heartbeat_ms=0), objects=tmp_path / "objects") as thread:
        thread.node.blocks_after_submit = 1
        dataset = put(thread, make_stage(StageType.DATASET, name="faces"))
        training = put(thread, make_stage(StageType.TRAINING, dataset, name="a model", steps="9"))
        put(thread, make_stage(StageType.PRIVACY, training, name="no differential privacy"))
        payload, header = picture_batch(PICTURES, model=training)
        thread._call(thread.node.put(SUBMITTER, payload, header))
        yield thread


def put(thread: ApiThread, payload: Any, key: Any = SUBMITTER) -> bytes:
    statement = asyncio.run_coroutine_threadsafe(thread.node.put(key, payload), thread._loop).result(30)
    found: bytes = statement.id
    return found


def ask(
    node: ApiThread,
    question: Callable[[ImageClient], Coroutine[Any, Any, Audit]],
    client: type[ImageClient] = ImageClient,
) -> Audit:
    async def run() -> Audit:
        async with client(node.url, token=node.token) as opened:
            return await question(opened)

    return asyncio.run(run())


def image(path: Path, data: bytes) -> AuditedImage:
    path.write_bytes(data)
    return open_image(path)


def by_hash(node: ApiThread, digest: bytes, client: type[ImageClient] = ImageClient) -> Audit:
    trusted = node.genesis.network_id
    return ask(node, lambda opened: audit_hash(opened, digest, trusted=trusted), client)


def by_image(node: ApiThread, found: AuditedImage, client: type[ImageClient] = ImageClient) -> Audit:
    trusted = node.genesis.network_id
    return ask(node, lambda opened: audit_image(opened, found, trusted=trusted), client)


class OtherEvidence(ImageClient):
    """Hands out the true evidence of another image."""

    async def evidence(self, digest: bytes, claim: int) -> bytes:
        return await super().evidence(PICTURES[3].pixel_hash, claim)


class ForgedEvidence(ImageClient):
    """Exchanges the pixel hash in the record."""

    async def evidence(self, digest: bytes, claim: int) -> bytes:
        evidence = Evidence.decode(await super().evidence(PICTURES[3].pixel_hash, claim))
        forged = digest + evidence.record.record[32:]
        return replace(evidence, record=replace(evidence.record, record=forged)).encode()

    async def claims(self, digest: bytes) -> int:
        return 1


class NoEvidence(ImageClient):
    """Names a registration that it does not prove."""

    async def evidence(self, digest: bytes, claim: int) -> bytes:
        raise NotFoundError("evidence-unavailable: pruned")


class OtherObject(ImageClient):
    """Hands out another image than the one it names."""

    async def image_object(self, digest: bytes) -> bytes | None:
        return PICTURES[2].data


class FalseLikeness(ImageClient):
    """Calls any image an altered copy of a registered one."""

    async def looks(self, look: bytes, *, max_distance: int, limit: int) -> tuple[LookMatch, ...]:
        return (LookMatch(distance=1, pixel_hash=PICTURES[0].pixel_hash, file_hash=PICTURES[0].file_hash),)


def put_objects(node: ApiThread) -> None:
    async def run() -> None:
        async with ImageClient(node.url, token=node.token) as client:
            for picture in PICTURES:
                await client.put_object(picture.file_hash, picture.data)

    asyncio.run(run())


@pytest.mark.parametrize("client", [OtherEvidence, ForgedEvidence])
def test_false_evidence_fails_and_names_the_layer(node: ApiThread, client: type[ImageClient]) -> None:
    found = by_hash(node, PICTURES[0].pixel_hash, client)
    assert (found.result, found.result.exit_code) == (Result.FAILED, ExitCode.FAILED)
    (claim,) = audit_json(found)["claims"]
    assert claim["failed_layer"] == ("pixels" if client is OtherEvidence else "batch root")
    assert claim["story"] is None
    assert audit_lines(found)[0] == "FAILED: the evidence does not hold"


def test_an_image_that_is_not_registered_cannot_be_made_so(node: ApiThread, tmp_path: Path) -> None:
    stranger = image(tmp_path / "x.png", make_picture(50).data)
    found = by_image(node, stranger, ForgedEvidence)
    assert found.result is Result.FAILED


def test_a_registration_without_evidence_is_no_verdict(node: ApiThread) -> None:
    with pytest.raises(Unproven, match="ask another node"):
        by_hash(node, PICTURES[0].pixel_hash, NoEvidence)


def test_a_likeness_is_computed_again_from_the_registered_pixels(node: ApiThread, tmp_path: Path) -> None:
    put_objects(node)
    copy = image(tmp_path / "copy.png", altered(PICTURES[1]).data)
    found = by_image(node, copy)
    assert found.result is Result.ALTERED
    assert found.likeness is not None
    assert (found.likeness.pixel_hash, found.likeness.recomputed) == (PICTURES[1].pixel_hash, True)
    assert by_image(node, copy, OtherObject).result is Result.NOT_FOUND
    stranger = image(tmp_path / "x.png", make_picture(50).data)
    assert by_image(node, stranger, FalseLikeness).result is Result.NOT_FOUND
    assert by_image(node, stranger).result is Result.NOT_FOUND


def test_a_picture_of_one_colour_is_no_copy_of_another(node: ApiThread, tmp_path: Path) -> None:
    red, blue = (
        describe(encode_png(np.full((32, 32, 3), colour, np.uint8))) for colour in ((255, 0, 0), (0, 0, 255))
    )
    payload, header = picture_batch([red])
    node._call(node.node.put(SUBMITTER, payload, header))
    assert red.look == blue.look
    assert by_hash(node, red.pixel_hash).result is Result.VERIFIED
    assert by_image(node, image(tmp_path / "blue.png", blue.data)).result is Result.NOT_FOUND


def test_the_story_is_told_whole(node: ApiThread) -> None:
    picture = PICTURES[2]
    batch = by_hash(node, picture.pixel_hash).claims[0].story
    assert batch is not None
    put(node, Attestation(batch=batch.batch, record=2, pixel_hash=picture.pixel_hash, note=""))
    put(node, Retract(target=batch.batch, record=2, reason="wrong file"))
    found = by_hash(node, picture.pixel_hash)
    content = audit_json(found)["claims"][0]["story"]
    assert (content["attested_by"], content["attested_by_own_author"]) == ([], True)
    assert content["record_retractions"] == [{"author": SUBMITTER.public.hex(), "reason": "wrong file"}]
    assert [stage["stage_type"] for stage in content["stages"]] == ["training", "dataset", "privacy"]
    page = "\n".join(audit_lines(found))
    assert "claimed synthetic: registered, verified; RETRACTED" in page
    assert "attested by its own author, which proves nothing" in page
    for text in ("no differential privacy", "faces", "a model (steps 9)", "wrong file", "none covers it yet"):
        assert text in page
    put(node, Attestation(batch=batch.batch, record=2, pixel_hash=picture.pixel_hash, note=""), ADMIN)
    found = by_hash(node, picture.pixel_hash)
    content = audit_json(found)["claims"][0]["story"]
    assert (content["attested_by"], content["attested_by_own_author"]) == ([ADMIN.public.hex()], True)
    page = "\n".join(audit_lines(found))
    assert "claimed synthetic and reproduced by an attesting auditor: registered, verified; RETRACTED" in page
    assert f"attested by {ADMIN.public.hex()}, its own author, which proves nothing" in page
    put(node, Retract(target=batch.batch, record=None, reason="all"))
    put(
        node,
        RoleProposal(
            action=RoleAction.REVOKE,
            role=Role.SUBMITTER,
            subject=SUBMITTER.public,
            encryption_key=None,
            suspect_since=1,
            note="",
        ),
        ADMIN,
    )
    page = "\n".join(audit_lines(by_hash(node, PICTURES[0].pixel_hash)))
    assert "RETRACTED; DISPUTED KEY" in page
    assert "the whole batch, at height" in page
    assert "from height 1" in page


def test_a_withdrawn_model_and_the_words_of_others_are_told(node: ApiThread) -> None:
    found = by_hash(node, PICTURES[0].pixel_hash).claims[0].story
    assert found is not None
    assert found.model is not None
    put(node, make_stage(StageType.PRIVACY, found.model.id, name="leaks", images="9"), PRODUCER)
    put(node, Retract(target=found.model.id, record=None, reason="knows its training data"))
    audit = by_hash(node, PICTURES[0].pixel_hash)
    reason = {"author": SUBMITTER.public.hex(), "reason": "knows its training data"}
    content = audit_json(audit)["claims"][0]["story"]
    assert content["model"]["retractions"] == [reason]
    assert [stage["retractions"] for stage in content["stages"]] == [[reason], [], [], []]
    lines = audit_lines(audit)
    assert lines[0].endswith("registered, verified; RETRACTED TRAINING STAGE")
    page = "\n".join(lines)
    assert f"a model (steps 9); RETRACTED: knows its training data ({SUBMITTER.public.hex()})" in page
    assert f"leaks; 1 more fact with --json, said by {PRODUCER.public.hex()}" in page
    assert "no differential privacy\n" in page


def test_files_that_cannot_be_registered_still_have_a_look(tmp_path: Path) -> None:
    from PIL import Image

    with Image.open(image(tmp_path / "a.png", PICTURES[0].data).path) as picture:
        picture.save(tmp_path / "a.jpg")
        picture.convert("RGBA").save(tmp_path / "alpha.png")
    for name in ("a.jpg", "alpha.png"):
        found = open_image(tmp_path / name)
        assert found.pixel_hash is None
        assert found.note
        assert len(found.look) == 32


@pytest.mark.parametrize("data", [b"", b"hello", PICTURES[0].data[:70], b"\xff\xd8\xff\xe0 no jpeg"])
def test_what_is_no_image_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(UsageError):
        image(tmp_path / "x.png", data)
