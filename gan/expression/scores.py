"""What a table of predictions is worth against labels: one confusion matrix, and everything read off it.

Intervals: Wilson for accuracy, percentile bootstrap over images for macro-F1. Both speak of the sampling of images
alone, not of the choice of the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError
from .classes import CLASSES
from .inference import Probabilities

Z_95: Final = 1.959963984540054
BOOTSTRAP_DRAWS: Final = 1000
CALIBRATION_BINS: Final = 15

Confusion = NDArray[np.int64]
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScore:
    """One class as seen in the confusion matrix; a ratio without a denominator is 0."""

    name: str
    support: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Everything that is reported of one evaluation."""

    n: int
    accuracy: float
    accuracy_interval: Interval
    macro_f1: float
    """Mean F1 of the classes that occur in the labels."""
    macro_f1_interval: Interval
    per_class: tuple[ClassScore, ...]
    confusion: Confusion
    """(7, 7): rows are labels, columns are predictions."""
    calibration_error: float
    """Expected calibration error of the top probability, 15 bins of equal width."""


def score(probabilities: Probabilities, labels: NDArray[np.int64], *, seed: int = 0) -> Scores:
    """Compare predictions (N, 7) with labels (N,).

    Raises:
        DatasetError: nothing to compare, or an image has no label.
    """
    if len(labels) == 0 or int(labels.min()) < 0:
        raise DatasetError(
            "evaluation", expected="labelled images", got=f"{len(labels)} images, some unlabelled"
        )
    predicted = probabilities.argmax(1)
    confusion = confusion_matrix(labels, predicted)
    right = int(np.trace(confusion))
    return Scores(
        n=len(labels),
        accuracy=right / len(labels),
        accuracy_interval=wilson(right, len(labels)),
        macro_f1=macro_f1(confusion),
        macro_f1_interval=_bootstrap_macro_f1(labels, predicted, seed),
        per_class=_per_class(confusion),
        confusion=confusion,
        calibration_error=_calibration_error(probabilities, labels),
    )


def confusion_matrix(labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> Confusion:
    """(7, 7) counts; rows are labels."""
    size = len(CLASSES)
    return np.bincount(labels * size + predicted, minlength=size * size).reshape(size, size)


def macro_f1(confusion: Confusion) -> float:
    """Unweighted mean F1 over the classes that have at least one label."""
    _, _, f1 = _ratios(confusion)
    present = confusion.sum(1) > 0
    return float(f1[present].mean()) if present.any() else 0.0


def wilson(right: int, total: int, *, z: float = Z_95) -> Interval:
    """Wilson's interval of a share, 95% by default."""
    share, weight = right / total, z * z / total
    centre = (share + weight / 2.0) / (1.0 + weight)
    half = z * float(np.sqrt(share * (1.0 - share) / total + weight / (4.0 * total))) / (1.0 + weight)
    return max(0.0, centre - half), min(1.0, centre + half)


def _ratios(confusion: Confusion) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    hits = np.diag(confusion).astype(np.float64)
    precision = hits / np.maximum(confusion.sum(0), 1)
    recall = hits / np.maximum(confusion.sum(1), 1)
    f1 = 2.0 * hits / np.maximum(confusion.sum(0) + confusion.sum(1), 1)
    return precision, recall, f1


def _per_class(confusion: Confusion) -> tuple[ClassScore, ...]:
    precision, recall, f1 = _ratios(confusion)
    return tuple(
        ClassScore(
            name=name,
            support=int(confusion[i].sum()),
            precision=float(precision[i]),
            recall=float(recall[i]),
            f1=float(f1[i]),
        )
        for i, name in enumerate(CLASSES)
    )


def _bootstrap_macro_f1(labels: NDArray[np.int64], predicted: NDArray[np.int64], seed: int) -> Interval:
    draws = np.random.Generator(np.random.Philox(seed))
    values = []
    for _ in range(BOOTSTRAP_DRAWS):
        chosen = draws.integers(0, len(labels), len(labels))
        values.append(macro_f1(confusion_matrix(labels[chosen], predicted[chosen])))
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def _calibration_error(probabilities: Probabilities, labels: NDArray[np.int64]) -> float:
    confidence = probabilities.max(1).astype(np.float64)
    right = (probabilities.argmax(1) == labels).astype(np.float64)
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    gap = np.bincount(bins, right - confidence, minlength=CALIBRATION_BINS)
    return float(np.abs(gap).sum() / len(labels))
