import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from facechain.gan.checkpoints import METADATA_KEY
from facechain.gan.device import Device
from facechain.gan.errors import CheckpointError, ConfigError
from facechain.gan.expression.checkpoints import LoadedClassifier, load_classifier, save_classifier
from facechain.gan.expression.faces import LabelledFaces
from facechain.gan.expression.inference import predict


def test_what_is_stored_in_half_is_read_whole_and_predicts_alike(
    classifier: LoadedClassifier, expression_faces: LabelledFaces, cpu: Device, tmp_path: Path
) -> None:
    path = tmp_path / "again.safetensors"
    save_classifier(
        path,
        classifier.module,
        classifier.config,
        images_seen=classifier.images_seen,
        training_digest=classifier.training_digest,
    )
    assert path.read_bytes() == classifier.path.read_bytes()
    kinds = {name: tensor.dtype for name, tensor in load_file(path).items()}
    assert kinds["trunk.0.weight"] == torch.float16
    assert kinds["trunk.1.running_var"] == torch.float32
    again = load_classifier(path)
    assert {value.dtype for value in again.module.parameters()} == {torch.float32}
    first, second = (predict(item.module, expression_faces.images, cpu) for item in (classifier, again))
    assert np.array_equal(first, second)
    assert classifier.training_digest == expression_faces.digest


def with_metadata(source: Path, path: Path, **changes: object) -> Path:
    about = {"format": "facechain-expression-1"} | changes
    save_file(load_file(source), path, metadata={METADATA_KEY: json.dumps(about)})
    return path


def test_files_that_are_no_classifier_are_refused(classifier: LoadedClassifier, tmp_path: Path) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(classifier.path.read_bytes()[:-10])
    for path in (cut, tmp_path / "nothing.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match="cannot read the expression classifier"):
            load_classifier(path)
    other = with_metadata(classifier.path, tmp_path / "a.safetensors", format="facechain-generator-1")
    with pytest.raises(CheckpointError, match="no expression classifier"):
        load_classifier(other)
    classes = with_metadata(classifier.path, tmp_path / "b.safetensors", classes=["glad"])
    with pytest.raises(CheckpointError, match="tells other classes apart"):
        load_classifier(classes)


def test_a_configuration_that_does_not_fit_the_weights_is_refused(
    classifier: LoadedClassifier, expression_run: Path, tmp_path: Path
) -> None:
    config = json.loads((expression_run / "config.json").read_text())
    classes = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
    config["classifier"]["hidden"] = 17
    wrong = with_metadata(classifier.path, tmp_path / "a.safetensors", classes=classes, config=config)
    with pytest.raises(CheckpointError, match="does not fit its own configuration"):
        load_classifier(wrong)
    config["classifier"]["hidden"] = "many"
    broken = with_metadata(classifier.path, tmp_path / "b.safetensors", classes=classes, config=config)
    with pytest.raises(ConfigError, match="hidden"):
        load_classifier(broken)
