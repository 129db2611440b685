import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from facechain.cli.producer import produce
from facechain.gan.device import Device
from facechain.gan.expression.annotation import read_annotation
from facechain.gan.expression.checkpoints import EMBEDDED, load_classifier
from facechain.gan.expression.classes import CLASSES
from facechain.gan.expression.config import FER_WIDE
from facechain.gan.expression.inference import predict
from support.expressions import made_expression

MAX_SHIPPED_BYTES = 8_000_000
CARD = EMBEDDED.with_name("EXPRESSION_CARD.md")


def test_the_embedded_classifier_is_small_and_its_card_names_it() -> None:
    data = EMBEDDED.read_bytes()
    assert len(data) <= MAX_SHIPPED_BYTES
    loaded = load_classifier(None)
    assert loaded.digest == hashlib.sha256(data).digest()
    card = CARD.read_text()
    assert loaded.digest.hex() in re.sub(r"[`\s]+", "", card)
    assert f"**{loaded.images_seen:,}** images seen" in card
    assert loaded.config.preset == FER_WIDE.preset
    assert loaded.config.classifier == FER_WIDE.classifier


def test_the_embedded_classifier_tells_made_patterns_apart_alike_each_time(cpu: Device) -> None:
    module = load_classifier(None).module
    draw = np.random.default_rng(0)
    images = np.stack([made_expression(number % 7, draw, side=48) for number in range(140)])
    first, second = (predict(module, images, cpu) for _ in range(2))
    assert first.tobytes() == second.tobytes()
    assert first.shape == (140, len(CLASSES))
    assert np.allclose(first.sum(1), 1.0, atol=1e-5)
    patterns = first.reshape(20, 7, 7)
    between = patterns.mean(0).std(0).mean()
    within = patterns.std(0).mean()
    assert between > 2 * within


def test_a_batch_is_produced_with_its_expressions(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACECHAIN_DATA_DIR", str(tmp_path / "data"))
    out = tmp_path / "batch"
    arguments = ["--count", "6", "--clusters", "2", "--checkpoint", run_folder, "--no-submit", "--out", out]
    result = CliRunner().invoke(
        produce, [str(item) for item in (*arguments, "--expression", "--seed", "5", "--json")]
    )
    assert result.exit_code == 0, (result.output, result.exception)
    table = read_annotation(out)
    assert table.classifier == load_classifier(None).digest
    records = json.loads((out / "manifest.json").read_text())["objects"]
    assert [image.file_hash.hex() for image in table.images] == [item["name"] for item in records]
    assert [image.name for image in table.images] == sorted(path.name for path in (out / "images").iterdir())
