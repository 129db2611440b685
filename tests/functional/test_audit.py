"""Audits of what was registered through a node's real API, and proof files."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from facechain.cli.main import run
from facechain.node.genesis_file import GenesisDocument, write_document
from facechain.node.keystore import Keystore
from support.api_thread import ApiThread
from support.chain import PRODUCER, SUBMITTER
from support.commands import Capture, failure, output
from support.pictures import altered, make_picture
from support.ports import free_ports
from support.submitting import images, produced, submit


def audit(capsys: Capture, subject: object, *more: str, code: int = 0) -> Any:
    return output(capsys, "audit", str(subject), *more, code=code)


def test_a_registered_image_is_verified_by_file_and_by_both_hashes(
    keeper: ApiThread, tmp_path: Path, capsys: Capture
) -> None:
    path = produced(tmp_path / "batch")
    receipt = output(capsys, *submit(path))
    assert receipt["objects"] == {"sent": 4}
    file = path / "images" / "00000002.png"
    found = audit(capsys, file)
    assert (found["result"], found["headline"]) == ("verified", "claimed synthetic: registered, verified")
    (claim,) = found["claims"]
    assert {layer["status"] for layer in claim["layers"]} == {"passed"}
    story = claim["story"]
    assert (story["record_index"], story["batch"]) == (2, receipt["batches"][0])
    assert story["filter"] == "none"
    assert [stage["stage_type"] for stage in story["stages"]] == [
        "training",
        "clustering",
        "dataset",
        "generation",
    ]
    for name in ("pixel_hash", "file_hash"):
        by_hash = audit(capsys, story[name])
        assert by_hash["result"] == "verified"
        assert by_hash["claims"][0]["story"] == story


def test_an_audit_reads_well(keeper: ApiThread, tmp_path: Path, capsys: Capture) -> None:
    path = produced(tmp_path / "batch")
    output(capsys, *submit(path))
    network = keeper.genesis.network_id.hex()
    assert run(["audit", str(path / "images" / "00000002.png"), "--trust-network", network]) == 0
    page = capsys.readouterr().out
    assert page.startswith("VERIFIED: claimed synthetic: registered, verified\n")
    for text in ("filter: none", "no record", f"{network} (trusted)", "provenance"):
        assert text in page
    assert run(["audit", str(path / "images" / "00000002.png")]) == 0
    assert "by its own word: name it with --trust-network" in capsys.readouterr().out


def test_the_same_pixels_in_another_file_are_said_to_be_re_coded(
    keeper: ApiThread, tmp_path: Path, capsys: Capture
) -> None:
    path = images(tmp_path / "images")
    output(capsys, *submit(path))
    with Image.open(path / "00000001.png") as picture:
        picture.save(tmp_path / "copy.webp", lossless=True)
    found = audit(capsys, tmp_path / "copy.webp")
    assert found["result"] == "verified"
    assert "same pixels, file re-coded" in found["headline"]
    assert found["claims"][0]["layers"][0]["status"] == "differs"


def test_altered_copies_are_recognised_and_strangers_are_not(
    keeper: ApiThread, tmp_path: Path, capsys: Capture
) -> None:
    path = images(tmp_path / "images", 20)
    output(capsys, *submit(path))
    original = make_picture(7)
    (tmp_path / "one.png").write_bytes(altered(original).data)
    with Image.open(path / "00000007.png") as picture:
        picture.save(tmp_path / "copy.jpg", quality=75)
        picture.resize((64, 64)).save(tmp_path / "large.png")
    for name in ("one.png", "copy.jpg", "large.png"):
        found = audit(capsys, tmp_path / name, code=2)
        assert found["result"] == "altered", name
        match = found["match"]
        assert match["pixel_hash"] == original.pixel_hash.hex()
        assert match["recomputed_from_pixels"]
        assert 0 < match["distance"] <= match["threshold"] or name == "large.png"
        assert found["claims"][0]["verified"]
    assert run(["audit", str(tmp_path / "one.png")]) == 2
    page = capsys.readouterr().out
    assert page.startswith(
        f"ALTERED: altered copy of registered image {original.pixel_hash.hex()}, distance "
    )
    assert "the measured false-match rate is 0 of" in page
    (tmp_path / "stranger.png").write_bytes(make_picture(99).data)
    assert audit(capsys, tmp_path / "stranger.png", code=1)["result"] == "not-found"
    assert audit(capsys, "ab" * 32, code=1)["result"] == "not-found"


def test_without_the_image_the_distance_is_the_node_s_word(
    node: ApiThread, tmp_path: Path, capsys: Capture
) -> None:
    node.node.blocks_after_submit = 1
    receipt = output(capsys, *submit(images(tmp_path / "images")))
    assert receipt["objects"]["sent"] == 0
    assert "objects-disabled" in receipt["objects"]["skipped"]
    (tmp_path / "one.png").write_bytes(altered(make_picture(1)).data)
    found = audit(capsys, tmp_path / "one.png", code=2)
    assert (found["result"], found["match"]["recomputed_from_pixels"]) == ("altered", False)


def test_a_private_batch_is_found_by_hash_and_never_by_look(
    keeper: ApiThread, tmp_path: Path, capsys: Capture
) -> None:
    path = images(tmp_path / "images")
    receipt = output(capsys, *submit(path, "--private"))
    assert receipt["objects"] == {"sent": 0, "skipped": "a private batch"}
    assert audit(capsys, path / "00000001.png")["claims"][0]["story"]["public"] is False
    (tmp_path / "one.png").write_bytes(altered(make_picture(1)).data)
    assert audit(capsys, tmp_path / "one.png", code=1)["result"] == "not-found"


def test_all_claims_of_the_same_pixels_are_told(
    keeper: ApiThread, data_dir: Path, tmp_path: Path, capsys: Capture
) -> None:
    Keystore(data_dir / "keys").add("paul", PRODUCER, None)
    path = images(tmp_path / "images")
    output(capsys, *submit(path))
    output(capsys, "submit", "--batch", str(path), "--key", "paul")
    found = audit(capsys, path / "00000001.png")
    assert [claim["story"]["author"] for claim in found["claims"]] == [
        SUBMITTER.public.hex(),
        PRODUCER.public.hex(),
    ]
    assert run(["audit", str(path / "00000001.png")]) == 0
    assert "1 more claims of the same pixels" in capsys.readouterr().out


def test_a_proof_file_is_verified_without_a_node(
    keeper: ApiThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    path = images(tmp_path / "images")
    output(capsys, *submit(path))
    proof, genesis = tmp_path / "x.fcproof", tmp_path / "genesis.json"
    write_document(genesis, GenesisDocument.of(keeper.genesis))
    audit(capsys, path / "00000001.png", "--proof", str(proof), "--network", str(genesis))
    monkeypatch.setenv("FACECHAIN_API", f"http://127.0.0.1:{free_ports(1)[0]}")
    network = ("--trust-network", str(genesis))
    good = output(capsys, "verify", str(path / "00000001.png"), str(proof), *network)
    assert (good["result"], good["network_trusted"]) == ("verified", True)
    other = output(capsys, "verify", str(path / "00000002.png"), str(proof), *network, code=2)
    assert (other["result"], other["failed_layer"]) == ("failed", "pixels")
    foreign = output(capsys, "verify", str(path / "00000001.png"), str(proof), "--network", "ab" * 32, code=2)
    assert foreign["failed_layer"] == "chain"
    assert run(["verify", str(path / "00000001.png"), str(proof)]) == 0
    assert "by its own word: name it with --network)" in capsys.readouterr().out
    assert run(["verify", str(path / "00000002.png"), str(proof), *network]) == 2
    assert capsys.readouterr().out.startswith("FAILED: layer pixels: pixel hash: expected ")
    code, err = failure(capsys, "verify", str(path / "00000001.png"), str(path / "00000001.png"))
    assert (code, "expected a facechain proof file" in err) == (3, True)


def test_a_network_that_is_not_trusted_fails(keeper: ApiThread, tmp_path: Path, capsys: Capture) -> None:
    path = images(tmp_path / "images")
    output(capsys, *submit(path))
    proof = tmp_path / "x.fcproof"
    found = audit(capsys, path / "00000001.png", "--trust-network", "ab" * 32, "--proof", str(proof), code=2)
    assert (found["result"], found["claims"][0]["failed_layer"]) == ("failed", "chain")
    assert not proof.exists()


def test_bad_subjects_and_a_dead_node_are_one_clear_line(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("FACECHAIN_API", f"http://127.0.0.1:{free_ports(1)[0]}")
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "cut.png").write_bytes(make_picture(1).data[:60])
    for subject, expected in (
        ("ab" * 32, 4),
        ("ab" * 31, 3),
        (tmp_path / "text.png", 3),
        (tmp_path / "cut.png", 3),
    ):
        code, err = failure(capsys, "audit", str(subject))
        assert code == expected, err
