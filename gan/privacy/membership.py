"""How well a score tells members of the training set from others: AUC, and true positives at few false ones.

Intervals come from resampling *people*, since images of one person are not independent. An operating point
that the number of non-members cannot resolve is refused rather than guessed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import PrivacyError

FALSE_POSITIVE_RATES = (0.001, 0.01)
RESAMPLINGS = 500
CONFIDENCE = 0.95
COARSE_FALSE_POSITIVES = 10
"""Below so many false positives an operating point is stamped as coarse."""
MIN_PEOPLE = 10

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Scores of one side, higher for a likelier member, with the person of each."""

    scores: Floats
    people: Ints
    """Numbers from 0 on without gaps."""

    def by_person(self) -> Scored:
        """One score per person: the mean over their images."""
        counts = np.bincount(self.people)
        means = np.bincount(self.people, weights=self.scores) / counts
        return Scored(scores=means, people=np.arange(len(means)))


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """Share of members found when at most so many non-members are taken for members."""

    false_positive_rate: float
    true_positive_rate: float | None
    """None: the non-members are too few."""
    low: float | None
    high: float | None
    note: str

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "fpr": self.false_positive_rate,
            "tpr": self.true_positive_rate,
            "interval": None if self.low is None else [self.low, self.high],
            "note": self.note,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """Outcome of one membership inference attack; 0.5 is guessing."""

    name: str
    unit: str
    members: int
    non_members: int
    auc: float
    low: float
    high: float
    points: tuple[OperatingPoint, ...]

    @property
    def succeeds(self) -> bool:
        """Whether the whole interval lies above guessing."""
        return self.low > 0.5

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "attack": self.name,
            "unit": self.unit,
            "members": self.members,
            "non_members": self.non_members,
            "auc": self.auc,
            "interval": [self.low, self.high],
            "confidence": CONFIDENCE,
            "succeeds": self.succeeds,
            "points": [point.to_json() for point in self.points],
        }


def most_found(false_positive_rate: float, *, epsilon: float, delta: float) -> float:
    """Largest share of records that any attack on an (ε, δ)-private training can find at a false positive rate."""
    return min(1.0, math.exp(epsilon) * false_positive_rate + delta)


def judge(name: str, members: Scored, non_members: Scored, *, unit: str = "image", seed: int = 0) -> Attack:
    """Measure how far `members` score above `non_members`; the bootstrap is drawn from `seed`.

    Raises:
        PrivacyError: too few people on a side for an interval.
    """
    for side, role in ((members, "members"), (non_members, "non-members")):
        people = len(np.unique(side.people))
        if people < MIN_PEOPLE:
            raise PrivacyError(
                f"too few {role} for a membership attack",
                expected=f"at least {MIN_PEOPLE} people",
                got=str(people),
            )
    ranks = _Ranks.of(members.scores, non_members.scores)
    auc, found = ranks.measure(np.ones(len(members.scores)), np.ones(len(non_members.scores)))
    draw = np.random.default_rng(seed)
    repeated = [
        ranks.measure(_weights(members, draw), _weights(non_members, draw)) for _ in range(RESAMPLINGS)
    ]
    tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    low, high = np.quantile([area for area, _ in repeated], tails)
    count = len(non_members.scores)
    points = tuple(
        _point(rate, found[k], np.quantile([rates[k] for _, rates in repeated], tails), count)
        for k, rate in enumerate(FALSE_POSITIVE_RATES)
    )
    return Attack(
        name=name,
        unit=unit,
        members=len(members.scores),
        non_members=count,
        auc=round(auc, 4),
        low=round(float(low), 4),
        high=round(float(high), 4),
        points=points,
    )


def _point(rate: float, found: float, interval: Floats, count: int) -> OperatingPoint:
    allowed = int(count * rate)
    if allowed < 1:
        note = f"not measurable: needs {round(1 / rate):,} non-members, got {count:,}"
        return OperatingPoint(
            false_positive_rate=rate, true_positive_rate=None, low=None, high=None, note=note
        )
    coarse = allowed < COARSE_FALSE_POSITIVES
    return OperatingPoint(
        false_positive_rate=rate,
        true_positive_rate=round(found, 5),
        low=round(float(interval[0]), 5),
        high=round(float(interval[1]), 5),
        note=f"coarse: {allowed} false positives of {count:,}" if coarse else "",
    )


def _weights(side: Scored, draw: np.random.Generator) -> Floats:
    """How often each image is in a resampling of the people."""
    people = int(side.people.max()) + 1
    return np.bincount(draw.integers(0, people, people), minlength=people)[side.people].astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ranks:
    """Both sides sorted once by score, so that each resampling costs sums only."""

    order: Ints
    """Members first, then non-members, by falling score."""
    ends: Ints
    """Last position of each run of equal scores."""
    members: int

    @classmethod
    def of(cls, members: Floats, non_members: Floats) -> _Ranks:
        both = np.concatenate([members, non_members])
        order = np.argsort(-both, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(both[order])), len(both) - 1)
        return cls(order=order, ends=ends, members=len(members))

    def measure(self, members: Floats, non_members: Floats) -> tuple[float, tuple[float, ...]]:
        """AUC and true positive rates under weights of the images."""
        weights = np.concatenate([members, non_members])[self.order]
        is_member = self.order < self.members
        true = np.append(0.0, np.cumsum(np.where(is_member, weights, 0.0))[self.ends])
        false = np.append(0.0, np.cumsum(np.where(is_member, 0.0, weights))[self.ends])
        true, false = true / true[-1], false / false[-1]
        rates = tuple(float(true[false <= rate + 1e-12].max()) for rate in FALSE_POSITIVE_RATES)
        return float(np.trapezoid(true, false)), rates
