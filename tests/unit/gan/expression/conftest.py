"""A finished run of the tiny preset on made patterns, shared by the tests of the classifier."""

from pathlib import Path

import pytest

from facechain.gan.device import Device
from facechain.gan.expression.checkpoints import LoadedClassifier, load_classifier
from facechain.gan.expression.config import TINY
from facechain.gan.expression.faces import LabelledFaces, open_faces
from facechain.gan.expression.runs import ExpressionRun
from support.expressions import expression_files, zipped


@pytest.fixture(scope="session")
def expression_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip in the layout of FER2013: 12 images of each class, two of them PublicTest."""
    return zipped(expression_files(per_class=12), tmp_path_factory.mktemp("data") / "made.zip")


@pytest.fixture(scope="session")
def expression_faces(expression_data: Path) -> LabelledFaces:
    return open_faces(expression_data, resolution=TINY.classifier.resolution)


@pytest.fixture(scope="session")
def expression_run(
    cpu: Device, expression_faces: LabelledFaces, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "expression"
    run = ExpressionRun(folder, config=TINY, faces=expression_faces, device=cpu, resume=False)
    assert run.run(checkpoint_images=960).finished
    return folder


@pytest.fixture
def classifier(expression_run: Path) -> LoadedClassifier:
    return load_classifier(expression_run)
