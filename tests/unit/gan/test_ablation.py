import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from facechain.cli.ablation import ablation
from facechain.gan import ablation as study
from facechain.gan.config import override
from facechain.gan.device import Device
from facechain.gan.errors import ConfigError
from facechain.gan.metrics.extractors import open_network
from facechain.gan.presets import PPSA_PAPER, TINY
from support.faces import made_faces, write_zip

FACES = made_faces(people=20, per_person=3)


def test_variants_change_what_their_names_say_and_nothing_else() -> None:
    found = {name: override(PPSA_PAPER, overrides) for name, overrides in study.VARIANTS.items()}
    assert found["as printed"] == PPSA_PAPER
    assert found["no attention"].generator.attention == ()
    assert (found["hard labels"].loss.real_label_low, found["hard labels"].loss.fake_label_high) == (1.0, 0.0)
    assert found["hard labels"].generator == PPSA_PAPER.generator
    assert found["no attention"].loss == PPSA_PAPER.loss


def test_the_command_tabulates_every_variant_and_space_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_zip(FACES, tmp_path / "faces.zip")
    arguments = ["--data", data, "--out", tmp_path / "out", "--preset", "tiny", "--images", 16, "--seeds", 2]
    arguments += ["--count", 12, "--clusters", 3, "--holdout-share", 0.4, "--device", "cpu", "--json"]
    texts = [str(item) for item in arguments]
    first = CliRunner().invoke(ablation, texts)
    assert first.exit_code == 0, first.exception
    told = json.loads(first.stdout)
    assert [row["variant"] for row in told["trainings"]] == list(study.VARIANTS)
    for row in told["trainings"]:
        assert len(row["distances"]) == 2
        assert row["mean"] == pytest.approx(np.mean(row["distances"]), abs=1e-3)
        assert row["deviation_between_seeds"] == pytest.approx(np.std(row["distances"], ddof=1), abs=2e-3)
    assert told["clusterings"][0]["agreement"] > told["clusterings"][2]["agreement"]
    assert [row["dimensions"] for row in told["clusterings"]] == [12, 768, 1280]
    assert told == json.loads((tmp_path / "out/ablation.json").read_text())

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("facechain.gan.ablation.TrainingRun", refuse)
    assert json.loads(CliRunner().invoke(ablation, texts).stdout) == told


def test_a_folder_of_another_budget_is_not_mixed_in(tmp_path: Path, cpu: Device) -> None:
    network = open_network("efficientnet-lite0")
    options = study.AblationOptions(images=8, seeds=1, count=10, clusters=2, holdout_share=0.4)
    study.run_trainings(TINY, FACES, network, tmp_path, options=options, device=cpu)
    other = study.AblationOptions(images=8, seeds=1, count=11, clusters=2, holdout_share=0.4)
    with pytest.raises(ConfigError, match="another budget"):
        study.run_trainings(TINY, FACES, network, tmp_path, options=other, device=cpu)
