import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, f1_score, precision_score, recall_score

from facechain.gan.errors import DatasetError
from facechain.gan.expression.classes import CLASSES
from facechain.gan.expression.distribution import distribution
from facechain.gan.expression.scores import score, wilson

Table = NDArray[np.float32]
Labels = NDArray[np.int64]


def made_predictions(count: int, *, seed: int = 0, classes: int = 7) -> tuple[Table, Labels]:
    """Probabilities that are right about two times in three, and their labels."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, count)
    weights = draw.random((count, 7))
    weights[np.arange(count), labels] += 0.6
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32), labels


def test_scores_are_those_of_scikit_learn() -> None:
    table, labels = made_predictions(700)
    found = score(table, labels)
    top = table.argmax(1)
    numbers = list(range(7))
    assert found.n == 700
    assert found.accuracy == float((top == labels).mean())
    assert (found.confusion == confusion_matrix(labels, top, labels=numbers)).all()
    assert found.macro_f1 == pytest.approx(f1_score(labels, top, average="macro"))
    for name, function in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
        expected = function(labels, top, average=None, labels=numbers)
        assert [getattr(item, name) for item in found.per_class] == pytest.approx(expected)
    assert [item.name for item in found.per_class] == list(CLASSES)


def test_a_class_without_images_does_not_pull_macro_f1_down() -> None:
    table, labels = made_predictions(300, classes=3)
    perfect = np.eye(7, dtype=np.float32)[labels]
    found = score(perfect, labels)
    assert (found.macro_f1, found.accuracy) == (1.0, 1.0)
    assert found.per_class[6].support == 0
    assert found.per_class[6].f1 == 0.0
    assert score(table, labels).macro_f1 < 1.0


def test_intervals_hold_the_value_narrow_with_n_and_repeat() -> None:
    small, large = (score(*made_predictions(count)) for count in (100, 1600))
    for found in (small, large):
        assert found.macro_f1_interval[0] < found.macro_f1 < found.macro_f1_interval[1]
        assert found.accuracy_interval[0] < found.accuracy < found.accuracy_interval[1]

    def width(pair: tuple[float, float]) -> float:
        return pair[1] - pair[0]

    assert width(small.accuracy_interval) / width(large.accuracy_interval) == pytest.approx(4.0, rel=0.15)
    assert width(small.macro_f1_interval) > 2.5 * width(large.macro_f1_interval)
    assert score(*made_predictions(100)).macro_f1_interval == small.macro_f1_interval


@pytest.mark.parametrize(
    "right, total, low, high", [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)]
)
def test_wilson_is_that_of_newcombe_1998(right: int, total: int, low: float, high: float) -> None:
    assert wilson(right, total) == pytest.approx((low, high), abs=5e-5)


def test_calibration_error_is_zero_when_confidence_is_the_share_of_right_answers() -> None:
    table = np.tile(np.array([0.75, 0.25, 0, 0, 0, 0, 0], dtype=np.float32), (400, 1))
    labels = np.zeros(400, dtype=np.int64)
    assert score(table, labels).calibration_error == pytest.approx(0.25)
    labels[::4] = 1
    assert score(table, labels).calibration_error == pytest.approx(0.0, abs=1e-6)


def test_nothing_to_compare_is_refused() -> None:
    table, labels = made_predictions(10)
    with pytest.raises(DatasetError, match="labelled images"):
        score(table[:0], labels[:0])
    labels[3] = -1
    with pytest.raises(DatasetError, match="some unlabelled"):
        score(table, labels)


def test_a_distribution_sums_to_one_and_its_intervals_cover_the_source() -> None:
    covered = 0
    for seed in range(40):
        draw = np.random.default_rng(seed)
        table = draw.dirichlet([1, 1, 1, 3, 1, 1, 2], size=200).astype(np.float32)
        found = distribution(table)
        assert sum(item.top for item in found.classes) == found.n == 200
        assert sum(item.probability for item in found.classes) == pytest.approx(1.0, abs=1e-5)
        low, high = found.classes[3].probability_interval
        covered += low <= 0.3 <= high
        assert found.confidence == pytest.approx(float(table.max(1).mean()), abs=1e-5)
    assert 34 <= covered <= 40


def test_one_face_has_an_open_interval_and_none_has_no_distribution() -> None:
    table, _ = made_predictions(1)
    assert distribution(table).confidence_interval == (0.0, 1.0)
    with pytest.raises(DatasetError, match="at least one image"):
        distribution(table[:0])
