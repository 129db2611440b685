"""The classifier: a compact residual trunk to 512 features, then the paper's head.

Head as in the paper: features → convolution module → average pool 2x2 → dropout → two fully connected layers →
softmax (in `predict`). The trunk is ours: the paper reads features of its generator, which a photograph has not.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from .classes import CLASSES
from .config import ClassifierConfig

STEM_KERNEL = 5


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation, added to a shortcut (He et al. 2016, shortcut "ResNet-D")."""

    def __init__(self, channels: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)
        pool = nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False) if stride > 1 else nn.Identity()
        self.shortcut = nn.Sequential(pool, nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, width, H/stride, W/stride), rounded up."""
        inner = functional.relu(self.first_norm(self.first(images)), inplace=True)
        inner = self.second_norm(self.second(inner))
        return functional.relu(inner + self.shortcut(images), inplace=True)


class ExpressionClassifier(nn.Module):
    """Standardised grey images (N, 1, crop, crop) to logits (N, 7).

    The pooling is 2x2 for views of the configured crop; smaller ones, as training begins with, are pooled to the
    same size.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        stem = nn.Conv2d(1, config.stem, STEM_KERNEL, stride=2, padding=STEM_KERNEL // 2, bias=False)
        trunk: list[nn.Module] = [stem, nn.BatchNorm2d(config.stem), nn.ReLU(inplace=True)]
        channels = config.stem
        for number, width in enumerate(config.widths):
            trunk.append(ResidualBlock(channels, width, stride=1 if number == 0 else 2))
            channels = width
        self.trunk = nn.Sequential(*trunk, *_convolution_module(channels, config.features))
        self.module = nn.Sequential(*_convolution_module(config.features, config.module))
        pooled = config.last_side // 2
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(pooled),
            nn.Flatten(),
            nn.Dropout(config.dropout),
            nn.Linear(config.module * pooled**2, config.hidden),
            nn.ReLU(inplace=True),
            nn.Linear(config.hidden, len(CLASSES)),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits in float32 whatever autocast chose inside."""
        return cast("Tensor", self.head(self.module(self.trunk(images)))).float()


def _convolution_module(channels: int, width: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(channels, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )
