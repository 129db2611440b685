"""The release filter: no image leaves that is too close to a real face it was trained on.

Owns the interface and a first filter, built in memory from the training faces and never written
to disk. It recognises copies and near copies of a photograph. It is a safety net, no proof: at
32x32 it seldom recognises *another* photograph of the same person (the measured rate is in its
details). Only aggregates are published; there is no accept-or-reject answer for a single image
outside the producer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from .datasets import FaceSet, Pixels
from .errors import FilterError

FEATURES = "within-class-whitened-pca"
COMPONENTS = 128
SHRINKAGE = 0.1
RIDGE = 1e-6
DEFAULT_FALSE_MATCH_RATE = 1e-5
MAX_FALSE_MATCH_RATE = 1e-4
MIN_IDENTITIES = 20
MAX_CALIBRATION_PAIRS = 20_000_000
BLOCK = 512

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a filter says about a stack of images: (N,) true where an image may be released."""

    accepted: NDArray[np.bool_]


class ReleaseFilter(Protocol):
    """What `produce` asks before anything is clustered, stored or signed."""

    @property
    def name(self) -> str:
        """Short name, goes on chain."""

    def check(self, images: Pixels) -> Verdict:
        """Judge (N, H, W, 3) uint8 images."""

    def facts(self) -> dict[str, object]:
        """Aggregates for the `filter` stage: thresholds and measured rates, no face."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedder:
    """Pixels to unit vectors: principal components, whitened by the variation within a person."""

    mean: Floats
    matrix: Floats

    @classmethod
    def fit(cls, faces: FaceSet) -> Self:
        """Fit on real faces; people with two or more images show what varies within a person."""
        flat = _flatten(faces.images).astype(np.float64)
        mean = flat.mean(axis=0)
        centred = flat - mean
        variances, directions = np.linalg.eigh(centred.T @ centred / len(centred))
        kept = min(COMPONENTS, len(faces) - 1, len(variances))
        basis = directions[:, np.argsort(variances)[::-1][:kept]]
        whitening = _within_class_whitening(centred @ basis, faces.identities)
        return cls(mean=mean.astype(np.float32), matrix=(basis @ whitening).astype(np.float32))

    def embed(self, images: Pixels) -> Floats:
        """(N, H, W, 3) uint8 to (N, C) unit vectors."""
        points = (_flatten(images) - self.mean) @ self.matrix
        lengths = np.linalg.norm(points, axis=1, keepdims=True)
        unit: Floats = (points / np.maximum(lengths, 1e-12)).astype(np.float32)
        return unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Rates measured on real faces of people the references do not contain."""

    threshold: float
    """Cosine similarity from which two faces count as the same photograph."""
    false_match_rate: float
    """Share of impostor pairs at or above the threshold."""
    impostor_pairs: int
    true_match_rate: float
    """Share of pairs of different photographs of one person at or above it."""
    genuine_pairs: int
    unrelated_rejected: float
    """Share of unrelated real faces that the filter would reject."""


class ReferenceFilter:
    """Top-1 cosine similarity to every training face, plain and mirrored, below a threshold.

    Args:
        training: faces the generator saw.
        held_out: faces of other people, for calibration.
        false_match_rate: target over impostor pairs; at most `MAX_FALSE_MATCH_RATE`.

    Raises:
        FilterError: too few people to calibrate with, or a target out of range.
    """

    def __init__(
        self,
        training: FaceSet,
        held_out: FaceSet,
        *,
        false_match_rate: float = DEFAULT_FALSE_MATCH_RATE,
    ) -> None:
        _check_inputs(training, held_out, false_match_rate)
        self._embedder = Embedder.fit(training)
        plain = self._embedder.embed(training.images)
        mirrored = self._embedder.embed(training.images[:, :, ::-1])
        self._references = np.concatenate([plain, mirrored])
        self._identities = len(set(training.identities))
        self.calibration = self._calibrate(held_out, false_match_rate)

    @property
    def name(self) -> str:
        """See `ReleaseFilter`."""
        return "top-1-similarity"

    def check(self, images: Pixels) -> Verdict:
        """See `ReleaseFilter`."""
        return Verdict(accepted=self._nearest(images) < self.calibration.threshold)

    def facts(self) -> dict[str, object]:
        """See `ReleaseFilter`."""
        found = self.calibration
        return {
            "features": FEATURES,
            "references": len(self._references) // 2,
            "reference_identities": self._identities,
            "threshold": found.threshold,
            "false_match_rate": found.false_match_rate,
            "impostor_pairs": found.impostor_pairs,
            "true_match_rate": found.true_match_rate,
            "genuine_pairs": found.genuine_pairs,
            "unrelated_real_faces_rejected": found.unrelated_rejected,
        }

    def _nearest(self, images: Pixels) -> Floats:
        """Best similarity of each image; memory is that of one block, however many images there are."""
        best = [np.empty(0, dtype=np.float32)]
        for start in range(0, len(images), BLOCK):
            points = self._embedder.embed(images[start : start + BLOCK])
            best.append((points @ self._references.T).max(axis=1))
        return np.concatenate(best)

    def _calibrate(self, held_out: FaceSet, target: float) -> Calibration:
        probes = self._embedder.embed(held_out.images)
        plain = self._references[: len(self._references) // 2]
        probe_count = max(1, min(len(probes), MAX_CALIBRATION_PAIRS // len(plain)))
        spread = probes[:: max(1, len(probes) // probe_count)][:probe_count]
        impostors = np.sort((spread @ plain.T).ravel())
        allowed = int(len(impostors) * target)
        threshold = float(np.nextafter(impostors[len(impostors) - 1 - allowed], np.float32(2)))
        genuine = _genuine_scores(probes, held_out.identities)
        nearest = (spread @ self._references.T).max(axis=1)
        return Calibration(
            threshold=threshold,
            false_match_rate=float((impostors >= threshold).mean()),
            impostor_pairs=len(impostors),
            true_match_rate=float((genuine >= threshold).mean()) if len(genuine) else 0.0,
            genuine_pairs=len(genuine),
            unrelated_rejected=float((nearest >= threshold).mean()),
        )


def _check_inputs(training: FaceSet, held_out: FaceSet, rate: float) -> None:
    if not 0 < rate <= MAX_FALSE_MATCH_RATE:
        raise FilterError(
            "false-match rate", expected=f"above 0, at most {MAX_FALSE_MATCH_RATE}", got=str(rate)
        )
    for faces, role in ((training, "training"), (held_out, "held-out")):
        people = len(set(faces.identities) - {""})
        if people < MIN_IDENTITIES:
            raise FilterError(
                f"too few {role} identities to calibrate the release filter",
                expected=f"at least {MIN_IDENTITIES} people named in labels.csv",
                got=str(people),
            )
    shared = (set(training.identities) & set(held_out.identities)) - {""}
    if shared:
        raise FilterError("people on both sides of the split", expected="none", got=str(len(shared)))
    pairs = len(training) * len(held_out)
    if pairs * rate < 1:
        raise FilterError(
            "too few impostor pairs for this false-match rate",
            expected=f"at least {round(1 / rate)}",
            got=str(pairs),
            hint="use more faces or a higher rate",
        )


def _within_class_whitening(points: NDArray[np.float64], identities: tuple[str, ...]) -> NDArray[np.float64]:
    _, person, counts = np.unique(np.array(identities), return_inverse=True, return_counts=True)
    means = np.zeros((len(counts), points.shape[1]))
    np.add.at(means, person, points)
    means /= counts[:, None]
    several = counts[person] > 1
    residuals = (points - means[person])[several]
    freedom = int(several.sum()) - int((counts > 1).sum())
    if freedom < 1:
        raise FilterError(
            "no person has two images", expected="several images of some people", got="one of each"
        )
    scatter = residuals.T @ residuals / freedom
    spread = np.diag(points.var(axis=0))
    covariance = (1 - SHRINKAGE) * scatter + SHRINKAGE * spread
    covariance += RIDGE * float(np.trace(spread)) / len(spread) * np.eye(len(spread))
    whitening: NDArray[np.float64] = np.linalg.cholesky(np.linalg.inv(covariance))
    return whitening


def _genuine_scores(probes: Floats, identities: tuple[str, ...]) -> Floats:
    people: dict[str, list[int]] = {}
    for number, who in enumerate(identities):
        if who:
            people.setdefault(who, []).append(number)
    scores = []
    for members in people.values():
        upper = np.triu_indices(len(members), 1)
        scores.append((probes[members] @ probes[members].T)[upper])
    return np.concatenate(scores).astype(np.float32) if scores else np.empty(0, dtype=np.float32)


def _flatten(images: Pixels) -> Floats:
    flat: Floats = images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
    return flat
