import torch

from facechain.gan.layers import SelfAttention
from facechain.gan.networks import make_discriminator, make_generator, parameter_count
from facechain.gan.presets import R3_ATTN_32, R3_ATTN_64
from facechain.gan.residual import ResidualBlock, ResidualDiscriminator, ResidualGenerator


def test_residual_presets_have_the_sizes_that_are_documented() -> None:
    found = {
        config.preset: (
            parameter_count(make_generator(config.generator)),
            parameter_count(make_discriminator(config.discriminator)),
        )
        for config in (R3_ATTN_32, R3_ATTN_64)
    }
    assert found == {"r3-attn-32": (7_448_420, 6_936_482), "r3-attn-64": (7_790_820, 7_278_882)}


def test_residual_networks_fit_each_other() -> None:
    for config in (R3_ATTN_32, R3_ATTN_64):
        generator, discriminator = make_generator(config.generator), make_discriminator(config.discriminator)
        assert isinstance(generator, ResidualGenerator)
        assert isinstance(discriminator, ResidualDiscriminator)
        images = generator(torch.randn(2, 100))
        assert images.shape == (2, 3, config.generator.resolution, config.generator.resolution)
        assert discriminator(images).shape == (2,)


def test_attention_stands_at_16_in_both() -> None:
    generator, discriminator = (
        make_generator(R3_ATTN_32.generator),
        make_discriminator(R3_ATTN_32.discriminator),
    )
    found = [
        [part.value.in_channels for part in network.modules() if isinstance(part, SelfAttention)]
        for network in (generator, discriminator)
    ]
    assert found == [[128], [128]]


def test_a_block_starts_as_the_identity_and_learns_away_from_it() -> None:
    network = make_generator(R3_ATTN_32.generator)
    block = next(part for part in network.modules() if isinstance(part, ResidualBlock))
    images = torch.randn(2, 320, 4, 4)
    assert torch.equal(block(images), images)
    block(images).square().sum().backward()
    assert block.last.weight.grad is not None
    assert block.last.weight.grad.abs().sum() > 0
