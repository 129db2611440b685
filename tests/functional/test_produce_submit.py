"""`facechain produce` from the embedded generator to a node's receipt, in one command."""

import json
from pathlib import Path
from typing import Any

import pytest

from facechain.cli.main import run
from facechain.gan.embedded import ASSETS
from facechain.node.keystore import Keystore
from support.api_thread import ApiThread
from support.chain import SUBMITTER, make_genesis

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    monkeypatch.setenv("FACECHAIN_DATA_DIR", str(folder))
    Keystore(folder / "keys").add("sam", SUBMITTER, None)
    return folder


def produce(out: Path, *more: str) -> int:
    size = ("--count", "12", "--clusters", "3", "--micro-batch", "4", "--seed", "1")
    return run(["produce", "--out", str(out), "--key", "sam", "--json", *size, *more])


def test_produce_submits_stages_and_batch(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    with ApiThread(make_genesis(heartbeat_ms=0)) as node:
        monkeypatch.setenv("FACECHAIN_API", node.url)
        monkeypatch.setenv("FACECHAIN_API_TOKEN", node.token)
        assert produce(tmp_path / "batch") == 0
        told: dict[str, Any] = json.loads(capsys.readouterr().out)
    receipt = told["receipt"]
    assert (told["images"], told["filter"], receipt["images"]) == (12, "none", 12)
    assert receipt["complete"]
    labels = [stage["label"] for stage in receipt["stages"]]
    assert labels[:2] == ["dataset", "training"]
    assert labels[-2:] == ["generation", "clustering"]
    assert len(list((data_dir / "images").glob("*/*"))) == 12


def test_the_receipt_puts_faces_and_stages_into_the_report(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    with ApiThread(make_genesis(heartbeat_ms=0)) as node:
        node.node.blocks_after_submit = 1
        monkeypatch.setenv("FACECHAIN_API", node.url)
        monkeypatch.setenv("FACECHAIN_API_TOKEN", node.token)
        assert produce(tmp_path / "batch", "--wait", "1") == 0, capsys.readouterr().err
    receipt = tmp_path / "receipt.json"
    receipt.write_text(capsys.readouterr().out)
    page = tmp_path / "report.html"
    sources = ["--batch", str(tmp_path / "batch"), "--receipt", str(receipt)]
    assert run(["report", str(ASSETS), *sources, "--mining-blocks", "1", "--out", str(page)]) == 0
    told, text = json.loads(receipt.read_text())["receipt"], page.read_text()
    (part,) = told["parts"]
    assert f"{part['id']}, block {part['height']} ({part['level']})" in text
    for stage in told["stages"]:
        assert f"{stage['id']}, block {stage['height']}" in text
    assert "Faces and their blocks" in text
    assert f"{len(told['stages']) + 1} statements, sealed in" in text


def test_a_node_that_is_down_costs_no_batch(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("FACECHAIN_API", "http://127.0.0.1:9")
    assert produce(tmp_path / "batch") == 4
    assert capsys.readouterr().err.count("error:") == 1
    assert len(list((tmp_path / "batch/images").iterdir())) == 12
    assert (data_dir / "outbox").exists()


def test_an_unknown_key_is_found_out_before_anything_is_rendered(tmp_path: Path, data_dir: Path) -> None:
    assert run(["produce", "--out", str(tmp_path / "batch"), "--key", "nobody"]) == 1
    assert not (tmp_path / "batch").exists()
