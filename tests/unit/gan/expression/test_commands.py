import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from facechain.cli.errors import ExitCode
from facechain.cli.expression import PRESETS, expression
from facechain.cli.main import run
from facechain.gan.batchfolder import BatchFacts, encode_images, write_batch
from facechain.gan.expression import config
from facechain.gan.expression.classes import CLASSES
from facechain.gan.expression.runs import DEFAULT_CHECKPOINT_IMAGES
from support.deadline import wait_until
from support.expressions import expression_files, grey_png, made_expression, table, unpacked, zipped

LAYOUT = Path(__file__).parents[4] / ".layout"
DEADLINE_SECONDS = 60
MEASURED = {"n", "accuracy", "macro_f1"}


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(expression, [str(item) for item in arguments])


def done(*arguments: object) -> dict[str, object]:
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    told: dict[str, object] = json.loads(result.stdout)
    return told


def make_batch(path: Path, *, count: int = 5) -> Path:
    """A produced batch of made patterns."""
    draw = np.random.default_rng(3)
    images = np.stack([made_expression(number % 7, draw) for number in range(count)])
    encoded = encode_images(range(count), np.repeat(images[..., None], 3, axis=3))
    facts = BatchFacts(
        public=True,
        seed=bytes(32),
        micro_batch=64,
        stages=(),
        model=None,
        clustering=None,
        filter=None,
        store=None,
    )
    chart = grey_png(made_expression(0, draw))
    return write_batch(
        path,
        encoded,
        labels=[0] * count,
        facts=facts,
        fill=lambda folder: unpacked({"clustering/chart.png": chart}, folder),
    )


def test_the_options_name_what_the_producer_has() -> None:
    assert tuple(config.PRESETS) == PRESETS
    train = expression.commands["train"]
    defaults = {option.name: option.default for option in train.params}
    assert defaults["checkpoint_images"] == DEFAULT_CHECKPOINT_IMAGES


def test_evaluate_ends_with_one_line_of_json(expression_data: Path, expression_run: Path) -> None:
    result = invoke("evaluate", "--data", expression_data, "--classifier", expression_run, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    told = json.loads(result.stdout.splitlines()[-1])
    assert list(told)[:3] == ["n", "accuracy", "macro_f1"]
    assert told["n"] == 14 == sum(map(sum, told["confusion"]))
    assert told["accuracy"] > 0.8
    assert told["accuracy_interval_95"][0] < told["accuracy"] <= told["accuracy_interval_95"][1]
    assert told["chose_the_checkpoint"] is True
    assert "found 14 PublicTest, 70 Training; 12 angry" in result.stderr
    assert "left out: 70 Training" in result.stderr
    again = invoke("evaluate", "--data", expression_data, "--classifier", expression_run, "--json")
    assert again.stdout == result.stdout


def test_evaluate_tells_people_each_class_and_every_confusion(
    expression_data: Path, expression_run: Path
) -> None:
    chosen = ("--usage", "Training", "--usage", "PublicTest")
    result = invoke("evaluate", "--data", expression_data, "--classifier", expression_run, *chosen)
    assert result.exit_code == 0, result.exception
    assert "label \\ predicted" in result.stdout
    assert "these images chose the checkpoint" in result.stdout
    assert all(result.stdout.count(name) >= 2 for name in CLASSES)
    assert "left out" not in result.stderr


def test_unseen_faces_in_class_folders_of_another_size_are_evaluated(
    tmp_path: Path, expression_run: Path
) -> None:
    files = expression_files(per_class=2, side=64, seed=9)
    del files["labels.csv"]
    told = done("evaluate", "--data", unpacked(files, tmp_path), "--classifier", expression_run)
    assert told["n"] == 14
    assert told["usage"] == {"": 14}
    assert told["chose_the_checkpoint"] is False


def test_images_that_training_has_seen_are_counted_and_left_out_of_a_second_score(
    tmp_path: Path, expression_run: Path
) -> None:
    files = expression_files(per_class=3, selection=2)
    files["happy/0000_3.png"] = files["happy/0002_3.png"]
    data = zipped(files, tmp_path / "a.zip")
    told = done("evaluate", "--data", data, "--classifier", expression_run)
    fresh = told["without_training_copies"]
    assert isinstance(fresh, dict)
    assert (told["n"], fresh["n"]) == (14, 13)
    text = invoke("evaluate", "--data", data, "--classifier", expression_run).stdout
    assert "1 of these images are also in Training" in text
    plain = zipped(expression_files(per_class=3, selection=2), tmp_path / "b.zip")
    assert "without_training_copies" not in done("evaluate", "--data", plain, "--classifier", expression_run)


def test_training_faces_alone_are_evaluated_when_asked_for_only(tmp_path: Path, expression_run: Path) -> None:
    path = zipped(expression_files(per_class=1, selection=0), tmp_path / "a.zip")
    refused = invoke("evaluate", "--data", path, "--classifier", expression_run)
    assert "--usage Training" in str(refused.exception)
    told = done("evaluate", "--data", path, "--classifier", expression_run, "--usage", "Training")
    assert told["n"] == 7


def test_a_usage_that_does_not_occur_is_refused(expression_data: Path, expression_run: Path) -> None:
    result = invoke("evaluate", "--data", expression_data, "--classifier", expression_run, "--usage", "Test")
    assert "expected images of usage Test, got 14 PublicTest, 70 Training" in str(result.exception)


def test_synthetic_faces_get_a_distribution_and_never_an_accuracy(
    tmp_path: Path, expression_run: Path
) -> None:
    batch = make_batch(tmp_path / "batch")
    refused = invoke("evaluate", "--data", batch, "--classifier", expression_run)
    assert "holds synthetic faces" in str(refused.exception)
    told = done("predict", batch, "--classifier", expression_run)
    assert told["n"] == 5
    assert not MEASURED & (set(told) - {"n"})
    classes = told["classes"]
    assert isinstance(classes, dict)
    assert sum(item["top"] for item in classes.values()) == 5
    text = invoke("predict", batch, "--classifier", expression_run).stdout
    assert "accuracy:" not in text
    assert "no accuracy exists" in text
    assert "mean confidence" in text


def test_predict_takes_files_folders_and_zips_together(tmp_path: Path, expression_run: Path) -> None:
    draw = np.random.default_rng(0)
    file = tmp_path / "one.png"
    file.write_bytes(grey_png(made_expression(1, draw)))
    folder = unpacked({"x/two.png": grey_png(made_expression(2, draw))}, tmp_path / "folder")
    archive = zipped({"three.png": grey_png(made_expression(3, draw))}, tmp_path / "a.zip")
    out = tmp_path / "out.jsonl"
    told = done("predict", file, folder, archive, "--classifier", expression_run, "--out", out)
    assert (told["n"], told["written"]) == (3, [str(out)])
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert lines[0]["count"] == 3
    assert [line["file"] for line in lines[1:]] == ["one.png", "x/two.png", "three.png"]
    assert [line["expression"] for line in lines[1:]] == [CLASSES[1], CLASSES[2], CLASSES[3]]
    again = tmp_path / "again.jsonl"
    done("predict", file, folder, archive, "--classifier", expression_run, "--out", again)
    assert again.read_bytes() == out.read_bytes()


def test_a_batch_is_annotated_and_the_annotation_checked(tmp_path: Path, expression_run: Path) -> None:
    batch = make_batch(tmp_path / "batch")
    done("predict", batch, "--classifier", expression_run, "--annotate")
    assert done("show", batch)["n"] == 5
    assert done("show", batch / "expressions.jsonl")["n"] == 5
    other = make_batch(tmp_path / "other", count=4)
    (batch / "expressions.jsonl").rename(other / "expressions.jsonl")
    assert "speaks of other images" in str(invoke("show", other).exception)
    (other / "manifest.json").write_text("{}")
    assert "is no manifest" in str(invoke("show", other).exception)


def test_a_zipped_batch_counts_its_images_alone(tmp_path: Path, expression_run: Path) -> None:
    batch = make_batch(tmp_path / "batch")
    files = {path.relative_to(batch).as_posix(): path.read_bytes() for path in batch.rglob("*.*")}
    told = done("predict", zipped(files, tmp_path / "batch.zip"), "--classifier", expression_run)
    assert told["n"] == 5


def test_only_a_whole_batch_is_annotated(tmp_path: Path, expression_run: Path) -> None:
    batch = make_batch(tmp_path / "batch")
    (batch / "images/00000002.png").unlink()
    refused = invoke("predict", batch, "--annotate", "--classifier", expression_run)
    assert "is not as it was produced" in str(refused.exception)
    assert not (batch / "expressions.jsonl").exists()
    plain = invoke("predict", batch / "images", "--annotate", "--classifier", expression_run)
    assert "expected one batch folder" in str(plain.exception)


def test_train_prints_its_configuration_without_touching_the_data(tmp_path: Path) -> None:
    result = invoke(
        *("train", "--data", tmp_path / "nothing", "--out", tmp_path / "run"),
        *("--preset", "tiny", "--images", 640, "--decay-share", 0.5, "--seed", 3, "--dry-run"),
    )
    found = config.from_json(result.stdout)
    assert (found.total_images, found.seed, found.preset) == (640, 3, "tiny")
    assert found.decay_share == 0.5
    assert not (tmp_path / "run").exists()


def start_training(data: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            *(sys.executable, "-c", "from facechain.cli.main import main; main()", "expression", "train"),
            *("--data", str(data), "--out", str(out), "--preset", "tiny", "--device", "cpu", "--json"),
            *more,
        ],
        env=os.environ | {"PYTHONPATH": str(LAYOUT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def test_a_killed_training_resumes_and_sigterm_leaves_a_checkpoint(
    tmp_path: Path, expression_data: Path
) -> None:
    length = ("--images", "3840000", "--checkpoint-images", "320")
    process = start_training(expression_data, tmp_path / "run", *length)

    def states() -> list[Path]:
        assert process.poll() is None, "training ended before its first checkpoint"
        return sorted((tmp_path / "run").glob("checkpoints/*/train_state.pt"))

    wait_until(states, seconds=DEADLINE_SECONDS, what="a checkpoint")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=DEADLINE_SECONDS)
    assert not (tmp_path / "run/expression.safetensors").exists()
    before = states_of(tmp_path / "run")
    process = start_training(expression_data, tmp_path / "run", *length, "--resume")
    wait_until(
        lambda: states_of(tmp_path / "run") > before, seconds=DEADLINE_SECONDS, what="a new checkpoint"
    )
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=DEADLINE_SECONDS)
    told = json.loads(output)
    assert (process.returncode, told["finished"]) == (0, False)
    assert told["images_seen"] > int(before[-1])
    assert Path(told["classifier"]).is_file()


def states_of(folder: Path) -> list[str]:
    """Names of the checkpoints that hold a classifier."""
    return sorted(path.parent.name for path in folder.glob("checkpoints/*/expression.safetensors"))


@pytest.mark.parametrize(
    "arguments, told",
    [
        (("evaluate", "--data", "{}/nothing.zip"), "data set not found"),
        (("evaluate", "--data", "{}/bad.zip"), "not a data set"),
        (("evaluate", "--data", "{}/bored"), "bored/a.png has no known class"),
        (("predict", "{}/bad.zip"), "not a data set"),
        (("predict", "{}/empty"), "no images in the data set"),
        (("predict",), "Missing argument"),
        (("train", "--data", "{}/bored", "--out", "{}/run", "--preset", "tiny"), "no known class"),
        (("show", "{}/bad.zip"), "line 1: expected JSON"),
    ],
)
def test_bad_input_ends_in_one_line_and_the_right_code(
    *,
    arguments: tuple[str, ...],
    told: str,
    tmp_path: Path,
    expression_run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 no archive")
    rows = table([["file", "name"]])
    unpacked(
        {"bored/a.png": grey_png(np.zeros((24, 24), dtype=np.uint8)), "labels.csv": rows}, tmp_path / "set"
    )
    (tmp_path / "set").rename(tmp_path / "bored")
    with_classifier = ("--classifier", str(expression_run)) if arguments[0] in ("evaluate", "predict") else ()
    given = ["expression", *(item.format(tmp_path) for item in arguments), *with_classifier]
    assert run(given) == ExitCode.USAGE
    err = capsys.readouterr().err
    assert told in err
    assert err.strip().splitlines()[-1].startswith("error: ")
