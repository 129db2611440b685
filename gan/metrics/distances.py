"""Distances between two sets of features, and the scores of one set.

Kernel distance and Inception score are torch-fidelity's; precision, recall, density and coverage are prdc's. The Fréchet
distance is `evaluation.frechet_distance`, held against torch-fidelity's in the tests.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass

import numpy as np
import torch

from ..evaluation import frechet_distance
from .extractors import FeatureNetwork, Features, Floats
from .measure import Measure, around, bootstrap_deviation, wilson

FID_LEAST = 10_000
"""Below this a Fréchet distance is biased upwards by more than differences that matter."""
KID_SUBSETS = 100
KID_SUBSET_MAX = 1_000
KID_LEAST_APART = 2
"""Subsets that would fit beside each other into the smaller set: with one alone all of them would be the same."""
INCEPTION_SPLITS = 10
NEIGHBOURS = 5
"""Of precision, recall, density and coverage, as in Naeem et al. 2020."""
PRDC_MAX = 10_000
"""All pairs are compared: 800 MB at this number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Images of one kind, as figures name them."""

    name: str
    features: Features

    @property
    def label(self) -> str:
        """Name and number."""
        return f"{self.name} ({len(self.features.pooled)})"


def compare(left: Sample, right: Sample, network: FeatureNetwork, *, seed: int, rounds: int) -> list[Measure]:
    """Fréchet and kernel distance of `left` to `right`, and precision, recall, density and coverage."""
    common = _Common(network=network, seed=seed, left=left, right=right)
    return [_frechet(common, rounds), _kernel(common), *_manifolds(common)]


def inception_score(sample: Sample, network: FeatureNetwork, *, seed: int) -> Measure:
    """Inception score of one set (Salimans et al. 2016): read it beside that of real images only.

    Raises:
        ValueError: the network is no classifier.
    """
    if sample.features.logits is None:
        raise ValueError(f"{network.name} has no logits")
    from torch_fidelity.metric_isc import isc_features_to_metric

    found = isc_features_to_metric(
        torch.from_numpy(sample.features.logits), splits=INCEPTION_SPLITS, rng_seed=seed
    )
    mean, deviation = (found[f"inception_score_{part}"] for part in ("mean", "std"))
    low, high = around(mean, deviation / np.sqrt(INCEPTION_SPLITS))
    return Measure(
        name="inception_score" if network.canonical else f"is_{network.name}",
        value=mean,
        low=low,
        high=high,
        method=f"normal, over {INCEPTION_SPLITS} splits",
        left=sample.label,
        space=_space(network),
        resizer=network.resizer,
        seed=str(seed),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Common:
    network: FeatureNetwork
    seed: int
    left: Sample
    right: Sample

    @property
    def both(self) -> tuple[Floats, Floats]:
        return self.left.features.pooled, self.right.features.pooled

    def measure(
        self, name: str, value: float, interval: Sequence[float] | None, *, method: str, stamp: str = ""
    ) -> Measure:
        low, high = interval if interval is not None else (None, None)
        return Measure(
            name=name,
            value=value,
            low=low,
            high=high,
            method=method,
            left=self.left.label,
            right=self.right.label,
            space=_space(self.network),
            resizer=self.network.resizer,
            seed=str(self.seed),
            stamp=stamp,
        )


def _frechet(common: _Common, rounds: int) -> Measure:
    left, right = common.both
    value = frechet_distance(left, right)
    draw = np.random.Generator(np.random.Philox(common.seed))
    deviation = (
        bootstrap_deviation(
            lambda i, j: frechet_distance(left[i], right[j]),
            (len(left), len(right)),
            rounds=rounds,
            draw=draw,
        )
        if rounds > 1
        else None
    )
    least = min(len(left), len(right))
    stamps = [f"biased upwards: {least} images, {FID_LEAST} are the least"] if least < FID_LEAST else []
    if least <= left.shape[1]:
        stamps.append(f"covariance of {left.shape[1]} values from {least} images")
    network = common.network
    return common.measure(
        "fid" if network.canonical else f"fd_{network.name}",
        value,
        around(value, deviation) if deviation is not None else None,
        method=f"normal, deviation of {rounds} resamples" if deviation is not None else "",
        stamp="; ".join(stamps),
    )


def _kernel(common: _Common) -> Measure:
    from torch_fidelity.metric_kid import kid_features_to_metric

    left, right = (torch.from_numpy(part).float() for part in common.both)
    least = min(len(left), len(right))
    subset = min(KID_SUBSET_MAX, least // KID_LEAST_APART)
    found = kid_features_to_metric(
        left, right, kid_subsets=KID_SUBSETS, kid_subset_size=subset, rng_seed=common.seed, verbose=False
    )
    mean, deviation = (found[f"kernel_inception_distance_{part}"] for part in ("mean", "std"))
    network = common.network
    return common.measure(
        "kid" if network.canonical else f"kd_{network.name}",
        mean,
        around(mean, deviation / np.sqrt(min(KID_SUBSETS, least / subset))),
        method=f"normal, {KID_SUBSETS} subsets of {subset}, of which {least / subset:.3g} fit beside each other",
    )


def _manifolds(common: _Common) -> list[Measure]:
    from prdc import compute_prdc

    generated, real = (part[:PRDC_MAX] for part in common.both)
    with redirect_stdout(io.StringIO()):  # it greets
        found = compute_prdc(real_features=real, fake_features=generated, nearest_k=NEIGHBOURS)
    trials = {"precision": len(generated), "recall": len(real), "coverage": len(real)}
    measures = []
    for name in ("precision", "recall", "density", "coverage"):
        value = float(found[name])
        interval = wilson(round(value * trials[name]), trials[name]) if name in trials else None
        measures.append(
            common.measure(
                f"{name}_{common.network.name}",
                value,
                interval,
                method=f"k = {NEIGHBOURS}" + (", Wilson" if interval else ""),
            )
        )
    return measures


def _space(network: FeatureNetwork) -> str:
    return f"{network.name}, SHA-256 {network.weights_sha256}"
