from dataclasses import replace

import pytest

from facechain.gan.config import LossConfig, LossKind
from facechain.gan.cost import training_cost
from facechain.gan.presets import PPSA_PAPER, PPSA_PLUS, TINY


def test_cost_of_the_paper_s_network_is_counted_by_hand() -> None:
    """Multiplications of the forward pass, times the passes that a step takes."""
    generator = 2 * (100 * 8192 + 16 * 512 * 256 * 16 + 64 * 256 * 128 * 16 + 256 * 128 * 3 * 16)
    for side, width in ((8, 256), (16, 128)):
        places = side * side
        generator += 2 * places * width * (width + 2 * width // 8) + 2 * places**2 * (width // 8 + width)
    discriminator = 2 * 16 * (256 * 3 * 32 + 64 * 32 * 64 + 16 * 64 * 128) + 2 * 2048
    cost = training_cost(PPSA_PAPER)
    assert cost["generator_parameters"] == 3_560_037
    # Generator: forward, and backward at twice that; the discriminator sees two images and is passed back through
    # for its weights, and then one through which the generator learns.
    expected = 3 * generator + 2 * 3 * discriminator + 2 * discriminator
    assert float(str(cost["gflop_per_image"])) == pytest.approx(expected / 1e9, rel=0.05)


def test_penalties_cost_more_the_more_often_they_are_taken() -> None:
    rare, often = (
        training_cost(replace(PPSA_PLUS, loss=replace(PPSA_PLUS.loss, penalty_interval=interval)))
        for interval in (4, 1)
    )
    never = training_cost(replace(TINY, loss=LossConfig(kind=LossKind.RPGAN)))
    assert float(str(often["gflop_per_image"])) > float(str(rare["gflop_per_image"]))
    assert float(str(never["gflop_per_image"])) < float(str(training_cost(TINY)["gflop_per_image"]))
