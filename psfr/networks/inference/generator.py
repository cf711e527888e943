"""Generator with fixed weights, for inference."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from psfr.networks.functional import LEAKY_SLOPE, concat_one_hot, instance_norm, resize_condition
from psfr.networks.generator import Generator, GeneratorStage, SpadeNorm
from psfr.networks.inference.conv import FusedConv2d, frozen_kernel_and_bias
from psfr.networks.spectral_norm import SpectralNormConv2d, UpsampleConv2d


def _fuse_conv(layer: SpectralNormConv2d, dtype: torch.dtype, activation: bool = False) -> FusedConv2d:
    kernel, bias = frozen_kernel_and_bias(layer)
    replicate = layer.padding_mode == "replicate"
    if isinstance(layer, UpsampleConv2d):
        padding = layer.transposed_padding + (2 if replicate else 0)
        return FusedConv2d(kernel, bias, dtype, 2, padding, replicate, transposed=True, activation=activation)
    return FusedConv2d(kernel, bias, dtype, 1, 0 if replicate else 1, replicate, activation=activation)


class FusedSpade(nn.Module):
    """A `SpadeNorm`, the leaky ReLU after it and the convolution that follows."""

    def __init__(self, norm: SpadeNorm, conv: SpectralNormConv2d, dtype: torch.dtype):
        super().__init__()
        self.hidden = _fuse_conv(norm.hidden, dtype, activation=True)
        replicate = norm.gamma.padding_mode == "replicate"
        self.gamma_beta = FusedConv2d(*frozen_kernel_and_bias(norm), dtype, 1, 0 if replicate else 1, replicate)
        self.conv = _fuse_conv(conv, dtype)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        gamma, beta = self.gamma_beta(self.hidden(condition)).chunk(2, 1)
        return self.conv(F.leaky_relu(torch.addcmul(beta, instance_norm(x), gamma), LEAKY_SLOPE, inplace=True))


class FusedStage(nn.Module):
    """A `GeneratorStage`; in the first stage without its convolution."""

    def __init__(self, stage: GeneratorStage, dtype: torch.dtype):
        super().__init__()
        self.upsample = _fuse_conv(stage.conv, dtype) if isinstance(stage.conv, UpsampleConv2d) else nn.Identity()
        self.spade0 = FusedSpade(stage.style.norm0, stage.style.conv0, dtype)
        self.spade1 = FusedSpade(stage.style.norm1, stage.style.conv1, dtype)
        self.antialias = stage.antialias
        self.dtype = dtype

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        x = self.upsample(x)
        condition = resize_condition(condition, x.shape[-1], self.antialias).to(self.dtype)
        return self.spade1(self.spade0(x, condition), condition).add_(x)


class FusedGenerator(nn.Module):
    """A `Generator` with fixed weights: the same results in less time.

    The first convolution is applied to the learned constant in advance.

    Args:
        network: a network in evaluation mode; its weights are copied.
        dtype: dtype of the computation.
    """

    def __init__(self, network: Generator, dtype: torch.dtype):
        super().__init__()
        stages = [stage for stage in network.stages if isinstance(stage, GeneratorStage)]
        const = stages[0].conv(network.constant).detach()
        self.const = const.to(dtype, memory_format=torch.channels_last)
        self.stages = nn.ModuleList([FusedStage(stage, dtype) for stage in stages])
        self.to_image = _fuse_conv(network.to_image, dtype)

    def forward(self, image: Tensor, labels: Tensor) -> Tensor:
        """Restore an image, as `Generator.forward`."""
        condition = concat_one_hot(image, labels)
        x = self.const
        for stage in self.stages:
            x = stage(x, condition)
        return self.to_image(x)
