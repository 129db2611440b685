"""The sum of gradients of single images, each clipped, without ever holding the gradient of a single image.

An image's gradient of a layer's weights is the product of what the layer got and the gradient of what it gave. So one
backward pass to the layers' outputs is enough: norms come from those two, by Gram matrices where these are smaller
than the weights ("ghost norms", arXiv 2110.05679), and the clipped sum is one weight gradient with scaled outputs
("book-keeping", arXiv 2210.00038). Owns neither sampling nor noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_weight

from ..errors import ConfigError

STABLE: Final = 1e-6
"""Added to norms, as Opacus does, so that a gradient of nothing is not divided by nothing."""

Loss = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Use:
    """One layer's part in a pass over N images."""

    layer: nn.Conv2d | nn.Linear
    inputs: Tensor
    gradient: Tensor
    """Of the loss, for what the layer gave."""

    def squared_norms(self) -> Tensor:
        """(N,) float64: squared norm of each image's gradient of the layer's parameters."""
        if isinstance(self.layer, nn.Linear):
            length = self.inputs.double().square().sum(1) + float(self.layer.bias is not None)
            return self.gradient.double().square().sum(1) * length
        layer = self.layer
        given = self.gradient.flatten(2)
        got = functional.unfold(self.inputs, layer.kernel_size, layer.dilation, _padding(layer), layer.stride)
        places, outputs, weights = given.shape[2], given.shape[1], got.shape[1]
        if places * (outputs + weights) < outputs * weights:
            # In float64: large terms may cancel, and a norm that is too small clips too little.
            squares = (_gram(got) * _gram(given)).sum((1, 2))
        else:
            squares = torch.bmm(given, got.transpose(1, 2)).double().square().sum((1, 2))
        if layer.bias is not None:
            squares = squares + given.sum(2).double().square().sum(1)
        return squares

    def scaled_sum(self, factors: Tensor) -> list[Tensor]:
        """Gradients of weight and bias, each image's multiplied by its factor."""
        layer = self.layer
        gradient = self.gradient * factors.view(-1, *[1] * (self.gradient.dim() - 1))
        if isinstance(layer, nn.Linear):
            found = [gradient.T @ self.inputs, gradient.sum(0)]
        else:
            weight = conv2d_weight(  # type: ignore[no-untyped-call]
                self.inputs, layer.weight.shape, gradient, layer.stride, _padding(layer), layer.dilation
            )
            found = [weight, gradient.sum((0, 2, 3))]
        return found if layer.bias is not None else found[:1]


def clipped_sum(network: nn.Module, images: Tensor, loss: Loss, *, clip: float) -> list[Tensor]:
    """Sum over `images` of the gradients of `loss`, each scaled down to a norm of `clip`.

    Args:
        network: only convolutions and linear layers have parameters, each layer runs once, and no image
            influences the score of another.
        images: (N, …).
        loss: from scores to the sum of the images' losses.
        clip: largest norm.

    Returns:
        One tensor per parameter of `network`, in its order.

    Raises:
        ConfigError: a parameter whose gradients per image are not known.
    """
    uses = _run(network, images, loss)
    norms = torch.stack([use.squared_norms() for use in uses]).sum(0).sqrt()
    factors = (clip / (norms + STABLE)).clamp(max=1.0).to(images.dtype)
    return [part for use in uses for part in use.scaled_sum(factors)]


def _run(network: nn.Module, images: Tensor, loss: Loss) -> list[_Use]:
    """Forward, and backward to the outputs of the layers; no gradient of a weight is computed."""
    seen: list[tuple[nn.Module, Tensor, Tensor]] = []

    def note(layer: nn.Module, got: tuple[Tensor, ...], gave: Tensor) -> None:
        seen.append((layer, got[0].detach(), gave))

    layers = [layer for layer in network.modules() if _is_known(layer)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        total = loss(network(images))
    finally:
        for hook in hooks:
            hook.remove()
    of_layers = [id(weight) for layer, _, _ in seen for weight in layer.parameters()]
    flat = all(got.dim() == 2 for layer, got, _ in seen if isinstance(layer, nn.Linear))
    if not flat or of_layers != [id(weight) for weight in network.parameters()]:
        raise ConfigError(
            "this network cannot be trained privately",
            expected="convolutions and linear layers that run once, in the order of their parameters",
            got=type(network).__name__,
        )
    gradients = torch.autograd.grad(total, [gave for _, _, gave in seen])
    return [
        _Use(layer=layer, inputs=got, gradient=gradient)
        for (layer, got, _), gradient in zip(seen, gradients, strict=True)
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]


def _is_known(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        return layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return isinstance(layer, nn.Linear)


def _padding(layer: nn.Conv2d) -> tuple[int, ...]:
    """Numbers; `_is_known` refuses words."""
    return tuple(int(number) for number in layer.padding)


def _gram(columns: Tensor) -> Tensor:
    """(N, C, T) to (N, T, T) float64: products of all pairs of columns."""
    exact = columns.double()
    return torch.bmm(exact.transpose(1, 2), exact)
