"""Membership inference: by what is generated, plain or calibrated, by the discriminator; all also person by person.

The first two need generated images only, which anyone has, and for the calibrated one faces of strangers; the
discriminator's needs a checkpoint that is never published, and bounds what an insider learns. Non-members are
people whom training never saw.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..datasets import FaceSet, Pixels, split_by_identity
from ..device import Device
from ..errors import PrivacyError
from ..training import HALF_RANGE
from .membership import MIN_PEOPLE, Attack, Scored, judge

BLOCK = 512
CALIBRATION_SHARE = 1 / 3
"""Share of the held-out people whose faces calibrate; the others are the calibrated attack's non-members."""
NEAREST = "nearest generated image"
CALIBRATED = "calibrated nearest image"
DISCRIMINATOR = "discriminator score"

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """For each image the nearest of others, plain or mirrored."""

    rms: Floats
    """Root mean square difference in grey levels of 255."""
    index: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Faces of strangers, which tell how near images come to a face that nobody trained on."""

    references: FaceSet
    """Of people who are neither members nor non-members."""
    non_members: FaceSet


def calibrate(held_out: FaceSet, *, heldout_share: float, images: int) -> Calibration:
    """Split the held-out people by the hash that held them out, so that it is the same split in every run.

    Raises:
        PrivacyError: too few people on a side.
    """
    others, references = split_by_identity(held_out, holdout_share=heldout_share * CALIBRATION_SHARE)
    people = [len(np.unique(people_of(side))) for side in (references, others)]
    if min(people) < MIN_PEOPLE:
        raise PrivacyError(
            "too few held-out people to calibrate an attack",
            expected=f"at least {MIN_PEOPLE} to calibrate and {MIN_PEOPLE} others",
            got=f"{people[0]} and {people[1]}",
        )
    return Calibration(references=references, non_members=choose_people(others, images=images))


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
    calibration: Calibration | None,
    discriminator: torch.nn.Module | None,
    device: Device,
) -> tuple[Attack, ...]:
    """All attacks that can be run, image by image and person by person."""

    def by_distance(faces: FaceSet) -> Scored:
        return Scored(scores=-nearest_images(faces.images, generated).rms, people=people_of(faces))

    near = by_distance(members)
    sides = [(NEAREST, near, by_distance(non_members))]
    if calibration is not None:
        strangers, others = calibration.references.images, calibration.non_members
        corrected = _calibrated(near, members.images, strangers)
        sides.append((CALIBRATED, corrected, _calibrated(by_distance(others), others.images, strangers)))
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


def _calibrated(scored: Scored, images: Pixels, strangers: Pixels) -> Scored:
    """Subtract what every image near to all faces has in common (GAN-Leaks, arXiv 1909.03935)."""
    return Scored(scores=scored.scores + nearest_images(images, strangers).rms, people=scored.people)
