"""Generator of PSFR-GAN (the reimplementation, section Generator)."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from psfr.networks import NUM_CLASSES
from psfr.networks.functional import LEAKY_SLOPE, PaddingMode, concat_one_hot, instance_norm, pad, resize_condition
from psfr.networks.kernels import ReparameterizedConv
from psfr.networks.spectral_norm import SpectralNormConv2d, UpsampleConv2d

COND_CHANNELS = 3 + NUM_CLASSES  # the image and the one-hot planes of its parsing map
SPADE_HIDDEN = 64


class SpadeNorm(ReparameterizedConv):
    """SPADE norm: instance norm with a scale and a shift at each pixel that are computed from the condition.

    One convolution computes both.
    """

    def __init__(self, channels: int, padding_mode: PaddingMode):
        super().__init__()
        self.hidden = SpectralNormConv2d(COND_CHANNELS, SPADE_HIDDEN, padding_mode=padding_mode)
        self.gamma = SpectralNormConv2d(SPADE_HIDDEN, channels, padding_mode=padding_mode)
        self.beta = SpectralNormConv2d(SPADE_HIDDEN, channels, padding_mode=padding_mode)

    def kernel_and_bias(self) -> tuple[Tensor, Tensor]:
        assert self.gamma.bias is not None and self.beta.bias is not None
        kernel = torch.cat([self.gamma.normalized_weight(), self.beta.normalized_weight()])
        return kernel, torch.cat([self.gamma.bias, self.beta.bias])

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Normalize features (B or 1, C, H, W) by a condition (B, 22, H, W); returns (B, C, H, W)."""
        hidden = F.leaky_relu(self.hidden(condition), LEAKY_SLOPE, inplace=True)
        if self.gamma.padding_mode == "replicate":
            gamma, beta = F.conv2d(pad(hidden, "replicate"), *self.cached_kernel_and_bias()).chunk(2, 1)
        else:
            gamma, beta = F.conv2d(hidden, *self.cached_kernel_and_bias(), padding=1).chunk(2, 1)
        return torch.addcmul(beta, instance_norm(x).to(beta.dtype), gamma)


class StyleBlock(nn.Module):
    """Style transformation block: SPADE norm, leaky ReLU and convolution, two times, with an identity shortcut."""

    def __init__(self, channels: int, padding_mode: PaddingMode):
        super().__init__()
        self.norm0 = SpadeNorm(channels, padding_mode)
        self.conv0 = SpectralNormConv2d(channels, channels, padding_mode=padding_mode)
        self.norm1 = SpadeNorm(channels, padding_mode)
        self.conv1 = SpectralNormConv2d(channels, channels, padding_mode=padding_mode)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Transform features (B or 1, C, H, W) by a condition (B, 22, H, W); returns (B, C, H, W)."""
        residual = self.conv0(F.leaky_relu(self.norm0(x, condition), LEAKY_SLOPE, inplace=True))
        residual = self.conv1(F.leaky_relu(self.norm1(residual, condition), LEAKY_SLOPE, inplace=True))
        return residual.add_(x)


class GeneratorStage(nn.Module):
    """A convolution, upsampling in all stages but the first, and a style block: F_i of the reimplementation."""

    def __init__(self, in_channels: int, out_channels: int, upsample: bool, padding_mode: PaddingMode, antialias: bool):
        super().__init__()
        self.antialias = antialias
        if upsample:
            self.conv = UpsampleConv2d(in_channels, out_channels, padding_mode, antialias)
        else:
            self.conv = SpectralNormConv2d(in_channels, out_channels, padding_mode=padding_mode)
        self.style = StyleBlock(out_channels, padding_mode)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        x = self.conv(x)
        return self.style(x, resize_condition(condition, x.shape[-1], self.antialias))


class Generator(nn.Module):
    """Generator: restores an image from a learned constant, conditioned at each scale on the image and its parsing map.

    Args:
        image_size: side of the image in pixels, `constant_size` times a power of two.
        constant_size: side of the learned constant in pixels.
        min_channels: lower bound of the channels, which halve at each upsampling.
        max_channels: upper bound of the channels of the constant, which are 1024 at a side of 16 without the bound.
        replicate_padding: whether the convolutions repeat the pixels at the border, instead of adding zeros as
            published.
        antialias: whether features are upsampled bilinearly and the condition is resized by averaging, instead of
            nearest and bicubic as published.
    """

    def __init__(
        self,
        image_size: int = 512,
        constant_size: int = 16,
        min_channels: int = 32,
        max_channels: int = 1024,
        replicate_padding: int = False,
        antialias: int = False,
    ):
        super().__init__()
        const_channels = max(min_channels, min(1024 * 16 // constant_size, max_channels))
        num_scales = int(math.log2(image_size // constant_size))
        channels = [max(min_channels, const_channels // 2**i) for i in range(num_scales + 1)]
        self.constant = nn.Parameter(torch.randn(1, const_channels, constant_size, constant_size))
        self.replicate_padding, self.antialias = bool(replicate_padding), bool(antialias)
        mode = "replicate" if replicate_padding else "zeros"
        self.stages = nn.ModuleList([GeneratorStage(const_channels, const_channels, False, mode, self.antialias)])
        for in_channels, out_channels in pairwise(channels):
            self.stages.append(GeneratorStage(in_channels, out_channels, True, mode, self.antialias))
        self.to_image = SpectralNormConv2d(channels[-1], 3, padding_mode=mode)

    def forward(self, image: Tensor, labels: Tensor) -> Tensor:
        """Restore an image.

        Args:
            image: degraded image, float (B, 3, H, W) in [-1, 1].
            labels: its parsing map, int64 (B, H, W).

        Returns:
            Restored image (B, 3, H, W).
        """
        condition = concat_one_hot(image, labels)
        # The batch shares one constant until the first SPADE norm adds the images' conditions.
        x = self.constant.contiguous(memory_format=torch.channels_last)
        for stage in self.stages:
            x = stage(x, condition)
        return self.to_image(x)
