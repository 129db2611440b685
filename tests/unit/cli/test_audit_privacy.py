"""The privacy line of an audit: statement, attacks that succeed, and the number of the other facts."""

import json
from importlib.resources import files

import pytest

from facechain.cli.audit_privacy import privacy_line
from facechain.consensus.kinds import StageType
from support.chain import make_stage

ATTACKS = {
    "mia_image_nearest_auc": "0.4887",
    "mia_image_nearest_auc_interval": "0.4635 to 0.5141",
    "mia_person_discriminator_auc": "0.6168",
    "mia_person_discriminator_auc_interval": "0.5889 to 0.6488",
    "mia_person_discriminator_compared": "742 members, 656 others",
}
GUARANTEE = {"dp_epsilon": "9.87", "dp_delta": "1e-05", "dp_unit": "identity"}


@pytest.mark.parametrize(
    "name, details, line",
    [
        ("no differential privacy", {}, "no differential privacy"),
        (
            "no differential privacy",
            ATTACKS,
            "no differential privacy; attacks that succeed: discriminator by person (AUC 0.6168); 3 more facts with --json",
        ),
        (
            "differential privacy, ε = 9.87",
            GUARANTEE | {key: value for key, value in ATTACKS.items() if "nearest" in key},
            "differential privacy, ε = 9.87, δ = 1e-05 per identity; none of 1 attacks succeeds; 2 more facts with --json",
        ),
        (
            "mine",
            {"mia_image_x_auc": "1", "mia_image_x_auc_interval": "high", "dp_unit": "y"},
            "mine; 3 more facts with --json",
        ),
    ],
)
def test_the_line_of_a_record(name: str, details: dict[str, str], line: str) -> None:
    assert privacy_line(make_stage(StageType.PRIVACY, name=name, **details)) == line


def test_the_embedded_generators_record_is_a_short_line() -> None:
    records = json.loads(files("facechain.gan").joinpath("assets", "stage.json").read_text())["stages"]
    (privacy,) = (record for record in records if record["stage_type"] == "privacy")
    line = privacy_line(make_stage(StageType.PRIVACY, name=privacy["name"], **dict(privacy["details"])))
    assert line.startswith("no differential privacy; attacks that succeed: discriminator by image (AUC 0.6")
    assert len(line) < 250
