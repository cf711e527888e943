"""Face parsing network with fixed weights, for inference."""

import torch
from torch import Tensor, nn

from psfr.networks.fpn import ConvLayer, FaceParsingNetwork, ResidualBlock
from psfr.networks.functional import pad
from psfr.networks.inference.conv import (
    FusedConv2d,
    compose_kernels,
    frozen_kernel_and_bias,
)


class FusedConvLayer(nn.Module):
    """A `ConvLayer`, with its batch norm in the kernel."""

    def __init__(self, layer: ConvLayer, dtype: torch.dtype):
        super().__init__()
        kernel, bias = frozen_kernel_and_bias(layer)
        if layer.scale == "up":
            self.padding_mode = "replicate"
            self.conv = FusedConv2d(
                kernel, bias, dtype, stride=2, padding=3, transposed=True, activation=layer.activation
            )
        else:
            self.padding_mode = "reflect"
            self.conv = FusedConv2d(kernel, bias, dtype, stride=layer.conv.stride[0], activation=layer.activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(pad(x, self.padding_mode))


def _first(x: Tensor, dim: int, length: int) -> Tensor:
    return x.narrow(dim, 0, length)


def _last(x: Tensor, dim: int, length: int) -> Tensor:
    return x.narrow(dim, x.shape[dim] - length, length)


class FusedConvPair(nn.Module):
    """Two reflection-padded `ConvLayer`s in a row as one 5x5 convolution, which is cheap if the input has few channels.

    The padding between the two layers differs from that of the 5x5 convolution, so the outermost rows and columns are
    computed layer by layer.

    Args:
        first: layer of stride 1 without activation.
        second: layer of any stride, without upsampling.
        dtype: dtype of the computation.
    """

    def __init__(self, first: ConvLayer, second: ConvLayer, dtype: torch.dtype):
        super().__init__()
        self.first, self.second = FusedConvLayer(first, dtype), FusedConvLayer(second, dtype)
        self.stride = second.conv.stride[0]
        kernel, bias = compose_kernels(frozen_kernel_and_bias(first), frozen_kernel_and_bias(second))
        self.conv = FusedConv2d(kernel, bias, dtype, stride=self.stride, activation=second.activation)

    def forward(self, x: Tensor) -> Tensor:
        result = self.conv(pad(x, "reflect", 2))
        for dim in (2, 3):
            last = result.shape[dim] - 1
            _first(result, dim, 1).copy_(_first(self._border(_first(x, dim, 3)), dim, 1))
            if last * self.stride == x.shape[dim] - 1:
                _last(result, dim, 1).copy_(_last(self._border(_last(x, dim, 3)), dim, 1))
        return result

    def _border(self, strip: Tensor) -> Tensor:
        """Apply the layers to three rows or columns, which the outermost one of the result depends on."""
        return self.second(self.first(strip))


class FusedResidual(nn.Module):
    """A `ResidualBlock`; `stem`, a linear layer in front of it, is merged with the two layers that read its output."""

    def __init__(self, block: ResidualBlock, dtype: torch.dtype, stem: ConvLayer | None = None):
        super().__init__()
        self.shortcut = self._fuse(block.shortcut, dtype, stem)
        self.conv1 = self._fuse(block.conv1, dtype, stem)
        self.conv2 = FusedConvLayer(block.conv2, dtype)

    @staticmethod
    def _fuse(layer: ConvLayer | nn.Identity, dtype: torch.dtype, stem: ConvLayer | None) -> nn.Module:
        if isinstance(layer, nn.Identity):
            return layer
        if stem is None:
            return FusedConvLayer(layer, dtype)
        return FusedConvPair(stem, layer, dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x)).add_(self.shortcut(x))


def _residual_blocks(layers: nn.Sequential) -> list[ResidualBlock]:
    return [block for block in layers if isinstance(block, ResidualBlock)]


class FusedParsingNetwork(nn.Module):
    """A `FaceParsingNetwork` with fixed weights: the same results in less time.

    Batch norms are part of the kernels. The encoder's first layer, which is linear and reads three channels, is merged
    with the two layers after it.

    Args:
        network: a network in evaluation mode; its weights are copied.
        dtype: dtype of the computation.
    """

    def __init__(self, network: FaceParsingNetwork, dtype: torch.dtype):
        super().__init__()
        assert not network.training, "the statistics of batch norm are part of the kernels in evaluation mode only"
        self.dtype = dtype
        stem = network.encoder[0]
        assert isinstance(stem, ConvLayer)
        encoder, decoder = _residual_blocks(network.encoder), _residual_blocks(network.decoder)
        if encoder:
            first = FusedResidual(encoder[0], dtype, stem)
            self.encoder = nn.Sequential(first, *[FusedResidual(block, dtype) for block in encoder[1:]])
        else:
            self.encoder = FusedConvLayer(stem, dtype)
        self.body = nn.Sequential(*[FusedResidual(block, dtype) for block in _residual_blocks(network.body)])
        self.decoder = nn.Sequential(*[FusedResidual(block, dtype) for block in decoder])
        self.to_labels = FusedConvLayer(network.to_labels, dtype)
        self.to_image = FusedConvLayer(network.to_image, dtype)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Parse and restore an image, as `FaceParsingNetwork.forward`."""
        features = self.decoder(self._encode(image))
        return self.to_labels(features), self.to_image(features)

    def predict_logits(self, image: Tensor) -> Tensor:
        """Predict the logits of the parsing map of an image, as `FaceParsingNetwork.predict_logits`."""
        return self.to_labels(self.decoder(self._encode(image)))

    def predict_seg(self, image: Tensor) -> Tensor:
        """Predict the parsing map of an image, as `FaceParsingNetwork.predict_seg`."""
        return self.predict_logits(image).argmax(1)

    def _encode(self, image: Tensor) -> Tensor:
        encoded = self.encoder(image.to(self.dtype, memory_format=torch.channels_last))
        return self.body(encoded).add_(encoded)
