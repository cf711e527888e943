"""The generator with fixed weights, for inference."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from psfr.networks.blocks import SLOPE, DoublingConv2d, SpectralConv2d, instance_norm, resized, with_regions
from psfr.networks.inference.fusion import Convolution, operands


def _convolution(layer: SpectralConv2d, precision: torch.dtype, activation: bool = False) -> Convolution:
    if isinstance(layer, DoublingConv2d):
        return Convolution(*operands(layer), precision, stride=2, padding=1, transposed=True, activation=activation)
    return Convolution(*operands(layer), precision, padding=1, activation=activation)


class Styled(nn.Module):
    """A `SpadeNorm`, a leaky ReLU, and the convolution that reads it."""

    def __init__(self, norm: nn.Module, layer: SpectralConv2d, precision: torch.dtype):
        super().__init__()
        self.hidden = _convolution(norm.hidden, precision, activation=True)
        self.gamma_beta = Convolution(*operands(norm), precision, padding=1)
        self.convolution = _convolution(layer, precision)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        gamma, beta = self.gamma_beta(self.hidden(condition)).chunk(2, 1)
        return self.convolution(F.leaky_relu(torch.addcmul(beta, instance_norm(x), gamma), SLOPE, inplace=True))


class FoldedGenerator(nn.Module):
    """A `Generator` with fixed weights: the same results at a part of the cost. The first convolution, of a constant, is a constant too."""

    def __init__(self, network: nn.Module, precision: torch.dtype):
        super().__init__()
        self.precision = precision
        first, *further = network.stages
        self.start = first.conv(network.constant).detach().to(precision, memory_format=torch.channels_last)
        self.doublings = nn.ModuleList([_convolution(stage.conv, precision) for stage in further])
        blocks = [stage.style for stage in network.stages]
        self.styles = nn.ModuleList(
            [
                nn.ModuleList(
                    [Styled(block.norm0, block.conv0, precision), Styled(block.norm1, block.conv1, precision)]
                )
                for block in blocks
            ]
        )
        self.to_image = _convolution(network.to_image, precision)

    def forward(self, image: Tensor, labels: Tensor) -> Tensor:
        """As `Generator.forward`."""
        condition = with_regions(image, labels)
        x = self.start
        for i, (style0, style1) in enumerate(self.styles):
            if i:
                x = self.doublings[i - 1](x)
            small = resized(condition, x.shape[-1]).to(self.precision)
            x = style1(style0(x, small), small).add_(x)
        return self.to_image(x)
