"""The clipped sum without gradients of single images, against one image at a time and against Opacus."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.grad_sample import GradSampleHooks
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn
from torch.nn import functional

from facechain.gan.config import TrainingConfig
from facechain.gan.errors import ConfigError
from facechain.gan.networks import make_discriminator
from facechain.gan.presets import PPSA_PAPER, PPSA_PLUS
from facechain.gan.privacy.clipping import clipped_sum

TINY_NORM = 1e-12


def score_loss(scores: Tensor) -> Tensor:
    return functional.softplus(-scores).sum()


def one_by_one(network: nn.Module, images: Tensor, *, clip: float) -> Tensor:
    """Flat float64 sum of the gradients of single images, each clipped."""
    exact = copy.deepcopy(network).double()
    total = torch.zeros(sum(weight.numel() for weight in exact.parameters()), dtype=torch.float64)
    for image in images.double():
        loss = score_loss(exact(image[None]))
        flat = torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(exact.parameters()))])
        total += flat * min(1.0, clip / (float(flat.norm()) + 1e-6))
    return total


class Fixed(nn.Module):
    """Scores by weights that nobody trains."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights)

    def forward(self, images: Tensor) -> Tensor:
        return images @ self.get_buffer("weights")


def flat(parts: list[Tensor]) -> Tensor:
    return torch.cat([part.flatten().double() for part in parts])


def difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / (expected.norm() + TINY_NORM))


@st.composite
def networks(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    """A few convolutions and a linear layer, with images; both ways to a norm occur."""
    torch.manual_seed(draw(st.integers(0, 2**20)))
    side, channels = draw(st.integers(5, 12)), draw(st.integers(1, 4))
    images = torch.randn(draw(st.integers(1, 6)), channels, side, side) * draw(st.sampled_from([0.1, 1, 30]))
    layers: list[nn.Module] = []
    for _ in range(draw(st.integers(0, 2))):
        width, kernel = draw(st.integers(1, 24)), draw(st.integers(1, 4))
        convolution = nn.Conv2d(
            channels,
            width,
            kernel,
            stride=draw(st.integers(1, 2)),
            padding=draw(st.integers(0, 2)),
            dilation=draw(st.integers(1, 2)) if kernel <= 3 else 1,
            bias=draw(st.booleans()),
        )
        smaller = convolution(torch.zeros(1, channels, side, side)).shape[-1] if side >= 5 else 0
        layers += [convolution, nn.LeakyReLU(0.2)]
        side, channels = smaller, width
        if side < 5:
            break
    layers += [nn.Flatten(), nn.Linear(channels * side * side, 1, bias=draw(st.booleans())), nn.Flatten(0)]
    return nn.Sequential(*layers), images


@settings(max_examples=60)
@given(made=networks(), clip=st.sampled_from([1e-3, 0.5, 1e4]), last=st.booleans())
def test_the_sum_is_that_of_single_images(made: tuple[nn.Module, Tensor], clip: float, last: bool) -> None:
    network, images = made
    expected = one_by_one(network, images, clip=clip)
    if last:
        network.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    found = clipped_sum(network, images, score_loss, clip=clip)
    assert [part.shape for part in found] == [weight.shape for weight in network.parameters()]
    assert difference(flat(found), expected) < 1e-4
    assert all(weight.grad is None for weight in network.parameters())


@pytest.mark.parametrize("preset", [PPSA_PAPER, PPSA_PLUS], ids=lambda preset: preset.preset)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_the_sum_is_that_of_opacus(preset: TrainingConfig, layout: torch.memory_format) -> None:
    torch.manual_seed(1)
    network = make_discriminator(preset.discriminator)
    images = torch.rand(24, 3, 32, 32) * 2 - 1
    optimizer = DPOptimizer(
        torch.optim.SGD(network.parameters(), lr=0.0),
        noise_multiplier=0.0,
        max_grad_norm=0.5,
        expected_batch_size=1,
        loss_reduction="sum",
    )
    hooks = GradSampleHooks(network, loss_reduction="sum")
    score_loss(network(images.clone().requires_grad_())).backward()  # type: ignore[no-untyped-call]
    optimizer.clip_and_accumulate()
    hooks.remove_hooks()
    expected = flat([getattr(weight, "summed_grad") for weight in network.parameters()])  # noqa: B009
    network.to(memory_format=layout)
    found = clipped_sum(network, images.to(memory_format=layout), score_loss, clip=0.5)
    assert difference(flat(found), expected) < 1e-5


def test_terms_that_cancel_do_not_hide_a_norm() -> None:
    """Gram matrices add large numbers of both signs; in float32 what is left of them would be wrong."""
    network = nn.Sequential(nn.Conv2d(64, 64, 1, bias=False), nn.Flatten(), nn.Linear(256, 1, bias=False))
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0]).repeat(64)
    network[2].load_state_dict({"weight": signs[None]})
    network[0].load_state_dict({"weight": torch.zeros(64, 64, 1, 1)})
    images = torch.full((1, 64, 2, 2), 4096.0)
    images[:, :, 0, 0] += 0.25
    (convolution,) = clipped_sum(network, images, score_loss, clip=1e9)[:1]
    assert float(convolution.norm()) == pytest.approx(0.25 * 64 / 2, rel=1e-6)
    (clipped,) = clipped_sum(
        nn.Sequential(*network[:1], nn.Flatten(), Fixed(signs)), images, score_loss, clip=1.0
    )
    assert float(clipped.norm()) == pytest.approx(1.0, rel=1e-5)


def test_parameters_whose_gradients_are_not_known_are_refused() -> None:
    images = torch.randn(2, 3, 8, 8)
    twice = nn.Linear(4, 4)
    for network in (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(144, 1)),
        nn.Sequential(nn.Conv2d(3, 3, 3, groups=3), nn.Flatten(), nn.Linear(108, 1)),
        nn.Sequential(nn.Conv2d(3, 4, 3, padding="same"), nn.Flatten(), nn.Linear(256, 1)),
        nn.Sequential(nn.Flatten(), nn.Linear(192, 4), twice, twice, nn.Linear(4, 1)),
        nn.Sequential(nn.Flatten(2), nn.Linear(64, 1), nn.Flatten()),
    ):
        with pytest.raises(ConfigError, match="cannot be trained privately"):
            clipped_sum(network, images, score_loss, clip=1.0)
    assert not any(layer._forward_hooks for layer in network.modules())
