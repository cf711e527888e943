"""The progressive semantic-aware style transformation network (article, section Generator)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from psfr.networks.blocks import (
    REGIONS,
    SLOPE,
    Derived,
    DoublingConv2d,
    SpectralConv2d,
    instance_norm,
    resized,
    with_regions,
)
from psfr.networks.inference.generator import FoldedGenerator

CONDITION = 3 + REGIONS  # channels of the image with its one-hot region map
HIDDEN = 64


class SpadeNorm(Derived):
    """Instance norm whose scale and shift at each pixel come from the image and its region map (SPADE), by one convolution for both."""

    def __init__(self, channels: int):
        super().__init__()
        self.hidden = SpectralConv2d(CONDITION, HIDDEN)
        self.gamma = SpectralConv2d(HIDDEN, channels)
        self.beta = SpectralConv2d(HIDDEN, channels)

    def derived(self) -> tuple[Tensor, Tensor]:
        return torch.cat([self.gamma.kernel(), self.beta.kernel()]), torch.cat([self.gamma.bias, self.beta.bias])

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Features (B or 1, C, H, W) and the condition (B, 22, H, W) to (B, C, H, W)."""
        hidden = F.leaky_relu(self.hidden(condition), SLOPE, inplace=True)
        gamma, beta = F.conv2d(hidden, *self.operands(), padding=1).chunk(2, 1)
        return torch.addcmul(beta, instance_norm(x).to(beta.dtype), gamma)


class StyleBlock(nn.Module):
    """Style transformation block: twice SPADE norm, leaky ReLU and convolution, beside the identity."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm0 = SpadeNorm(channels)
        self.conv0 = SpectralConv2d(channels, channels)
        self.norm1 = SpadeNorm(channels)
        self.conv1 = SpectralConv2d(channels, channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Features (B or 1, C, H, W) and the condition (B, 22, H, W) to (B, C, H, W)."""
        residual = self.conv0(F.leaky_relu(self.norm0(x, condition), SLOPE, inplace=True))
        residual = self.conv1(F.leaky_relu(self.norm1(residual, condition), SLOPE, inplace=True))
        return residual.add_(x)


class GeneratorStage(nn.Module):
    """A convolution, after doubling the map but in the first stage, and a style transformation block: F_i of the article."""

    def __init__(self, in_channels: int, out_channels: int, double: bool):
        super().__init__()
        self.conv = (DoublingConv2d if double else SpectralConv2d)(in_channels, out_channels)
        self.style = StyleBlock(out_channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        x = self.conv(x)
        return self.style(x, resized(condition, x.shape[-1]))


class Generator(nn.Module):
    """From a learned constant to the restored image, styled at every scale by the degraded image and its region map.

    Args:
        image_size: pixels a side of the images, constant_size times a power of two.
        constant_size: pixels a side of the constant.
        min_channels, max_channels: channels start at the larger bound (1024 at a 16x16 constant if unbounded) and halve down to the smaller.
    """

    def __init__(
        self, image_size: int = 512, constant_size: int = 16, min_channels: int = 32, max_channels: int = 1024
    ):
        super().__init__()
        first = max(min_channels, min(1024 * 16 // constant_size, max_channels))
        doublings = int(math.log2(image_size // constant_size))
        channels = [max(min_channels, first // 2**i) for i in range(doublings + 1)]
        self.constant = nn.Parameter(torch.randn(1, first, constant_size, constant_size))
        self.stages = nn.ModuleList([GeneratorStage(first, first, double=False)])
        for narrow, wide in zip(channels[1:], channels[:-1], strict=True):
            self.stages.append(GeneratorStage(wide, narrow, double=True))
        self.to_image = SpectralConv2d(channels[-1], 3)

    def forward(self, image: Tensor, labels: Tensor) -> Tensor:
        """Degraded image (B, 3, H, W) in [-1, 1] and its labels, int64 (B, H, W), to the restored image (B, 3, H, W)."""
        condition = with_regions(image, labels)
        # One constant for the whole batch: images part where the first norm meets their conditions.
        x = self.constant.contiguous(memory_format=torch.channels_last)
        for stage in self.stages:
            x = stage(x, condition)
        return self.to_image(x)

    def folded(self, precision: torch.dtype) -> FoldedGenerator:
        """For `folding.fold`."""
        return FoldedGenerator(self, precision)
