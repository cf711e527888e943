"""The face parsing network with fixed weights, for inference."""

import torch
from torch import Tensor, nn

from psfr.networks.blocks import padded
from psfr.networks.folding import Convolution, composed, operands


def _convolution(layer: nn.Module, precision: torch.dtype) -> Convolution:
    """The convolution of a `ConvLayer`, its batch norm in the kernel, without its padding."""
    if layer.scale == "double":
        return Convolution(*operands(layer), precision, stride=2, padding=3, transposed=True, activation=layer.activation)
    return Convolution(*operands(layer), precision, stride=layer.conv.stride[0], activation=layer.activation)


class Layer(nn.Module):
    """A `ConvLayer`."""

    def __init__(self, layer: nn.Module, precision: torch.dtype):
        super().__init__()
        self.padding = "replicate" if layer.scale == "double" else "reflect"
        self.convolution = _convolution(layer, precision)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(padded(x, self.padding))


class Joined(nn.Module):
    """Two layers that pad by reflection, the first without activation and stride, as one 5x5 convolution: few products where its input is narrow.

    Reflection comes between the two at the image's edge, so that the outermost pixels are computed one layer after the other.
    """

    def __init__(self, first: nn.Module, second: nn.Module, precision: torch.dtype):
        super().__init__()
        self.first, self.second = Layer(first, precision), Layer(second, precision)
        self.stride = second.conv.stride[0]
        self.joint = Convolution(*composed(operands(first), operands(second)), precision, stride=self.stride, activation=second.activation)

    def forward(self, x: Tensor) -> Tensor:
        result = self.joint(padded(x, "reflect", 2))
        for dim in (2, 3):
            last = result.shape[dim] - 1
            result.narrow(dim, 0, 1).copy_(self._outermost(x.narrow(dim, 0, 3)).narrow(dim, 0, 1))
            if last * self.stride == x.shape[dim] - 1:
                strip = self._outermost(x.narrow(dim, x.shape[dim] - 3, 3))
                result.narrow(dim, last, 1).copy_(strip.narrow(dim, strip.shape[dim] - 1, 1))
        return result

    def _outermost(self, strip: Tensor) -> Tensor:
        """One layer after the other on three rows or columns: enough for the outer one."""
        return self.second(self.first(strip))


class Residual(nn.Module):
    """A `ResidualBlock`; where the layer before it is handed over, joined to what reads it."""

    def __init__(self, block: nn.Module, precision: torch.dtype, before: nn.Module | None = None):
        super().__init__()
        self.shortcut, self.conv1 = (
            layer if isinstance(layer, nn.Identity) else Joined(before, layer, precision) if before else Layer(layer, precision)
            for layer in (block.shortcut, block.conv1)
        )
        self.conv2 = Layer(block.conv2, precision)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x)).add_(self.shortcut(x))


class FoldedParsingNetwork(nn.Module):
    """A `FaceParsingNetwork` with fixed weights, its batch norm in the kernels: the same results at a part of the cost.

    The encoder's first layer, linear and of three channels, is part of the two layers that read it.
    """

    def __init__(self, network: nn.Module, precision: torch.dtype):
        super().__init__()
        self.precision = precision
        stem, *encoder = network.encoder
        self.encoder = nn.Sequential(*(Residual(block, precision, None if i else stem) for i, block in enumerate(encoder))) if encoder else Layer(stem, precision)
        self.body, self.decoder = (nn.Sequential(*(Residual(block, precision) for block in part)) for part in (network.body, network.decoder))
        self.to_labels, self.to_image = Layer(network.to_labels, precision), Layer(network.to_image, precision)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """As `FaceParsingNetwork.forward`."""
        features = self.features(image)
        return self.to_labels(features), self.to_image(features)

    def features(self, image: Tensor) -> Tensor:
        coarse = self.encoder(image.to(self.precision, memory_format=torch.channels_last))
        return self.decoder(self.body(coarse).add_(coarse))

    def regions(self, image: Tensor) -> Tensor:
        """As `FaceParsingNetwork.regions`."""
        return self.to_labels(self.features(image)).argmax(1)
