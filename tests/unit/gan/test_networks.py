import torch
from torch import nn

from facechain.gan.config import Norm
from facechain.gan.layers import SelfAttention
from facechain.gan.networks import Discriminator, Generator
from facechain.gan.presets import PPSA_PAPER, PPSA_PLUS, TINY


def test_generator_gives_images_in_range() -> None:
    images = Generator(PPSA_PLUS.generator)(torch.randn(3, 100))
    assert images.shape == (3, 3, 32, 32)
    assert images.dtype == torch.float32
    assert images.abs().max() <= 1


def test_generator_has_attention_at_8_and_16() -> None:
    found = [module for module in Generator(PPSA_PAPER.generator).body if isinstance(module, SelfAttention)]
    assert [layer.value.in_channels for layer in found] == [256, 128]


def test_generator_norm_follows_the_preset() -> None:
    assert PPSA_PLUS.generator.norm is Norm.GROUP
    assert not any(isinstance(m, nn.BatchNorm2d) for m in Generator(PPSA_PLUS.generator).modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in Generator(PPSA_PAPER.generator).modules())


def test_attention_starts_as_identity_and_then_mixes_positions() -> None:
    torch.manual_seed(0)
    layer = SelfAttention(16)
    images = torch.randn(2, 16, 4, 4)
    assert torch.equal(layer(images), images)
    nn.init.ones_(layer.gate)
    moved = images.clone()
    moved[:, :, 0, 0] += 1
    assert not torch.allclose(layer(images)[:, :, 3, 3], layer(moved)[:, :, 3, 3])


def test_attention_is_the_textbook_sum() -> None:
    torch.manual_seed(0)
    layer = SelfAttention(8)
    nn.init.ones_(layer.gate)
    image = torch.randn(1, 8, 2, 2)
    flat = image[0].flatten(1)
    query = layer.query.weight[:, :, 0, 0] @ flat + layer.query.bias[:, None]  # type: ignore[index]
    key = layer.key.weight[:, :, 0, 0] @ flat + layer.key.bias[:, None]  # type: ignore[index]
    value = layer.value.weight[:, :, 0, 0] @ flat + layer.value.bias[:, None]  # type: ignore[index]
    weights = torch.softmax(query.T @ key, dim=1)
    expected = flat + value @ weights.T
    assert torch.allclose(layer(image)[0].flatten(1), expected, atol=1e-5)


def test_discriminator_scores_each_image() -> None:
    scores = Discriminator(TINY.discriminator)(torch.randn(5, 3, 16, 16))
    assert scores.shape == (5,)
