import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from facechain.cli import producer, producer_train
from facechain.cli.main import run
from facechain.gan.checkpoints import newest_state
from facechain.gan.device import CHOICES
from facechain.gan.errors import ConfigError
from facechain.gan.presets import PRESETS
from facechain.gan.run_lock import held
from facechain.gan.runs import DEFAULT_CHECKPOINT_IMAGES, DEFAULT_HOLDOUT_SHARE
from support.deadline import wait_until
from support.faces import made_faces, write_folder, write_zip

LAYOUT = Path(__file__).parents[3] / ".layout"
DEADLINE_SECONDS = 60


def invoke(command: str, *arguments: object) -> Result:
    return CliRunner().invoke(getattr(producer, command), [str(item) for item in arguments])


def done(command: str, *arguments: object) -> dict[str, object]:
    result = invoke(command, *arguments, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    told: dict[str, object] = json.loads(result.stdout)
    return told


def start_training(data: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from facechain.cli.main import main; main()",
            "train",
            *("--data", str(data), "--out", str(out), "--preset", "tiny", "--device", "cpu", "--json"),
            *more,
        ],
        env=os.environ | {"PYTHONPATH": str(LAYOUT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def wait_for_state(out: Path, process: subprocess.Popen[bytes]) -> None:
    def written() -> Path | None:
        assert process.poll() is None, "training ended before its first checkpoint"
        return newest_state(out)

    wait_until(written, seconds=DEADLINE_SECONDS, what="a checkpoint")


def test_a_killed_training_resumes_to_the_same_generator(tmp_path: Path) -> None:
    data = write_zip(made_faces(people=8, per_person=4), tmp_path / "faces.zip")
    length = ("--images", "960", "--checkpoint-images", "320")
    killed = start_training(data, tmp_path / "killed", *length)
    wait_for_state(tmp_path / "killed", killed)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=DEADLINE_SECONDS)
    assert not (tmp_path / "killed/generator.safetensors").exists()
    resumed = start_training(data, tmp_path / "killed", *length, "--resume")
    whole = start_training(data, tmp_path / "whole", *length)
    for process in (resumed, whole):
        output, _ = process.communicate(timeout=DEADLINE_SECONDS)
        assert process.returncode == 0
        assert json.loads(output)["finished"]
    assert (tmp_path / "killed/generator.safetensors").read_bytes() == (
        tmp_path / "whole/generator.safetensors"
    ).read_bytes()


def test_sigterm_ends_training_with_a_checkpoint(tmp_path: Path) -> None:
    data = write_zip(made_faces(people=8, per_person=4), tmp_path / "faces.zip")
    process = start_training(data, tmp_path / "run", "--images", "400000", "--checkpoint-images", "800")
    wait_for_state(tmp_path / "run", process)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0
    told = json.loads(output)
    assert not told["finished"]
    assert told["images_seen"] > 0
    assert (tmp_path / "run/generator.safetensors").exists()


def test_a_folder_that_another_process_trains_into_is_refused(tmp_path: Path) -> None:
    data = write_zip(made_faces(people=8, per_person=4), tmp_path / "faces.zip")
    first = start_training(data, tmp_path / "run", "--images", "1000000", "--checkpoint-images", "16")
    try:
        wait_for_state(tmp_path / "run", first)
        second = start_training(data, tmp_path / "run", "--resume")
        second.communicate(timeout=DEADLINE_SECONDS)
        assert second.returncode == 3
        with pytest.raises(ConfigError, match="no other process"), held(tmp_path / "run"):
            pass
        assert first.poll() is None, "the training that was there first goes on"
    finally:
        first.kill()
        first.communicate()
    with held(tmp_path / "run"):
        pass


def test_from_faces_to_a_batch_folder(tmp_path: Path) -> None:
    data = write_folder(made_faces(people=150, per_person=4), tmp_path / "faces")
    trained = done("train", "--data", data, "--out", tmp_path / "run", "--preset", "tiny", "--images", "160")
    assert trained["images_seen"] == 160
    assert float(str(trained["images_per_second"])) > 0
    images = done(
        "generate",
        "--count",
        "20",
        "--seed",
        "1",
        "--out",
        tmp_path / "out",
        "--checkpoint",
        tmp_path / "run",
    )
    assert images["images"] == 20
    clusters = done(
        "cluster", "--images", tmp_path / "out", "--out", tmp_path / "clusters", "--clusters", "5"
    )
    assert clusters["clusters"] == 5
    stages = json.loads((tmp_path / "clusters/stage.json").read_text())["stages"]
    assert [stage["label"] for stage in stages] == ["dataset", "training", "generation", "clustering"]
    batch = done(
        "produce",
        *("--count", "20", "--clusters", "5", "--seed", "1", "--out", tmp_path / "batch", "--no-submit"),
        *("--checkpoint", tmp_path / "run", "--store", tmp_path / "store"),
        *("--reference", data, "--holdout-share", "0.4", "--false-match-rate", "1e-4"),
    )
    assert batch["filter"] == "top-1-similarity"
    assert batch["images"] == 20
    assert len(list((tmp_path / "store").glob("*/*"))) == 20


def test_produce_uses_the_embedded_generator_by_default(tmp_path: Path) -> None:
    batch = done(
        "produce",
        *("--count", "8", "--clusters", "2", "--out", tmp_path / "batch", "--no-submit"),
        *("--store", tmp_path / "store", "--micro-batch", "8"),
    )
    assert batch["filter"] == "none"
    told = json.loads((tmp_path / "batch/batch.json").read_text())
    assert (told["width"], told["model"]) == (32, "training")


def test_paper_preset_prints_its_deviations(tmp_path: Path) -> None:
    data = write_folder(made_faces(people=40, per_person=4, side=32), tmp_path / "faces")
    result = invoke(
        "train", "--data", data, "--out", tmp_path / "run", "--preset", "ppsa-paper", "--images", "128"
    )
    assert result.exit_code == 0, result.exception
    assert result.stderr.count("deviation from the paper:") >= 5
    assert "28x28" in result.stderr


def test_dry_run_prints_the_configuration_and_writes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = invoke("train", "--out", out, "--seed", "9", "--set", "loss.penalty_start=0.25", "--dry-run")
    plan = json.loads(result.stdout)
    assert plan["config"]["seed"] == 9
    assert plan["config"]["loss"]["penalty_start"] == 0.25
    assert plan["steps"] == plan["config"]["total_images"] // plan["config"]["batch"]
    assert plan["gflop_per_image"] > 1
    assert not out.exists()


@pytest.mark.parametrize(
    "command, arguments",
    [
        ("train", ["--data", "missing", "--out", "run"]),
        ("train", ["--data", "empty", "--out", "run", "--preset", "tiny"]),
        ("train", ["--data", "missing"]),
        ("train", ["--dry-run", "--set", "batch=many"]),
        ("generate", ["--count", "1", "--out", "out", "--checkpoint", "empty"]),
        ("cluster", ["--images", "empty", "--out", "out"]),
        ("produce", ["--out", "batch"]),
        ("produce", ["--out", "batch", "--no-submit", "--model-statement", "abc"]),
        ("produce", ["--out", "batch", "--no-submit", "--count", "3", "--store", "store"]),
    ],
)
def test_bad_input_ends_in_one_line_and_exit_code_3(
    command: str,
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert run([command, *arguments]) == 3
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if not line.startswith("no reference faces")]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert not (tmp_path / "batch").exists()


def test_options_agree_with_the_library() -> None:
    assert set(producer_train.PRESETS) == set(PRESETS)
    defaults = {option.name: option.default for option in producer.train.params}
    assert defaults["checkpoint_images"] == DEFAULT_CHECKPOINT_IMAGES
    assert defaults["holdout_share"] == DEFAULT_HOLDOUT_SHARE
    (device,) = (option for option in producer.train.params if option.name == "device")
    assert tuple(device.type.choices) == CHOICES  # type: ignore[attr-defined]


def test_importing_the_commands_loads_nothing_heavy() -> None:
    code = (
        "import sys, facechain.cli.producer; "
        "print([m for m in ('torch', 'numpy', 'sklearn', 'PIL', 'tqdm') if m in sys.modules])"
    )
    done_process = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(LAYOUT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done_process.stdout.strip() == "[]"
