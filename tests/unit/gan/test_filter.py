import numpy as np
import pytest

from facechain.gan import duplicates
from facechain.gan.datasets import split_by_identity
from facechain.gan.duplicates import unique_images
from facechain.gan.errors import FilterError
from facechain.gan.filter import ReferenceFilter, ReleaseFilter
from support.faces import made_faces

FACES = made_faces(people=150, per_person=4)
TRAINING, HELD_OUT = split_by_identity(FACES, holdout_share=0.4)


@pytest.fixture(scope="module")
def reference() -> ReferenceFilter:
    return ReferenceFilter(TRAINING, HELD_OUT, false_match_rate=1e-4)


def test_planted_training_faces_are_rejected(reference: ReferenceFilter) -> None:
    planted = TRAINING.images[:40]
    mirrored = np.ascontiguousarray(planted[:, :, ::-1])
    grain = np.random.default_rng(1).integers(-3, 4, planted.shape)
    noisy = (planted.astype(int) + grain).clip(0, 255).astype(np.uint8)
    for copies in (planted, mirrored, noisy):
        assert not reference.check(copies).accepted.any()


def test_most_unrelated_faces_are_accepted(reference: ReferenceFilter) -> None:
    strangers = made_faces(people=60, per_person=1, seed=99)
    accepted = reference.check(strangers.images).accepted.mean()
    assert accepted > 0.5
    assert accepted == pytest.approx(1 - reference.calibration.unrelated_rejected, abs=0.2)


def test_threshold_meets_the_false_match_rate(reference: ReferenceFilter) -> None:
    found = reference.calibration
    assert found.false_match_rate <= 1e-4
    assert found.impostor_pairs == len(TRAINING) * len(HELD_OUT)
    assert 0 < found.threshold < 1
    assert found.genuine_pairs > 100


def test_facts_hold_aggregates_only(reference: ReferenceFilter) -> None:
    release: ReleaseFilter = reference
    facts = release.facts()
    assert facts["references"] == len(TRAINING)
    assert all(isinstance(value, int | float | str) for value in facts.values())
    assert not any("person_" in str(value) for value in facts.values())


def test_filter_refuses_what_it_cannot_calibrate() -> None:
    with pytest.raises(FilterError, match="false-match rate"):
        ReferenceFilter(TRAINING, HELD_OUT, false_match_rate=0.01)
    with pytest.raises(FilterError, match="impostor pairs"):
        ReferenceFilter(TRAINING, HELD_OUT, false_match_rate=1e-7)
    few = HELD_OUT.subset(np.arange(len(HELD_OUT)) < 8)
    with pytest.raises(FilterError, match="identities"):
        ReferenceFilter(TRAINING, few)
    with pytest.raises(FilterError, match="both sides"):
        ReferenceFilter(TRAINING, TRAINING)


def test_duplicates_leave_and_the_first_stays() -> None:
    images = made_faces(people=30, per_person=1, side=32).images
    near = (images[4].astype(int) + 2).clip(0, 255).astype(np.uint8)
    stack = np.concatenate([images, images[3:4], near[None], images[3:4]])
    kept = unique_images(stack)
    assert kept[:30].all()
    assert not kept[30:].any()


@pytest.mark.parametrize("block", [7, 1024])
def test_duplicates_agree_with_comparing_every_pair(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "BLOCK", block)
    draw = np.random.default_rng(5)
    base = draw.integers(0, 256, (6, 16, 16, 3))
    stack = np.concatenate(
        [(base + draw.normal(0, sigma, base.shape)).clip(0, 255) for sigma in (0, 2, 3.5, 5, 9)]
    ).astype(np.uint8)
    expected: list[int] = []
    for row, image in enumerate(stack.astype(float)):
        if all(np.sqrt(((image - stack[kept]) ** 2).mean()) > 4 for kept in expected):
            expected.append(row)
    assert np.flatnonzero(unique_images(stack, rms_levels=4.0)).tolist() == expected
