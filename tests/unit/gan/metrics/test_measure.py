import math

import numpy as np
import pytest

from facechain.gan.metrics.measure import Measure, around, bootstrap_deviation, wilson


def test_wilson_is_the_published_interval() -> None:
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 20)[0] == 0
    assert wilson(20, 20)[1] == 1
    assert wilson(0, 0) == (0, 1)


def test_bootstrap_of_a_mean_is_its_standard_error() -> None:
    draw = np.random.default_rng(0)
    left, right = draw.normal(size=400), draw.normal(size=900)
    found = bootstrap_deviation(
        lambda i, j: float(left[i].mean() - right[j].mean()), (400, 900), rounds=400, draw=draw
    )
    assert found == pytest.approx(math.sqrt(left.var() / 400 + right.var() / 900), rel=0.15)
    assert math.isnan(bootstrap_deviation(lambda _i, _j: 1.0, (2, 2), rounds=1, draw=draw))


def test_a_measure_leaves_out_what_is_empty_and_rounds() -> None:
    low, high = around(2.0, 0.5)
    measure = Measure(name="x", value=1 / 3, low=low, high=high, method="normal", left="a (3)", stamp="few")
    assert measure.to_json() == {
        "name": "x",
        "value": 0.333333,
        "interval": [1.02002, 2.97998],
        "method": "normal",
        "left": "a (3)",
        "stamp": "few",
    }
    assert "interval" not in Measure(name="x", value=1.0, left="a (1)").to_json()
