import numpy as np
import pytest

from facechain.gan.device import Device
from facechain.gan.metrics.judgement import Judgement, discriminator_scores, judge
from facechain.gan.networks import make_discriminator
from facechain.gan.presets import TINY
from support.faces import made_faces


def test_every_figure_follows_from_the_one_matrix() -> None:
    told = judge(np.array([2.0, 1.0, -1.0, 3.0]), np.array([-2.0, 0.5, -1.0])).to_json()
    assert told["confusion"] == {"real": {"real": 3, "fake": 1}, "fake": {"real": 1, "fake": 2}}
    assert told["held_out_real"] == 4
    assert told["fresh_fakes"] == 3
    values = {name: told[name]["value"] for name in ("accuracy", "precision", "recall")}  # type: ignore[index]
    assert values == {"accuracy": 0.7143, "precision": 0.75, "recall": 0.75}
    assert told["f1"] == 0.75
    # Of the 12 pairs, real scores lie above fake ones in ten; one ties.
    assert told["auc"]["value"] == pytest.approx(10.5 / 12, abs=1e-4)  # type: ignore[index]


def test_a_judge_that_knows_and_one_that_guesses() -> None:
    knows = judge(np.ones(50), -np.ones(50))
    assert knows.auc == 1
    assert knows.roc[0] == (0.0, 1.0)
    draw = np.random.default_rng(0)
    guesses = judge(draw.normal(size=4_000), draw.normal(size=4_000))
    assert guesses.auc == pytest.approx(0.5, abs=0.03)
    assert [x for x, _ in guesses.roc] == sorted(x for x, _ in guesses.roc)
    nothing = judge(-np.ones(5), -np.ones(5)).to_json()
    assert nothing["f1"] == 0


def test_a_relativistic_judge_is_asked_where_its_errors_are_equal() -> None:
    draw = np.random.default_rng(1)
    on_real, on_fake = 5 + draw.normal(size=4_000), 4 + draw.normal(size=6_000)
    plain = judge(on_real, on_fake)
    assert plain.true_fake < 10  # score 0 says nothing here
    fair = judge(on_real, on_fake, relativistic=True)
    assert fair.threshold == pytest.approx(4.5, abs=0.05)
    assert (fair.true_real + fair.false_fake, fair.true_fake + fair.false_real) == (2_000, 3_000)
    assert fair.true_real / 2_000 == pytest.approx(fair.true_fake / 3_000, abs=0.04)
    assert (fair.auc, fair.roc) == (plain.auc, plain.roc)


def test_the_interval_of_the_area_is_as_wide_as_repeated_samples_are_apart() -> None:
    draw = np.random.default_rng(2)
    told = [judge(draw.normal(1, size=300), draw.normal(size=200)) for _ in range(200)]
    areas = np.array([one.auc for one in told])
    widths = np.array([one.auc_interval[1] - one.auc_interval[0] for one in told])
    assert widths.mean() == pytest.approx(2 * 1.96 * areas.std(), rel=0.2)
    inside = [one.auc_interval[0] <= 0.7602 <= one.auc_interval[1] for one in told]  # Φ(1/√2)
    assert np.mean(inside) > 0.88
    assert judge(np.ones(9), -np.ones(9)).auc_interval == (1.0, 1.0)


def test_a_judgement_is_read_back_as_it_was_written() -> None:
    draw = np.random.default_rng(3)
    told = judge(draw.normal(1, size=40), draw.normal(size=50), relativistic=True).to_json()
    assert Judgement.from_json(told).to_json() == told


def test_scores_do_not_depend_on_how_images_are_batched(cpu: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    discriminator = make_discriminator(TINY.discriminator).eval()
    images = made_faces(people=4, per_person=3).images
    whole = discriminator_scores(discriminator, images, cpu)
    monkeypatch.setattr("facechain.gan.metrics.judgement.BATCH", 5)
    assert np.allclose(whole, discriminator_scores(discriminator, images, cpu), atol=1e-5)
    assert whole.shape == (12,)
