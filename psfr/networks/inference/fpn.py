"""The face parsing network with fixed weights, for inference."""

import torch
from torch import Tensor, nn

from psfr.networks.blocks import padded
from psfr.networks.inference.fusion import Convolution, composed, doubled_pixels, four_pixels, operands


def _convolution(layer: nn.Module, precision: torch.dtype) -> Convolution:
    """The convolution of a `ConvLayer`, its batch norm in the kernel, without its padding."""
    if layer.scale == "double":
        return Convolution(
            *operands(layer), precision, stride=2, padding=3, transposed=True, activation=layer.activation
        )
    return Convolution(*operands(layer), precision, stride=layer.conv.stride[0], activation=layer.activation)


class Layer(nn.Module):
    """A `ConvLayer`."""

    def __init__(self, layer: nn.Module, precision: torch.dtype):
        super().__init__()
        self.padding = "replicate" if layer.scale == "double" else "reflect"
        self.convolution = _convolution(layer, precision)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(padded(x, self.padding))


def _first(x: Tensor, dim: int, count: int) -> Tensor:
    return x.narrow(dim, 0, count)


def _last(x: Tensor, dim: int, count: int) -> Tensor:
    return x.narrow(dim, x.shape[dim] - count, count)


class Joined(nn.Module):
    """Two layers that pad by reflection, the first without activation and stride, as one 5x5 convolution: few products where its input is narrow.

    Reflection comes between the two at the image's edge, so that the outermost pixels are computed one layer after the other.
    """

    def __init__(self, first: nn.Module, second: nn.Module, precision: torch.dtype):
        super().__init__()
        self.first, self.second = Layer(first, precision), Layer(second, precision)
        self.stride = second.conv.stride[0]
        self.joint = Convolution(
            *composed(operands(first), operands(second)), precision, stride=self.stride, activation=second.activation
        )

    def forward(self, x: Tensor) -> Tensor:
        result = self.joint(padded(x, "reflect", 2))
        for dim in (2, 3):
            last = result.shape[dim] - 1
            _first(result, dim, 1).copy_(_first(self._outermost(_first(x, dim, 3)), dim, 1))
            if last * self.stride == x.shape[dim] - 1:
                _last(result, dim, 1).copy_(_last(self._outermost(_last(x, dim, 3)), dim, 1))
        return result

    def _outermost(self, strip: Tensor) -> Tensor:
        """One layer after the other on three rows or columns: enough for the outer one."""
        return self.second(self.first(strip))


class Residual(nn.Module):
    """A `ResidualBlock`; where the layer before it is handed over, joined to what reads it."""

    def __init__(self, block: nn.Module, precision: torch.dtype, before: nn.Module | None = None):
        super().__init__()
        self.shortcut, self.conv1 = (
            layer
            if isinstance(layer, nn.Identity)
            else Joined(before, layer, precision)
            if before
            else Layer(layer, precision)
            for layer in (block.shortcut, block.conv1)
        )
        self.conv2 = Layer(block.conv2, precision)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x)).add_(self.shortcut(x))


class LabelHead(nn.Module):
    """The last doubling block and the label layer on it, as far as it is linear: what reads the label layer's 19 channels alone needs no map of 64.

    The block's second convolution and its shortcut each become one convolution with the label layer, for four pixels (2x2) at once. Reflection
    comes between them at the image's edge, so that the outermost pixels are computed one layer after the other.
    """

    def __init__(
        self,
        block: nn.Module,
        to_labels: nn.Module,
        folded: "Residual",
        folded_to_labels: Layer,
        precision: torch.dtype,
    ):
        super().__init__()
        self.block, self.to_labels = folded, folded_to_labels
        labels, shortcut = operands(to_labels), (block.shortcut.conv.weight, block.shortcut.conv.bias)
        kernel, bias = composed(operands(block.conv2), labels)
        self.fine = Convolution(four_pixels(kernel), bias.repeat(4), precision, stride=2)
        kernel, bias = composed(shortcut, (labels[0], None))
        self.coarse = Convolution(doubled_pixels(kernel), bias.repeat(4), precision)

    @staticmethod
    def saves(block: nn.Module, to_labels: nn.Module) -> bool:
        """Whether it takes fewer products: not where the block is about as narrow as the labels."""
        (labels, channels), wide = to_labels.conv.weight.shape[:2], block.conv1.conv.in_channels
        return 4 * labels * (36 * channels + 9 * wide) < 36 * channels * (channels + labels) + 16 * channels * wide

    def forward(self, x: Tensor) -> Tensor:
        """What the block reads, (B, C, H, W), to the labels, int64 (B, 2H, 2W)."""
        hidden = self.block.conv1(x)
        logits = self.fine(padded(hidden, "reflect", 2)).add_(self.coarse(padded(x, "replicate")))
        labels = (
            logits.permute(0, 2, 3, 1).unflatten(3, (2, 2, -1)).argmax(5).transpose(2, 3).flatten(1, 2).flatten(2, 3)
        )
        for dim in (2, 3):
            for end in (_first, _last):
                end(labels, dim - 1, 1).copy_(end(self._outermost(end(hidden, dim, 4), end(x, dim, 2)), dim - 1, 1))
        return labels

    def _outermost(self, hidden: Tensor, x: Tensor) -> Tensor:
        """One layer after the other on two rows or columns, of the doubled map four: enough for the outer one."""
        return self.to_labels(self.block.conv2(hidden).add_(self.block.shortcut(x))).argmax(1)


class FoldedParsingNetwork(nn.Module):
    """A `FaceParsingNetwork` with fixed weights, its batch norm in the kernels: the same results at a part of the cost.

    The encoder's first layer, linear and of three channels, is part of the two layers that read it.
    """

    def __init__(self, network: nn.Module, precision: torch.dtype):
        super().__init__()
        self.precision = precision
        stem, *encoder = network.encoder
        blocks = [Residual(block, precision, None if i else stem) for i, block in enumerate(encoder)]
        self.encoder = nn.Sequential(*blocks) if blocks else Layer(stem, precision)
        self.body, self.decoder = (
            nn.Sequential(*(Residual(block, precision) for block in part)) for part in (network.body, network.decoder)
        )
        self.to_labels, self.to_image = Layer(network.to_labels, precision), Layer(network.to_image, precision)
        saves = encoder and LabelHead.saves(network.decoder[-1], network.to_labels)
        self.label_head = (
            LabelHead(network.decoder[-1], network.to_labels, self.decoder[-1], self.to_labels, precision)
            if saves
            else None
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """As `FaceParsingNetwork.forward`."""
        features = self.decoder(self._coarse(image))
        return self.to_labels(features), self.to_image(features)

    def regions(self, image: Tensor) -> Tensor:
        """As `FaceParsingNetwork.regions`."""
        coarse = self._coarse(image)
        return (
            self.label_head(self.decoder[:-1](coarse))
            if self.label_head
            else self.to_labels(self.decoder(coarse)).argmax(1)
        )

    def _coarse(self, image: Tensor) -> Tensor:
        encoded = self.encoder(image.to(self.precision, memory_format=torch.channels_last))
        return self.body(encoded).add_(encoded)
