"""Retractions and attestations through a node's real API, and what audits and proofs say of them afterwards."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from facechain.cli.main import run
from facechain.node.keystore import Keystore
from support.api_thread import ApiThread
from support.chain import ADMIN, PRODUCER
from support.commands import Capture, failure, output
from support.submitting import produced, submit

pytestmark = pytest.mark.usefixtures("keeper")


@pytest.fixture
def batch(keeper: ApiThread, data_dir: Path, tmp_path: Path, capsys: Capture) -> dict[str, Any]:
    """A registered batch of four images; its folder and id. The administrator's and another key are at hand."""
    keystore = Keystore(data_dir / "keys")
    keystore.add("admin", ADMIN, None)
    keystore.add("carol", PRODUCER, None)
    path = produced(tmp_path / "batch")
    receipt = output(capsys, *submit(path))
    return {"images": path / "images", "id": receipt["batches"][0]}


def image(batch: dict[str, Any], number: int) -> str:
    return str(batch["images"] / f"{number:08d}.png")


def story(capsys: Capture, subject: str) -> Any:
    return output(capsys, "audit", subject)["claims"][0]["story"]


def refused(capsys: Capture, code: int, *arguments: str) -> str:
    """Return the error of a command that ends with `code`."""
    got, text = failure(capsys, *arguments)
    assert got == code, text
    return text


def retract(key: str, target: str, *more: str) -> tuple[str, ...]:
    return ("retract", target, "--key", key, "--wait", "1", "--reason", "shows a person", *more)


def test_one_image_is_withdrawn_and_the_others_stand(batch: dict[str, Any], capsys: Capture) -> None:
    receipt = output(capsys, *retract("sam", batch["id"], "--record", "2"))
    assert receipt["receipt"] in {"sealed", "confirmed"}
    (reason,) = story(capsys, image(batch, 2))["record_retractions"]
    assert reason["reason"] == "shows a person"
    assert story(capsys, image(batch, 1))["record_retractions"] == []
    assert run(["audit", image(batch, 2)]) == 0
    assert "shows a person" in capsys.readouterr().out


def test_a_batch_is_withdrawn_by_an_administrator(
    batch: dict[str, Any], tmp_path: Path, capsys: Capture
) -> None:
    receipt = output(capsys, *retract("admin", batch["id"]))
    for number in range(4):
        assert story(capsys, image(batch, number))["retracted_height"] == receipt["height"]
    proof = str(tmp_path / "proof")
    assert run(["audit", image(batch, 0), "--proof", proof]) == 0
    capsys.readouterr()
    assert run(["verify", image(batch, 0), proof]) == 0
    assert f"the whole batch, at height {receipt['height']}" in capsys.readouterr().out


def test_an_attestation_is_named_by_every_audit(batch: dict[str, Any], capsys: Capture) -> None:
    receipt = output(
        capsys, "attest", image(batch, 1), "--note", "torch 2.5", "--key", "carol", "--wait", "1"
    )
    assert receipt["receipt"] in {"sealed", "confirmed"}
    found = output(capsys, "audit", image(batch, 1))
    assert "reproduced by an attesting auditor" in found["headline"]
    assert found["claims"][0]["story"]["attested_by"] == [PRODUCER.public.hex()]
    assert story(capsys, image(batch, 0))["attested_by"] == []


def test_what_cannot_be_withdrawn_is_refused(batch: dict[str, Any], capsys: Capture) -> None:
    cases = (
        (("carol", batch["id"]), 5, "unauthorized-author"),
        (("stranger", batch["id"]), 5, "unauthorized-author"),
        (("sam", "ab" * 32), 1, "neither on the chain nor in this node's mempool"),
        (("sam", "ab"), 3, "TARGET: expected 64 hex digits, got 'ab'"),
        (("sam", " a" * 32), 3, "TARGET: expected 64 hex digits"),
        (("sam", batch["id"], "--record", "4"), 3, "option --record: expected 0 to 3, got 4"),
        (("nobody", batch["id"]), 1, "nobody"),
    )
    for arguments, code, text in cases:
        assert text in refused(capsys, code, *retract(*arguments)), arguments
    long = refused(capsys, 3, "retract", batch["id"], "--key", "sam", "--reason", "x" * 513)
    assert "option --reason: expected" in long
    assert story(capsys, image(batch, 2))["record_retractions"] == []


def test_only_the_registered_pixels_are_attested(
    batch: dict[str, Any], tmp_path: Path, capsys: Capture
) -> None:
    with Image.open(image(batch, 1)) as picture:
        changed = picture.copy()
        changed.putpixel((0, 0), (1, 2, 3))
        changed.save(tmp_path / "changed.png")
        picture.resize((8, 8)).rotate(90).save(tmp_path / "other.png")
        Image.new("RGB", (32, 32), (0, 255, 0)).save(tmp_path / "green.png")

    def attest(path: object, *more: str, code: int) -> str:
        return refused(capsys, code, "attest", str(path), "--key", "carol", *more)

    assert "got an altered copy of a registered image" in attest(tmp_path / "changed.png", code=2)
    assert "got an image that is not registered" in attest(tmp_path / "green.png", code=1)
    assert "option --claim: expected 0 to 0, got 1" in attest(image(batch, 1), "--claim", "1", code=3)
    assert "does not exist" in attest(tmp_path / "none.png", code=3)
    assert "option --note: expected" in attest(image(batch, 1), "--note", "x" * 513, code=3)
    assert "unauthorized-author" in refused(capsys, 5, "attest", image(batch, 1), "--key", "stranger")
