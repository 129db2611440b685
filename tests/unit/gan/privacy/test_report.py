"""The privacy report of run folders: one whose generator memorised, one that was trained privately."""

import json
import math
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from facechain.cli import producer
from facechain.cli.main import run
from facechain.consensus.kinds import StageType
from facechain.gan.checkpoints import load_generator, save_generator
from facechain.gan.datasets import FaceSet, Pixels, open_dataset
from facechain.gan.device import Device
from facechain.gan.embedded import open_generator
from facechain.gan.errors import PrivacyError
from facechain.gan.latents import latent_batch
from facechain.gan.networks import make_generator
from facechain.gan.presets import TINY
from facechain.gan.privacy.attacks import CALIBRATED, NEAREST
from facechain.gan.privacy.report import REPORT_SEED, ReportOptions, report_on
from facechain.gan.runs import TrainingRun
from facechain.gan.stages import anchor, read_stages
from support.faces import made_faces, write_zip

OPTIONS = ReportOptions(generated=96, probes=10_000, false_match_rate=1e-4)
HOLDOUT = 0.5
ROOMY = replace(
    TINY,
    generator=replace(TINY.generator, latent_dimension=128, widths=(64, 32), attention=()),
    total_images=TINY.batch,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_zip(made_faces(people=90, per_person=3), tmp_path_factory.mktemp("data") / "faces.zip")


@pytest.fixture(scope="module")
def faces(data: Path) -> FaceSet:
    return open_dataset(data, resolution=16)


@pytest.fixture(scope="module")
def honest(faces: FaceSet, cpu: Device, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step: it has seen people, and remembers nobody."""
    folder = tmp_path_factory.mktemp("runs") / "honest"
    TrainingRun(folder, config=ROOMY, faces=faces, device=cpu, holdout_share=HOLDOUT).run()
    return folder


def overfit(images: Pixels) -> torch.nn.Module:
    """A generator that draws `images` for the first latents of the report."""
    torch.manual_seed(0)
    module = make_generator(ROOMY.generator)
    latents = torch.from_numpy(latent_batch(REPORT_SEED, range(len(images)), 128))
    wanted = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    adam = torch.optim.Adam(module.parameters(), lr=5e-3)
    for _ in range(200):
        loss = torch.nn.functional.mse_loss(module(latents), wanted)
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
    return module


def copy_of(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    return target


def test_an_overfitted_generator_lights_up(honest: Path, faces: FaceSet, cpu: Device, tmp_path: Path) -> None:
    folder = copy_of(honest, tmp_path / "run")
    trained = TrainingRun(
        tmp_path / "split", config=ROOMY, faces=faces, device=cpu, holdout_share=HOLDOUT
    ).training
    path = folder / "generator.safetensors"
    save_generator(path, overfit(trained.images[:96]), ROOMY, images_seen=TINY.batch)
    report = report_on(folder, faces, device=cpu, options=OPTIONS)
    told = report.to_json()
    assert "nearest generated image" in told["leaks"]  # type: ignore[operator]
    assert report.attacks[0].low > 0.6
    plain, calibrated = (
        next(attack for attack in report.attacks if (attack.name, attack.unit) == (name, "image"))
        for name in (NEAREST, CALIBRATED)
    )
    assert calibrated.low > 0.6
    assert calibrated.auc >= plain.auc
    assert told["bounds"] == []
    assert report.measured["nearer_to_training_than_to_held_out"] > 0.7  # type: ignore[operator]
    assert report.measured["filter_generated_rejected"] > 48  # type: ignore[operator]
    assert told["statement"] == "no differential privacy"


def test_an_honest_generator_does_not(honest: Path, faces: FaceSet, cpu: Device, tmp_path: Path) -> None:
    folder = copy_of(honest, tmp_path / "run")
    report = report_on(folder, faces, device=cpu, options=OPTIONS)
    assert report.to_json()["leaks"] == []
    assert len(report.attacks) == 6
    assert report.missing == ()
    assert report.measured["filter_planted_rejected"] == report.measured["filter_planted"]
    with Image.open(report.sheet) as sheet:
        assert sheet.width > 4 * 2 * 96
    assert report.sheet.relative_to(folder).parts[0] == "operator-only"
    assert stat.S_IMODE(report.sheet.stat().st_mode) == 0o600


def test_the_record_is_appended_once_and_can_be_anchored(
    honest: Path, faces: FaceSet, cpu: Device, tmp_path: Path
) -> None:
    folder = copy_of(honest, tmp_path / "run")
    for generated in (32, 64):
        report_on(folder, faces, device=cpu, options=replace(OPTIONS, generated=generated))
    stages = read_stages(folder / "stage.json")
    assert [stage.stage_type for stage in stages] == [
        StageType.DATASET,
        StageType.TRAINING,
        StageType.PRIVACY,
    ]
    record = dict(stages[-1].details)
    assert stages[-1].inputs == ("training",)
    assert record["generated_images"] == "64"
    assert {
        "mia_image_nearest_auc",
        "mia_image_calibrated_auc",
        "mia_person_calibrated_auc_interval",
        "mia_person_discriminator_tpr_at_fpr_0.01",
        "filter_threshold",
    } <= set(record)
    assert not any("person_" in value for value in record.values())
    assert set(anchor(stages, lambda _: bytes(32))) == {"dataset", "training", "privacy"}
    _, known = open_generator(folder)
    assert known == stages


def test_what_is_missing_is_named(honest: Path, faces: FaceSet, cpu: Device, tmp_path: Path) -> None:
    folder = copy_of(honest, tmp_path / "run")
    shutil.rmtree(folder / "checkpoints")
    (folder / "dataset.json").unlink()
    strict = replace(OPTIONS, generated=16, false_match_rate=1e-7)
    report = report_on(folder, faces, device=cpu, options=strict)
    assert len(report.attacks) == 4
    assert [line.split(":")[0] for line in report.missing] == ["discriminator", "release filter"]
    other = replace(faces, digest="11" * 32)
    with pytest.raises(PrivacyError, match="not the data"):
        report_on(folder, other, device=cpu, options=OPTIONS)
    (folder / "stage.json").unlink()
    with pytest.raises(PrivacyError, match="nothing says"):
        report_on(folder, faces, device=cpu, options=OPTIONS)


def test_a_generator_of_another_step_than_the_discriminator(
    honest: Path, faces: FaceSet, cpu: Device, tmp_path: Path
) -> None:
    folder = copy_of(honest, tmp_path / "run")
    path = folder / "generator.safetensors"
    save_generator(path, load_generator(path).module, ROOMY, images_seen=4_000)
    report = report_on(folder, faces, device=cpu, options=replace(OPTIONS, generated=16))
    assert "another step" in report.missing[0]


def test_private_training_and_its_report_by_command(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    trained = CliRunner().invoke(
        producer.train,
        [
            *(
                "--data",
                str(data),
                "--out",
                str(out),
                "--preset",
                "tiny",
                "--images",
                "32",
                "--device",
                "cpu",
            ),
            *("--dp-epsilon", "9", "--dp-unit", "identity", "--dp-delta", "0.001", "--holdout-share", "0.5"),
            *("--set", "privacy.noise_multiplier=1.5", "--json"),
        ],
    )
    assert trained.exit_code == 0, trained.exception
    assert "private training: R1 and R2 are off" in trained.stderr
    told = json.loads(trained.stdout)
    assert (told["dp_unit"], told["dp_steps"]) == ("identity", 4)
    arguments = [str(out), "--data", str(data), "--generated", "32", "--false-match-rate", "1e-4"]
    reported = CliRunner().invoke(producer.privacy_report, [*arguments, "--device", "cpu"])
    assert reported.exit_code == 0, reported.exception
    assert f"guarantee: ε = {told['dp_epsilon']}, δ = 0.001 per identity" in reported.stdout
    assert "membership inference" in reported.stdout
    # All there is to say fits into one record.
    assert "not measured" not in reported.stdout
    strict, loose = (min(1.0, math.exp(told["dp_epsilon"]) * rate + 0.001) for rate in (0.001, 0.01))
    (bound,) = [
        line for line in reported.stdout.splitlines() if "any attack, by ε and δ per identity" in line
    ]
    assert bound.split("identity")[1].split() == ["at", "most", f"{strict:.2%}", "at", "most", f"{loose:.2%}"]
    privacy = read_stages(out / "stage.json")[-1]
    assert float(dict(privacy.details)["dp_tpr_at_most_at_fpr_0.01"]) == pytest.approx(loose, abs=1e-4)
    assert "outside of the guarantee" in dict(privacy.details)["figures"]
    assert privacy.name == f"differential privacy, ε = {told['dp_epsilon']}"


def test_a_dry_run_shows_the_budget_and_needs_no_data() -> None:
    shown = CliRunner().invoke(producer.train, ["--dry-run", "--dp-epsilon", "10", "--preset", "ppsa-paper"])
    config = json.loads(shown.stdout)["config"]
    assert config["privacy"] | {"epsilon": 10.0, "unit": "image"} == config["privacy"]


def test_errors_end_with_their_exit_codes(honest: Path, data: Path, tmp_path: Path) -> None:
    other = write_zip(made_faces(people=4, per_person=2, seed=5), tmp_path / "other.zip")
    assert run(["privacy-report", str(honest), "--data", str(other)]) == 5
    assert run(["privacy-report", str(tmp_path / "none"), "--data", str(data)]) == 3
    assert run(["train", "--dry-run", "--dp-epsilon", "0"]) == 3
    assert run(["train", "--dry-run", "--dp-unit", "identity"]) == 3
    assert run(["train", "--dry-run", "--dp-epsilon", "5", "--dp-delta", "0.1"]) == 3
    assert run(["train", "--dry-run", "--dp-epsilon", "5", "--preset", "r3-attn-32"]) == 3
