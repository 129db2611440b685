"""Three kinds of membership inference: by what is generated, by the discriminator, and person by person.

The first needs generated images only, which anyone has; the discriminator's needs a checkpoint that is never
published, and bounds what an insider learns. Non-members are people whom training never saw.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..datasets import FaceSet, Pixels
from ..device import Device
from ..training import HALF_RANGE
from .membership import Attack, Scored, judge

BLOCK = 512
NEAREST = "nearest generated image"
DISCRIMINATOR = "discriminator score"

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """For each image the nearest of others, plain or mirrored."""

    rms: Floats
    """Root mean square difference in grey levels of 255."""
    index: NDArray[np.int64]


def nearest_images(images: Pixels, others: Pixels) -> Nearest:
    """Compare (N, H, W, 3) with all of (M, H, W, 3), block by block; memory grows with N + M."""
    centre = others.reshape(len(others), -1).mean(axis=0, dtype=np.float64).astype(np.float32)
    targets = _flat(np.concatenate([others, others[:, :, ::-1]]), centre)
    squares = (targets**2).sum(dim=1)
    best, index = [], []
    for start in range(0, len(images), BLOCK):
        points = _flat(images[start : start + BLOCK], centre)
        distances = (points**2).sum(dim=1, keepdim=True) + squares - 2.0 * points @ targets.T
        found = distances.min(dim=1)
        best.append(found.values.clamp(min=0).double())
        index.append(found.indices % len(others))
    size = targets.shape[1]
    return Nearest(rms=(torch.cat(best) / size).sqrt().numpy(), index=torch.cat(index).numpy())


def _flat(images: Pixels, centre: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(images.reshape(len(images), -1).astype(np.float32) - centre)


@torch.inference_mode()
def discriminator_scores(discriminator: torch.nn.Module, images: Pixels, device: Device) -> Floats:
    """Scores of images, each the mean of its plain and its mirrored form."""
    module = discriminator.to(device.torch_device).eval()
    found = []
    for start in range(0, len(images), BLOCK):
        block = torch.from_numpy(images[start : start + BLOCK]).to(device.torch_device)
        points = block.permute(0, 3, 1, 2).float() / HALF_RANGE - 1.0
        found.append((module(points) + module(points.flip(3))).double().cpu() / 2)
    scores: Floats = torch.cat(found).numpy()
    return scores


def choose_people(faces: FaceSet, *, images: int, seed: int = 0) -> FaceSet:
    """All images of people drawn at random until there are at least so many, or nobody is left."""
    numbers = people_of(faces)
    counts = np.bincount(numbers)
    order = np.random.default_rng(seed).permutation(len(counts))
    taken = order[: int(np.searchsorted(np.cumsum(counts[order]), images)) + 1]
    return faces.subset(np.isin(numbers, taken))


def people_of(faces: FaceSet) -> NDArray[np.int64]:
    """Number of the person of each image; an image without identity is a person of its own."""
    keys = [who or f"/{name}" for who, name in zip(faces.identities, faces.names, strict=True)]
    return np.unique(np.array(keys), return_inverse=True)[1].astype(np.int64)


def run_attacks(
    *,
    members: FaceSet,
    non_members: FaceSet,
    generated: Pixels,
    discriminator: torch.nn.Module | None,
    device: Device,
) -> tuple[Attack, ...]:
    """All attacks that can be run, image by image and person by person."""

    def by_distance(faces: FaceSet) -> Scored:
        return Scored(scores=-nearest_images(faces.images, generated).rms, people=people_of(faces))

    sides = [(NEAREST, by_distance(members), by_distance(non_members))]
    if discriminator is not None:
        scored = [
            Scored(scores=discriminator_scores(discriminator, faces.images, device), people=people_of(faces))
            for faces in (members, non_members)
        ]
        sides.append((DISCRIMINATOR, scored[0], scored[1]))
    return tuple(
        attack
        for name, inside, outside in sides
        for attack in (
            judge(name, inside, outside),
            judge(name, inside.by_person(), outside.by_person(), unit="person"),
        )
    )
