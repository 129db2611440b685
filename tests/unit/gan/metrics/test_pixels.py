import numpy as np
import pytest

from facechain.gan.metrics.pixels import compare_pairs, compare_statistics, image_statistics
from support.faces import made_faces

REAL = made_faces(people=20, per_person=5).images


def test_statistics_of_images_that_can_be_reckoned_by_hand() -> None:
    half = np.zeros((1, 2, 2, 3), np.uint8)
    half[0, 0] = 200
    found = {name: float(values[0]) for name, values in image_statistics(half).items()}
    assert found == pytest.approx(
        {"mean": 100, "deviation": 100, "skewness": 0, "kurtosis": -2, "entropy": 1}, abs=1e-9
    )
    flat = {
        name: float(values[0])
        for name, values in image_statistics(np.full((1, 4, 4, 3), 7, np.uint8)).items()
    }
    assert flat["entropy"] == 0
    assert flat["deviation"] == pytest.approx(0, abs=1e-5)


def test_effects_vanish_between_equals_and_show_a_shift() -> None:
    equal = {m.name: m for m in compare_statistics(REAL[::2], REAL[1::2])}
    lighter = {
        m.name: m
        for m in compare_statistics(np.clip(REAL[::2].astype(int) + 40, 0, 255).astype(np.uint8), REAL[1::2])
    }
    assert abs(equal["effect_mean"].value) < 0.5
    assert lighter["effect_mean"].value > 1
    effect = lighter["effect_mean"]
    assert effect.low is not None
    assert effect.low > 0
    assert effect.left == "generated (50)"


def test_uaci_of_equal_opposite_and_random_images() -> None:
    black, white = np.zeros((6, 4, 4, 3), np.uint8), np.full((6, 4, 4, 3), 255, np.uint8)
    found = {
        measure.left.split(" pairs")[0]: measure.value
        for measure in compare_pairs(white, black, seed=0)
        if measure.name == "uaci"
    }
    assert found == {"real-real": 0, "real-fake": 100, "fake-fake": 0}
    noise = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3)).astype(np.uint8)
    (real, *_) = compare_pairs(REAL, noise, seed=0)
    assert real.value == pytest.approx(33.46, abs=1)  # the published value of independent uniform images


def test_pairs_are_of_different_images_and_repeat_with_the_seed() -> None:
    few = REAL[[0, 50]]
    once, again, other = (
        [measure.value for measure in compare_pairs(few, few.copy(), seed=seed)] for seed in (1, 1, 2)
    )
    assert once == again
    assert once != other
    assert once[0] == pytest.approx(np.abs(few[0].astype(int) - few[1]).mean() / 255 * 100)
