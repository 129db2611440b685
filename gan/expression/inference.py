"""Probabilities of the seven classes for grey images.

Each image is seen six times: near, at the middle and as a whole, each as it is and mirrored; the softmaxes are
averaged. Runs in float32 on one CPU thread in batches of a fixed size, so that the same images give the same numbers
on any number of cores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..datasets import Pixels
from ..device import Device
from ..errors import DatasetError
from .augment import centre_crop, standardize
from .classes import CLASSES
from .config import ClassifierConfig
from .network import ExpressionClassifier

BATCH: Final = 128

Probabilities = NDArray[np.float32]


def predict(
    module: ExpressionClassifier,
    images: Pixels,
    device: Device,
    *,
    on_images: Callable[[int], object] = lambda _: None,
) -> Probabilities:
    """Class probabilities (N, 7) of (N, R, R) uint8 images; each row sums to 1.

    Args:
        module: in evaluation mode.
        images: of the side that the classifier is configured for.
        device: where to compute; its bf16 setting is ignored.
        on_images: told how many images were done since the last call.
    """
    side = module.config.resolution
    if images.ndim != 3 or images.shape[1:] != (side, side):
        raise DatasetError(
            "images for the classifier", expected=f"(N, {side}, {side})", got=str(images.shape)
        )
    where = device.torch_device
    module = module.to(where)
    found: list[Probabilities] = []
    with torch.inference_mode(), _one_thread():
        for start in range(0, len(images), BATCH):
            part = (
                torch.from_numpy(np.ascontiguousarray(images[start : start + BATCH])).unsqueeze(1).to(where)
            )
            seen = views(standardize(part.float()), module.config)
            found.append(torch.stack([torch.softmax(module(view), 1) for view in seen]).mean(0).cpu().numpy())
            on_images(len(part))
    return np.concatenate(found) if found else np.empty((0, len(CLASSES)), dtype=np.float32)


def views(images: Tensor, config: ClassifierConfig) -> list[Tensor]:
    """What the classifier is shown of (N, 1, R, R): as much as its crop, as much less and as much more, mirrored too.

    Training's scales cover all three; each is brought to the side of the crop.
    """
    crop, margin = config.crop, config.resolution - config.crop
    shown = []
    for side in dict.fromkeys((max(1, crop - margin), crop, config.resolution)):
        view = centre_crop(images, side)
        if side != crop:
            view = functional.interpolate(view, size=(crop, crop), mode="bilinear", antialias=True)
        view = view.contiguous(memory_format=torch.channels_last)
        shown += [view, view.flip(3)]
    return shown


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
