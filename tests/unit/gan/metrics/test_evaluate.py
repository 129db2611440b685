import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from facechain.cli.evaluate import NETWORKS
from facechain.cli.evaluate import evaluate as command
from facechain.gan.checkpoints import load_generator
from facechain.gan.device import Device
from facechain.gan.errors import CheckpointError, DatasetError
from facechain.gan.metrics.evaluate import EvaluationOptions, evaluate
from facechain.gan.metrics.extractors import NAMES
from facechain.gan.stages import read_stages
from support.faces import made_faces, write_zip

FACES = made_faces(people=20, per_person=3)
OPTIONS = EvaluationOptions(count=12, rounds=2, holdout_share=0.4)


def test_the_document_of_a_run_holds_every_family_and_repeats(run_folder: Path, cpu: Device) -> None:
    loaded = load_generator(run_folder / "generator.safetensors")
    first, second = (evaluate(loaded, FACES, [], options=OPTIONS, device=cpu) for _ in range(2))
    names = {measure.name for measure in first.measures}
    assert {"uaci", "effect_uaci", "pixel_entropy", "effect_skewness"} <= names
    assert first.judgement is not None
    assert first.judgement.to_json() == second.judgement.to_json()  # type: ignore[union-attr]
    assert [m.to_json() for m in first.measures] == [m.to_json() for m in second.measures]
    assert [item.batch for item in first.speed] == [1, 8, 64, 256]
    assert not {image.tobytes() for image in first.unseen} & {
        image.tobytes() for image in made_faces(people=1, per_person=1, seed=9).images
    }
    assert first.generated.shape == (12, 16, 16, 3)


def test_evaluation_refuses_faces_that_cannot_answer(run_folder: Path, cpu: Device, tmp_path: Path) -> None:
    loaded = load_generator(run_folder / "generator.safetensors")
    few = EvaluationOptions(count=12, rounds=0, holdout_share=0.01)
    with pytest.raises(DatasetError, match="too few faces"):
        evaluate(loaded, FACES, [], options=few, device=cpu)
    large = made_faces(people=12, per_person=3, side=32)
    with pytest.raises(DatasetError, match="another size"):
        evaluate(loaded, large, [], options=OPTIONS, device=cpu)
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((run_folder / "generator.safetensors").read_bytes())
    assert evaluate(load_generator(alone), FACES, [], options=OPTIONS, device=cpu).judgement is None


def test_a_training_state_of_another_run_is_not_asked(run_folder: Path, cpu: Device, tmp_path: Path) -> None:
    loaded = load_generator(run_folder / "generator.safetensors")
    other = replace(loaded, config=replace(loaded.config, seed=77))
    with pytest.raises(CheckpointError, match="another run"):
        evaluate(other, FACES, [], options=OPTIONS, device=cpu)


def test_the_command_writes_document_pictures_and_stage(run_folder: Path, tmp_path: Path) -> None:
    data = write_zip(FACES, tmp_path / "faces.zip")
    arguments = ["--checkpoint", run_folder, "--data", data, "--count", 10, "--holdout-share", 0.4]
    arguments += ["--rounds", 0, "--out", tmp_path / "out", "--device", "cpu", "--json"]
    result = CliRunner().invoke(command, [str(item) for item in arguments])
    assert result.exit_code == 0, result.exception
    told = json.loads(result.stdout)
    assert told == json.loads((tmp_path / "out/evaluation.json").read_text())
    (generated, seen) = (m for m in told["measures"] if m["name"] == "fd_efficientnet_lite0")
    assert generated["left"] == "generated (10)"
    assert seen["left"].startswith("training faces")
    assert "biased" in generated["stamp"]
    assert np.isfinite(generated["value"])
    record = read_stages(tmp_path / "out/stage.json")[-1]
    assert record.label == "evaluation"
    assert record.inputs == ("training",)
    assert float(dict(record.details)["fd_efficientnet_lite0"]) == pytest.approx(generated["value"], rel=1e-3)
    for name in ("evaluation-roc.png", "evaluation-histogram.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")


def test_the_options_name_the_networks_of_the_library() -> None:
    assert NETWORKS == NAMES
