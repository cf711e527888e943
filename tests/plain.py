"""Networks' layers and the style loss as the article writes them, to hold the faster forms against."""

import torch
from torch import Tensor
from torch.nn import functional as F


def doubled_convolution(x: Tensor, weight: Tensor, bias: Tensor, padding: str) -> Tensor:
    """Nearest doubling, padding by one ("constant" is zero), 3x3 convolution."""
    return F.conv2d(F.pad(F.interpolate(x, scale_factor=2, mode="nearest"), (1, 1, 1, 1), padding), weight, bias)


def pooled_convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Reflection padding, 3x3 convolution, 2x2 average pooling."""
    return F.avg_pool2d(F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), weight, bias), 2)


def style_loss(restored: list[Tensor], high: list[Tensor], labels: Tensor, regions: int = 19) -> Tensor:
    """All Gram matrices of all regions, one after the other."""
    total = 0
    for x, y in zip(restored, high, strict=True):
        batch, channels, height, width = x.shape
        small = F.interpolate(labels[:, None].double(), (height, width))[:, 0].long()
        squares = x.new_zeros(())
        for region in range(regions):
            mask = (small == region).unsqueeze(1).to(x.dtype)
            grams = []
            for features in (x, y.detach()):
                inside = (features * mask).flatten(2)
                grams.append(inside @ inside.transpose(1, 2) / (channels * (mask.sum((2, 3)).unsqueeze(2) + 1e-8)))
            squares = squares + (grams[0] - grams[1]).square().sum()
        total = total + squares / (batch * regions * channels**2)
    return total


def gradients(output: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Of a sum with uneven weights, so that no error cancels."""
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return torch.autograd.grad((output * weights).sum(), inputs)
