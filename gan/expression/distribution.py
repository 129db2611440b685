"""What may be said of faces that nobody labelled: how the classifier's probabilities are distributed.

Shares and confidence with 95% intervals. Never an accuracy: a synthetic face has no true expression.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError
from .classes import CLASSES
from .inference import Probabilities
from .scores import Z_95, Interval, wilson

NOTE: Final = (
    "predicted by a classifier of photographs; these faces have no true expression, so no accuracy exists"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassShare:
    """How much of a set the classifier gives to one class."""

    name: str
    probability: float
    """Mean probability over the images."""
    probability_interval: Interval
    top: int
    """Images for which the class is the most probable."""
    top_share: float
    top_share_interval: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """Predictions of a set as a whole."""

    n: int
    classes: tuple[ClassShare, ...]
    confidence: float
    """Mean of the highest probability of each image."""
    confidence_interval: Interval


def distribution(probabilities: Probabilities) -> Distribution:
    """Summarise predictions (N, 7).

    Raises:
        DatasetError: there are none.
    """
    count = len(probabilities)
    if count == 0:
        raise DatasetError("distribution of expressions", expected="at least one image", got="none")
    top = np.bincount(probabilities.argmax(1), minlength=len(CLASSES))
    confidence, around = _mean(probabilities.max(1))
    shares = []
    for number, name in enumerate(CLASSES):
        mean, interval = _mean(probabilities[:, number])
        shares.append(
            ClassShare(
                name=name,
                probability=mean,
                probability_interval=interval,
                top=int(top[number]),
                top_share=int(top[number]) / count,
                top_share_interval=wilson(int(top[number]), count),
            )
        )
    return Distribution(n=count, classes=tuple(shares), confidence=confidence, confidence_interval=around)


def _mean(values: NDArray[np.float32]) -> tuple[float, Interval]:
    """Mean of shares with its normal 95% interval; one value alone leaves everything open."""
    mean = float(values.mean(dtype=np.float64))
    if len(values) < 2:
        return mean, (0.0, 1.0)
    half = Z_95 * float(values.std(ddof=1, dtype=np.float64)) / len(values) ** 0.5
    return mean, (max(0.0, mean - half), min(1.0, mean + half))
