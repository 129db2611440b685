"""A measured figure, and the intervals that go with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
NORMAL_QUANTILE = 1.959963984540054
"""Of `CONFIDENCE`, both sides."""
TEXTS = ("method", "left", "right", "space", "resizer", "seed", "stamp")
"""Fields of a measure that are words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One figure. Two of them compare only where all but the value agree."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    """Interval of 95%, and how it was made: `method`."""
    method: str = ""
    left: str
    right: str = ""
    """What was compared, with the number of images: `generated (5000)`."""
    space: str = ""
    """Feature network and the SHA-256 of its weights."""
    resizer: str = ""
    seed: str = ""
    stamp: str = ""
    """Why the figure must not be quoted as it stands, if so."""

    def to_json(self) -> dict[str, object]:
        """Without what is empty; six significant digits."""
        return {
            "name": self.name,
            "value": _rounded(self.value),
            **({"interval": [_rounded(self.low), _rounded(self.high)]} if self.low is not None else {}),
            **{key: text for key in TEXTS if (text := getattr(self, key))},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave; KeyError, TypeError or ValueError where it is something else."""
        texts = {key: str(value[key]) for key in TEXTS if key in value}
        low, high = value.get("interval") or (None, None)
        return cls(
            name=str(value["name"]),
            value=float(value["value"]),
            low=None if low is None else float(low),
            high=None if high is None else float(high),
            **texts,
        )


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Interval of a share (Wilson 1927); (0, 1) when nothing was tried."""
    if trials == 0:
        return 0.0, 1.0
    share, z2 = successes / trials, NORMAL_QUANTILE**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = (
        NORMAL_QUANTILE * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2)) / (1 + z2 / trials)
    )
    return max(0.0, centre - half), min(1.0, centre + half)


def around(value: float, deviation: float) -> tuple[float, float]:
    """Normal interval of a value whose standard deviation is known."""
    return value - NORMAL_QUANTILE * deviation, value + NORMAL_QUANTILE * deviation


def bootstrap_deviation(
    statistic: Callable[[NDArray[np.int64], NDArray[np.int64]], float],
    sizes: tuple[int, int],
    *,
    rounds: int,
    draw: np.random.Generator,
) -> float:
    """Standard deviation of a statistic of two samples under resampling of both (Efron 1979).

    Only the deviation is taken: a resample has fewer distinct images, which shifts distances upwards.
    """
    values = [
        statistic(draw.integers(sizes[0], size=sizes[0]), draw.integers(sizes[1], size=sizes[1]))
        for _ in range(rounds)
    ]
    return float(np.std(values, ddof=1)) if rounds > 1 else math.nan


def _rounded(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(f"{value:.6g}")
