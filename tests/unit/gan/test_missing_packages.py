"""A package that an extra installs is not there: one kind of error, one exit code, the extra by name."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from facechain.cli.errors import ExitCode
from facechain.gan.cluster_files import write_umap
from facechain.gan.clustering import ClusteringOptions, cluster_images
from facechain.gan.errors import MissingPackageError
from facechain.gan.evaluation import open_extractor
from facechain.gan.imagestore import ImageStore
from facechain.gan.kmeans import Backend, find_centroids
from facechain.gan.metrics.extractors import DlibFace, InceptionV3
from facechain.gan.ray_engine import connected

SEED = bytes(32)


def umap(folder: Path) -> None:
    images = np.random.Generator(np.random.Philox(1)).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    found = cluster_images(images, options=ClusteringOptions(clusters=2, components=2), seed=SEED)
    write_umap(found, folder, seed=SEED)


def faiss(_: Path) -> None:
    find_centroids(np.zeros((4, 2), np.float32), 2, backend=Backend.FAISS, random_state=0)


def ray(_: Path) -> None:
    with connected(workers=1):
        pass


def inception(folder: Path) -> None:
    weights = folder / "weights"
    weights.write_bytes(b"x")
    InceptionV3(weights)


@pytest.mark.parametrize(
    "package, extra, use",
    [
        ("faiss", "faiss", faiss),
        ("umap", "umap", umap),
        ("ray", "ray", ray),
        ("dlib", "face", lambda _: DlibFace()),
        ("torch_fidelity.feature_extractor_inceptionv3", "evaluation", inception),
        ("efficientnet_lite_pytorch", "evaluation", lambda _: open_extractor()),
        ("s3fs", "s3", lambda _: ImageStore("s3://bucket/faces")),
    ],
)
def test_its_extra_is_named_and_the_command_is_refused(
    package: str,
    extra: str,
    use: Callable[[Path], object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError) as found:
        use(tmp_path)
    assert found.value.exit_code == ExitCode.REFUSED
    assert f"facechain-node[{extra}]" in found.value.diagnostics()
