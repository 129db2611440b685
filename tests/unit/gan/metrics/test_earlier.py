import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from facechain.cli.evaluate import evaluate as command
from facechain.gan.errors import ReportError
from facechain.gan.metrics.measure import Measure
from facechain.gan.stages import read_stages
from support.faces import made_faces, write_zip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_zip(made_faces(people=20, per_person=3), tmp_path_factory.mktemp("data") / "faces.zip")


def run_command(*arguments: object) -> Result:
    always = ("--holdout-share", 0.4, "--rounds", 0, "--device", "cpu", "--json")
    return CliRunner().invoke(command, [str(item) for item in (*arguments, *always)])


def test_figures_of_an_earlier_evaluation_stay_beside_the_new_ones(
    run_folder: Path, data: Path, tmp_path: Path
) -> None:
    first, second, third = tmp_path / "first", tmp_path / "second", tmp_path / "third"
    started = run_command("--checkpoint", run_folder, "--data", data, "--count", 10, "--out", first)
    assert started.exit_code == 0, started.exception
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((run_folder / "generator.safetensors").read_bytes())
    arguments = ("--checkpoint", alone, "--data", data, "--count", 12, "--no-distances")
    bare = json.loads(run_command(*arguments, "--out", second).stdout)
    assert not any(measure["name"].startswith("fd_") for measure in bare["measures"])
    assert isinstance(bare["discriminator"], str)
    joined = run_command(*arguments, "--out", third, "--beside", first)
    assert joined.exit_code == 0, joined.exception
    told, before = json.loads(joined.stdout), json.loads((first / "evaluation.json").read_text())
    kept = [measure for measure in before["measures"] if measure["name"] == "fd_efficientnet_lite0"]
    assert [m for m in told["measures"] if m["name"] == "fd_efficientnet_lite0"] == kept
    assert [m for m in told["measures"] if m["name"] == "uaci"] == [
        m for m in bare["measures"] if m["name"] == "uaci"
    ]
    assert told["discriminator"] == before["discriminator"]
    record = read_stages(third / "stage.json")[-1]
    assert dict(record.details)["fd_efficientnet_lite0"] == str(round(kept[0]["value"], 4))


def test_an_evaluation_of_something_else_is_not_joined(run_folder: Path, data: Path, tmp_path: Path) -> None:
    arguments = ("--checkpoint", run_folder, "--data", data, "--count", 10, "--no-distances")
    assert run_command(*arguments, "--out", tmp_path / "first").exit_code == 0
    other = run_command(*arguments, "--seed", 1, "--beside", tmp_path / "first")
    assert isinstance(other.exception, ReportError)
    assert "another seed" in str(other.exception)
    (tmp_path / "empty").mkdir()
    assert isinstance(run_command(*arguments, "--beside", tmp_path / "empty").exception, ReportError)
    document = json.loads((tmp_path / "first/evaluation.json").read_text())
    damages: list[dict[str, object]] = [{"measures": [{}]}, {"measures": 3}, {"discriminator": {}}]
    for damage in damages:
        (tmp_path / "first/evaluation.json").write_text(json.dumps(document | damage))
        broken = run_command(*arguments, "--beside", tmp_path / "first")
        assert "damaged" in str(broken.exception)


def test_a_measure_is_read_back_as_it_was_written() -> None:
    whole = Measure(name="fid", value=1.25, low=1.0, high=1.5, left="a (3)", right="b (4)", stamp="biased")
    for measure in (whole, Measure(name="uaci", value=0.5, left="pairs")):
        assert Measure.from_json(measure.to_json()) == measure
