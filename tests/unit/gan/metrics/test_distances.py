import numpy as np
import pytest
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from facechain.gan.datasets import Pixels
from facechain.gan.evaluation import frechet_distance
from facechain.gan.metrics.distances import Sample, compare, inception_score
from facechain.gan.metrics.extractors import FeatureNetwork, Features, OnImages


class Plane:
    """Stands for a network whose features are given; its figures bear its own name."""

    name = "plane"
    resizer = "none"
    weights_sha256 = "00" * 32

    def __init__(self, *, canonical: bool = False) -> None:
        self.canonical = canonical

    def features(self, images: Pixels, on_images: OnImages = lambda _: None) -> Features:
        on_images(len(images))
        return Features(pooled=images.reshape(len(images), -1).astype(np.float64))


def sample(name: str, count: int, *, shift: float = 0.0, scale: float = 1.0, seed: int = 0) -> Sample:
    draw = np.random.default_rng(seed)
    return Sample(name=name, features=Features(pooled=draw.normal(size=(count, 4)) * scale + shift))


def figures(left: Sample, right: Sample, *, network: FeatureNetwork | None = None) -> dict[str, float]:
    found = compare(left, right, network or Plane(), seed=0, rounds=3)
    return {measure.name: measure.value for measure in found}


def test_frechet_distance_is_torch_fidelitys() -> None:
    left, right = sample("a", 300, seed=1), sample("b", 400, shift=0.5, scale=1.5, seed=2)
    theirs = fid_statistics_to_metric(
        *(fid_features_to_statistics(torch.from_numpy(part.features.pooled)) for part in (left, right)),
        verbose=False,
    )["frechet_inception_distance"]
    ours = frechet_distance(left.features.pooled, right.features.pooled)
    assert ours == pytest.approx(theirs, rel=1e-6)


def test_same_and_different_sets_are_told_apart_by_every_figure() -> None:
    near = figures(sample("a", 500, seed=1), sample("b", 500, seed=2))
    far = figures(sample("a", 500, shift=6.0, seed=1), sample("b", 500, seed=2))
    assert near["fd_plane"] < 0.1
    assert far["fd_plane"] > 50
    assert abs(near["kd_plane"]) < 0.1 < far["kd_plane"]
    for name in ("precision_plane", "recall_plane", "density_plane", "coverage_plane"):
        assert near[name] > 0.8
        assert far[name] < 0.05


def test_a_set_that_collapsed_is_precise_and_covers_nothing() -> None:
    found = figures(sample("one face", 300, scale=0.01, seed=1), sample("faces", 300, seed=2))
    assert found["precision_plane"] > 0.9
    assert found["recall_plane"] < 0.1
    assert found["coverage_plane"] < 0.2


def test_only_canonical_weights_give_the_canonical_names() -> None:
    sets = sample("a", 60, seed=1), sample("b", 60, seed=2)
    assert {"fid", "kid"} <= set(figures(*sets, network=Plane(canonical=True)))
    assert not {"fid", "kid"} & set(figures(*sets))


def test_small_samples_are_stamped_and_intervals_hold_the_value() -> None:
    (frechet, kernel, *shares) = compare(
        sample("a", 60, seed=1), sample("b", 90, seed=2), Plane(), seed=7, rounds=8
    )
    assert "60 images" in frechet.stamp
    assert "10000" in frechet.stamp
    assert (frechet.left, frechet.right, frechet.seed) == ("a (60)", "b (90)", "7")
    for measure in (frechet, kernel):
        assert measure.low is not None
        assert measure.high is not None
        assert measure.low < measure.value < measure.high
    assert all("Wilson" in measure.method for measure in shares if not measure.name.startswith("density"))
    (alone, *_) = compare(sample("a", 60, seed=1), sample("b", 90, seed=2), Plane(), seed=7, rounds=0)
    assert alone.low is None


def test_covariance_of_more_values_than_images_is_stamped() -> None:
    draw = np.random.default_rng(0)
    wide = [Sample(name=name, features=Features(pooled=draw.normal(size=(8, 20)))) for name in "ab"]
    (frechet, *_) = compare(wide[0], wide[1], Plane(), seed=0, rounds=0)
    assert "covariance of 20 values from 8 images" in frechet.stamp


def test_inception_score_rises_with_certain_and_varied_classes() -> None:
    draw = np.random.default_rng(0)
    sure = np.eye(10)[np.arange(500) % 10] * 20
    unsure = draw.normal(size=(500, 10)) * 0.01
    pooled = np.zeros((500, 2))
    scores = [
        inception_score(Sample(name="x", features=Features(pooled=pooled, logits=logits)), Plane(), seed=0)
        for logits in (sure, unsure)
    ]
    assert scores[0].value == pytest.approx(10, rel=0.1)
    assert scores[1].value == pytest.approx(1, abs=0.01)
    assert scores[0].name == "is_plane"
    with pytest.raises(ValueError, match="no logits"):
        inception_score(sample("a", 5), Plane(), seed=0)


def test_the_interval_of_a_kernel_distance_is_as_wide_as_repeated_samples_are_apart() -> None:
    told = []
    for seed in range(40):
        ours, theirs = sample("a", 160, shift=0.6, seed=seed), sample("b", 240, seed=1_000 + seed)
        found = compare(ours, theirs, Plane(), seed=seed, rounds=0)
        told.append(next(measure for measure in found if measure.name == "kd_plane"))
    apart = np.std([measure.value for measure in told])
    widths = [measure.high - measure.low for measure in told if measure.high is not None and measure.low]
    assert len(widths) == len(told)
    assert 0.8 < np.mean(widths) / (2 * 1.96 * apart) < 2
    assert "subsets of 80, of which 2 fit" in told[0].method
