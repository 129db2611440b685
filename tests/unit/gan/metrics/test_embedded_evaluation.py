"""The figures that come with the embedded generator, and what card and stage record say of them."""

import hashlib
import json
from typing import Any

from facechain.consensus.kinds import StageType
from facechain.gan.embedded import ASSETS
from facechain.gan.metrics.judgement import Judgement
from facechain.gan.metrics.measure import Measure
from facechain.gan.stages import read_stages

DOCUMENT = ASSETS / "evaluation.json"
TOLD: dict[str, Any] = json.loads(DOCUMENT.read_text())
CARD = (ASSETS / "MODEL_CARD.md").read_text()


def test_the_record_bears_the_documents_hash_and_the_document_the_generators() -> None:
    (record,) = [one for one in read_stages(ASSETS / "stage.json") if one.stage_type is StageType.EVALUATION]
    assert record.artifact == hashlib.sha256(DOCUMENT.read_bytes()).digest()
    generator = hashlib.sha256((ASSETS / "generator.safetensors").read_bytes()).hexdigest()
    assert TOLD["generator_sha256"] == dict(record.details)["generator_sha256"] == generator


def test_the_card_has_the_measured_distances() -> None:
    measures = [Measure.from_json(item) for item in TOLD["measures"]]
    distances = [measure for measure in measures if measure.space and measure.left.startswith("generated")]
    assert {"fd_efficientnet_lite0", "fd_dlib_face"} <= {measure.name for measure in distances}
    for measure in distances:
        (row,) = [line for line in CARD.splitlines() if line.startswith(f"| `{measure.name}` |")]
        shown = float(row.split("**")[1])
        assert abs(shown - measure.value) <= 0.006 * abs(measure.value)
        if measure.low is not None and measure.high is not None:
            low, high = (float(part) for part in row.split("|")[3].split(" to "))
            assert abs(low - measure.low) <= 0.006 * abs(measure.low)
            assert abs(high - measure.high) <= 0.006 * abs(measure.high)


def test_the_card_has_the_discriminators_matrix_and_says_that_its_state_is_kept() -> None:
    told = Judgement.from_json(TOLD["discriminator"])
    assert f"| {told.true_real} | {told.false_fake} |" in CARD
    assert f"| {told.false_real} | {told.true_fake:,} |" in CARD
    assert f"**{told.auc:.3f}** ({told.auc_interval[0]:.3f} to {told.auc_interval[1]:.3f};" in CARD
    assert "**not published**" in CARD
    assert TOLD["training_state"].startswith("not published")
