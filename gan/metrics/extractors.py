"""Feature networks, each under its own name: figures of one do not compare with figures of another.

The canonical Inception weights are taken from a path or from torch's cache and never downloaded. Only with them is a
distance called FID.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..datasets import Pixels
from ..errors import ConfigError, MissingPackageError
from ..evaluation import RESIZER as EFFICIENTNET_RESIZER
from ..evaluation import extract_features, open_extractor

EFFICIENTNET = "efficientnet-lite0"
INCEPTION = "inception"
DLIB_FACE = "dlib-face"
NAMES = (EFFICIENTNET, INCEPTION, DLIB_FACE)

CANONICAL_INCEPTION = "6726825d"
"""First digits of the SHA-256 of torch-fidelity's conversion of the 2015 TensorFlow weights."""
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_RESIZER = "tensorflow1-bilinear-299"
INCEPTION_BATCH = 32
DLIB_PACKAGE = "face_recognition_models"
DLIB_FILE = "models/dlib_face_recognition_resnet_model_v1.dat"
DLIB_SIDE = 150
DLIB_RESIZER = "pillow-bicubic-150"
DLIB_BATCH = 16

Floats = NDArray[np.float64]
OnImages = Callable[[int], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """What a network says about N images."""

    pooled: Floats
    """(N, D)."""
    logits: Floats | None = None
    """(N, C) of a classifier, for the Inception score."""


class FeatureNetwork(Protocol):
    """A frozen network."""

    name: str
    """As in the names of the figures: `fd_NAME`."""
    canonical: bool
    """Whether figures may be called FID, KID and Inception score."""
    resizer: str
    weights_sha256: str

    def features(self, images: Pixels, on_images: OnImages = ...) -> Features:
        """Features of (N, H, W, 3) uint8 images."""


def open_network(name: str, *, inception_weights: Path | None = None) -> FeatureNetwork:
    """Load a network by one of `NAMES`.

    Raises:
        ConfigError: unknown, not installed, or its weights are not at hand.
    """
    if name == EFFICIENTNET:
        return EfficientNetLite0()
    if name == INCEPTION:
        return InceptionV3(inception_weights or _cached_inception())
    if name == DLIB_FACE:
        return DlibFace()
    raise ConfigError("unknown feature network", expected=", ".join(NAMES), got=name)


class EfficientNetLite0:
    """ImageNet features, 1280 values; weights from the package index."""

    name = "efficientnet_lite0"
    canonical = False
    resizer = EFFICIENTNET_RESIZER

    def __init__(self) -> None:
        self._extractor = open_extractor()
        self.weights_sha256 = self._extractor.weights_sha256

    def features(self, images: Pixels, on_images: OnImages = lambda _: None) -> Features:
        """Pooled features (N, 1280)."""
        return Features(pooled=extract_features(self._extractor, images, on_images=on_images))


class InceptionV3:
    """torch-fidelity's Inception of 2015, 2048 values and 1008 logits.

    Raises:
        ConfigError: no such file, not weights of this network, or torch-fidelity is not installed.
    """

    resizer = INCEPTION_RESIZER

    def __init__(self, weights: Path) -> None:
        self.weights_sha256 = _digest(weights)
        self.canonical = self.weights_sha256.startswith(CANONICAL_INCEPTION)
        self.name = "inception" if self.canonical else f"inception_{self.weights_sha256[:8]}"
        self._module = _load_inception(weights)

    @torch.inference_mode()
    def features(self, images: Pixels, on_images: OnImages = lambda _: None) -> Features:
        """Pooled features (N, 2048) and logits (N, 1008)."""
        pooled, logits = [], []
        for start in range(0, len(images), INCEPTION_BATCH):
            batch = torch.from_numpy(images[start : start + INCEPTION_BATCH]).permute(0, 3, 1, 2)
            found = self._module(batch.contiguous())
            pooled.append(found[0].double().numpy())
            logits.append(found[1].double().numpy())
            on_images(len(batch))
        return Features(pooled=np.concatenate(pooled), logits=np.concatenate(logits))


class DlibFace:
    """dlib's face embedding, 128 values: closeness in it is likeness of persons. About 85 ms an image on a CPU.

    Raises:
        ConfigError: dlib or its weights are not installed.
    """

    name = "dlib_face"
    canonical = False
    resizer = DLIB_RESIZER

    def __init__(self) -> None:
        found = importlib.util.find_spec(DLIB_PACKAGE)  # importing it would need an old setuptools
        try:
            import dlib
        except ImportError as error:
            raise _missing_dlib(str(error)) from error
        if found is None or not found.submodule_search_locations:
            raise _missing_dlib(f"no package {DLIB_PACKAGE}")
        path = Path(found.submodule_search_locations[0]) / DLIB_FILE
        self.weights_sha256 = _digest(path)
        self._model = dlib.face_recognition_model_v1(str(path))

    def features(self, images: Pixels, on_images: OnImages = lambda _: None) -> Features:
        """Embeddings (N, 128) of faces that fill their images."""
        found = []
        for start in range(0, len(images), DLIB_BATCH):
            chunk = images[start : start + DLIB_BATCH]
            found.append(
                np.asarray(self._model.compute_face_descriptor([_enlarged(image) for image in chunk]))
            )
            on_images(len(chunk))
        return Features(pooled=np.concatenate(found).astype(np.float64))


def _enlarged(image: Pixels) -> Pixels:
    resized = Image.fromarray(image).resize((DLIB_SIDE, DLIB_SIDE), Image.Resampling.BICUBIC)
    return np.asarray(resized, dtype=np.uint8)


def _missing_dlib(got: str) -> MissingPackageError:
    return MissingPackageError(
        "the face embedding is not installed",
        expected="dlib-bin and face-recognition-models",
        got=got,
        hint="pip install 'facechain-node[face]'",
    )


def _cached_inception() -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE
    if not path.exists():
        raise ConfigError(
            "the canonical Inception weights are not at hand, and nothing is downloaded",
            expected=f"--inception-weights PATH, or {path}",
            got="neither",
            hint=f"use --network {EFFICIENTNET}, whose distance is reported under its own name",
        )
    return path


def _load_inception(weights: Path) -> torch.nn.Module:
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise MissingPackageError(
            "torch-fidelity is not installed",
            expected="the package torch-fidelity",
            got=str(error),
            hint="pip install 'facechain-node[evaluation]'",
        ) from error
    try:
        torch.load(weights, map_location="cpu", weights_only=True)  # torch-fidelity would run what is inside
        module: torch.nn.Module = FeatureExtractorInceptionV3(
            "inception", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(weights)
        )
    except Exception as error:  # torch raises a dozen unrelated types for a damaged file
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            "not weights of Inception", expected=INCEPTION_FILE, got=f"{weights}: {first}"
        ) from error
    return module


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(
            "cannot read the weights", expected="a file", got=f"{path}: {error.strerror}"
        ) from error
