import math

import pytest
import torch
from torch import Tensor, nn

from facechain.gan.config import LossConfig, LossKind
from facechain.gan.ema import AveragedModel
from facechain.gan.losses import discriminator_loss, generator_loss, gradient_penalty
from facechain.gan.networks import Discriminator
from facechain.gan.presets import TINY

RPGAN = LossConfig(kind=LossKind.RPGAN)
BCE = LossConfig(kind=LossKind.BCE)
NONE = torch.zeros(2)


def test_rpgan_depends_on_the_difference_alone() -> None:
    real, fake = torch.tensor([2.0, 1.0]), torch.tensor([0.5, 1.0])
    found = discriminator_loss(RPGAN, real, fake, real_noise=NONE, fake_noise=NONE)
    assert float(found) == pytest.approx((math.log1p(math.exp(-1.5)) + math.log(2)) / 2, rel=1e-5)
    shifted = discriminator_loss(RPGAN, real + 7, fake + 7, real_noise=NONE, fake_noise=NONE)
    assert torch.allclose(found, shifted)
    assert torch.allclose(generator_loss(RPGAN, fake, real), found)


def test_bce_uses_smoothed_labels_for_the_discriminator() -> None:
    scores = torch.zeros(2)
    real_noise, fake_noise = torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0])
    real = torch.tensor([3.0, 3.0])
    found = discriminator_loss(BCE, real, scores, real_noise=real_noise, fake_noise=fake_noise)
    probability = 1 / (1 + math.exp(-3))
    on_real = [-(y * math.log(probability) + (1 - y) * math.log(1 - probability)) for y in (0.9, 1.0)]
    assert float(found) == pytest.approx(sum(on_real) / 2 + math.log(2), rel=1e-5)


def test_bce_generator_loss_falls_when_fakes_score_higher() -> None:
    low, high = torch.tensor([-1.0]), torch.tensor([1.0])
    assert generator_loss(BCE, low, high) < generator_loss(BCE, low, low)


def test_penalty_of_a_linear_score_is_its_squared_weight() -> None:
    weight = torch.randn(3, 4, 4)

    def score(images: Tensor) -> Tensor:
        return (images * weight).sum(dim=(1, 2, 3))

    found = gradient_penalty(score, torch.randn(6, 3, 4, 4))
    assert torch.allclose(found, weight.square().sum(), rtol=1e-5)


def test_penalty_gradient_agrees_with_finite_differences() -> None:
    torch.manual_seed(0)
    network = Discriminator(TINY.discriminator).double()
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    weight = network.score.weight

    def double_score(points: Tensor) -> Tensor:
        return network.score(network.features(points)).flatten()  # type: ignore[no-any-return]

    gradient_penalty(double_score, images).backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    step = 1e-6
    for place in (0, 17, 100):
        with torch.no_grad():
            weight[0, place] += step
            above = float(gradient_penalty_value(double_score, images))
            weight[0, place] -= 2 * step
            below = float(gradient_penalty_value(double_score, images))
            weight[0, place] += step
        assert float(weight.grad[0, place]) == pytest.approx((above - below) / (2 * step), rel=1e-4, abs=1e-9)


def gradient_penalty_value(score: nn.Module | object, images: Tensor) -> Tensor:
    with torch.enable_grad():
        return gradient_penalty(score, images).detach()  # type: ignore[arg-type]


def test_average_halves_the_distance_in_one_half_life() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    average = AveragedModel(module, half_life_images=64, ramp=1.0)
    nn.init.ones_(module.weight)
    for step in range(8):
        average.update(module, images_seen=10_000 + step * 8, batch=8)
    assert float(average.module.weight) == pytest.approx(0.5, rel=1e-5)  # type: ignore[arg-type]


def test_average_without_half_life_copies_weights_and_buffers() -> None:
    module = nn.BatchNorm1d(2)
    average = AveragedModel(module, half_life_images=0, ramp=0.0)
    module(torch.randn(8, 2) + 3)
    nn.init.constant_(module.weight, 2.0)
    average.update(module, images_seen=8, batch=8)
    assert torch.equal(average.module.weight, module.weight)  # type: ignore[arg-type]
    assert torch.equal(average.module.running_mean, module.running_mean)  # type: ignore[arg-type]
