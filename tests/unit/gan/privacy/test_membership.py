"""Statistics of membership attacks, and the attacks on generators that memorised and that did not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score, roc_curve

from facechain.gan.datasets import split_by_identity
from facechain.gan.device import Device
from facechain.gan.errors import PrivacyError
from facechain.gan.networks import make_discriminator
from facechain.gan.presets import TINY
from facechain.gan.privacy import attacks
from facechain.gan.privacy.attacks import (
    CALIBRATED,
    DISCRIMINATOR,
    NEAREST,
    calibrate,
    choose_people,
    discriminator_scores,
    nearest_images,
    people_of,
    run_attacks,
)
from facechain.gan.privacy.membership import Attack, Scored, judge, most_found
from support.faces import made_faces

FACES = made_faces(people=90, per_person=3)
MEMBERS, OTHERS = split_by_identity(FACES, holdout_share=0.5)
CALIBRATION = calibrate(OTHERS, heldout_share=0.5, images=10**6)


def scored(values: np.ndarray[tuple[int], np.dtype[np.float64]], *, per_person: int = 1) -> Scored:
    return Scored(scores=values, people=np.arange(len(values)) // per_person)


def found(results: tuple[Attack, ...], name: str, unit: str) -> Attack:
    (attack,) = [attack for attack in results if (attack.name, attack.unit) == (name, unit)]
    return attack


def test_figures_are_those_of_scikit_learn() -> None:
    draw = np.random.default_rng(3)
    inside, outside = draw.normal(0.4, 1, 1_500).round(1), draw.normal(0, 1, 2_000).round(1)
    attack = judge("made", scored(inside), scored(outside))
    truth, scores = np.repeat([1, 0], [1_500, 2_000]), np.concatenate([inside, outside])
    assert attack.auc == pytest.approx(roc_auc_score(truth, scores), abs=1e-4)
    false, true, _ = roc_curve(truth, scores, drop_intermediate=False)
    for point in attack.points:
        assert point.true_positive_rate == pytest.approx(
            true[false <= point.false_positive_rate].max(), abs=1e-5
        )
        assert point.true_positive_rate is not None
        assert point.low is not None
        assert point.high is not None
        assert point.low <= point.true_positive_rate <= point.high
    assert attack.low < attack.auc < attack.high
    assert attack.succeeds


def test_guessing_is_not_called_a_success() -> None:
    draw = np.random.default_rng(4)
    attack = judge("made", scored(draw.normal(size=800)), scored(draw.normal(size=800)))
    assert attack.low < 0.5 < attack.high
    assert not attack.succeeds


def test_images_of_one_person_do_not_count_as_so_many_people() -> None:
    draw = np.random.default_rng(5)
    inside, outside = (np.repeat(draw.normal(size=60), 20) for _ in range(2))
    alone = judge("made", scored(inside), scored(outside))
    together = judge("made", scored(inside, per_person=20), scored(outside, per_person=20))
    assert together.high - together.low > 3 * (alone.high - alone.low)
    assert scored(inside, per_person=20).by_person().scores == pytest.approx(inside[::20])


def test_operating_points_that_the_numbers_cannot_show_are_refused_or_stamped() -> None:
    draw = np.random.default_rng(6)
    few, many = (
        judge("made", scored(draw.normal(size=n)), scored(draw.normal(size=n))) for n in (400, 2_500)
    )
    strict, loose = few.points
    assert (strict.true_positive_rate, strict.low) == (None, None)
    assert "needs 1,000 non-members, got 400" in strict.note
    assert loose.note == "coarse: 4 false positives of 400"
    assert many.points[0].note == "coarse: 2 false positives of 2,500"
    assert many.points[1].note == ""
    with pytest.raises(PrivacyError, match="too few non-members"):
        judge("made", scored(draw.normal(size=50)), scored(draw.normal(size=50), per_person=10))


def test_nearest_images_are_those_of_comparing_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacks, "BLOCK", 7)
    left, right = MEMBERS.images[:20], OTHERS.images[:30]
    nearest = nearest_images(left, right)
    for number, image in enumerate(left.astype(float)):
        gaps = np.minimum(
            *(np.sqrt(((image - other) ** 2).mean(axis=(1, 2, 3))) for other in (right, right[:, :, ::-1]))
        )
        assert nearest.rms[number] == pytest.approx(gaps.min(), abs=1e-3)
        assert nearest.index[number] == gaps.argmin()
    assert nearest_images(left, left[:, :, ::-1]).rms.max() < 0.2


def test_whole_people_are_drawn() -> None:
    chosen = choose_people(MEMBERS, images=31)
    assert len(chosen) == 33
    assert set(np.bincount(people_of(chosen))) == {3}
    assert len(choose_people(MEMBERS, images=10**6)) == len(MEMBERS)
    nameless = replace(MEMBERS, identities=("",) * len(MEMBERS))
    assert len(set(people_of(nameless))) == len(MEMBERS)


def test_a_generator_that_memorised_is_caught(cpu: Device) -> None:
    grain = np.random.default_rng(7).normal(0, 8, MEMBERS.images.shape)
    copies = (MEMBERS.images + grain).clip(0, 255).astype(np.uint8)
    results = run_attacks(
        members=MEMBERS,
        non_members=OTHERS,
        generated=copies,
        calibration=CALIBRATION,
        discriminator=None,
        device=cpu,
    )
    for name in (NEAREST, CALIBRATED):
        assert found(results, name, "image").low > 0.95
        assert found(results, name, "person").low > 0.95


def test_calibration_finds_more_where_some_faces_are_plainer_than_others(cpu: Device) -> None:
    faces = made_faces(people=240, per_person=2, seed=12)
    contrast = np.random.default_rng(13).uniform(0.2, 1, 240)[people_of(faces)][:, None, None, None]
    faces = replace(faces, images=(128 + contrast * (faces.images - 128.0)).astype(np.uint8))
    members, others = split_by_identity(faces, holdout_share=0.5)
    blends = (members.images * 0.5 + members.images[::-1] * 0.5).astype(np.uint8)
    results = run_attacks(
        members=members,
        non_members=others,
        generated=blends,
        calibration=calibrate(others, heldout_share=0.5, images=10**6),
        discriminator=None,
        device=cpu,
    )
    plain, calibrated = (found(results, name, "image") for name in (NEAREST, CALIBRATED))
    assert calibrated.low > 0.6
    assert calibrated.auc > plain.auc + 0.05
    at_one_percent = [attack.points[1].true_positive_rate or 0.0 for attack in (plain, calibrated)]
    assert at_one_percent[0] < 0.1
    assert at_one_percent[1] > 0.4


def test_who_calibrates_is_neither_a_member_nor_a_non_member() -> None:
    sides = [MEMBERS, CALIBRATION.references, CALIBRATION.non_members]
    names = [set(side.identities) for side in sides]
    assert not names[0] & (names[1] | names[2])
    assert not names[1] & names[2]
    assert names[1] | names[2] == set(OTHERS.identities)
    assert 0.2 < len(names[1]) / len(names[1] | names[2]) < 0.5
    assert calibrate(OTHERS, heldout_share=0.5, images=10**6).references.names == CALIBRATION.references.names
    with pytest.raises(PrivacyError, match=r"at least 10 to calibrate .* got [0-9] and"):
        calibrate(choose_people(OTHERS, images=45), heldout_share=0.5, images=10)


def test_the_guarantee_bounds_what_any_attack_finds() -> None:
    assert most_found(0.01, epsilon=1.0, delta=1e-5) == pytest.approx(0.0271928, abs=1e-6)
    assert most_found(0.01, epsilon=10.0, delta=1e-5) == 1.0
    assert most_found(0.0, epsilon=1.0, delta=1e-3) == 1e-3


def test_a_generator_that_learned_people_in_general_is_not_accused(cpu: Device) -> None:
    strangers = made_faces(people=150, per_person=1, seed=99).images
    results = run_attacks(
        members=MEMBERS,
        non_members=OTHERS,
        generated=strangers,
        calibration=CALIBRATION,
        discriminator=None,
        device=cpu,
    )
    assert [attack.unit for attack in results] == ["image", "person"] * 2
    assert not any(attack.succeeds for attack in results)


def test_an_overfitted_discriminator_is_caught_and_an_untrained_one_is_not(cpu: Device) -> None:
    torch.manual_seed(0)
    module = make_discriminator(TINY.discriminator)
    strangers = made_faces(people=150, per_person=1, seed=99).images

    def attack() -> Attack:
        results = run_attacks(
            members=MEMBERS,
            non_members=OTHERS,
            generated=strangers,
            calibration=None,
            discriminator=module,
            device=cpu,
        )
        assert len(results) == 4
        return found(results, DISCRIMINATOR, "image")

    assert not attack().succeeds
    stacked = np.concatenate([MEMBERS.images, strangers])
    points = torch.from_numpy(stacked).permute(0, 3, 1, 2).float() / 127.5 - 1
    truth = (torch.arange(len(points)) < len(MEMBERS)).float()
    adam = torch.optim.Adam(module.parameters(), lr=5e-3)
    for _ in range(150):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(module(points), truth)
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
    assert attack().low > 0.6
    plain = discriminator_scores(module, MEMBERS.images, cpu)
    mirrored = discriminator_scores(module, np.ascontiguousarray(MEMBERS.images[:, :, ::-1]), cpu)
    assert plain == pytest.approx(mirrored, abs=1e-4)
