"""Face parsing network with fixed weights, for inference."""

import torch
from torch import Tensor, nn

from psfr.networks.blocks import pad
from psfr.networks.fpn import ConvLayer, FaceParsingNetwork, ResidualBlock
from psfr.networks.inference.conv import (
    FusedConv2d,
    compose_kernels,
    frozen_kernel_and_bias,
    pixel_unshuffle_kernel,
    upsample_unshuffle_kernel,
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


class FusedLabelHead(nn.Module):
    """The last upsampling block and the label layer after it, without the block's feature map of many channels.

    The block's second convolution and its shortcut are each merged with the label layer into one convolution that
    computes 2x2 pixels at once. The padding between the layers differs from that of the merged ones, so the outermost
    rows and columns are computed layer by layer.

    Args:
        block: last block of the decoder.
        to_labels: layer of the label logits.
        fused_block: fused form of `block`, for the outermost rows and columns.
        fused_to_labels: fused form of `to_labels`, for the outermost rows and columns.
        dtype: dtype of the computation.
    """

    def __init__(
        self,
        block: ResidualBlock,
        to_labels: ConvLayer,
        fused_block: FusedResidual,
        fused_to_labels: FusedConvLayer,
        dtype: torch.dtype,
    ):
        super().__init__()
        self.block, self.to_labels = fused_block, fused_to_labels
        assert isinstance(block.shortcut, ConvLayer)
        label_kernel, label_bias = frozen_kernel_and_bias(to_labels)
        kernel, bias = compose_kernels(frozen_kernel_and_bias(block.conv2), (label_kernel, label_bias))
        self.conv = FusedConv2d(pixel_unshuffle_kernel(kernel), bias.repeat(4), dtype, stride=2)
        shortcut = block.shortcut.conv
        kernel, bias = compose_kernels((shortcut.weight, shortcut.bias), (label_kernel, None))
        self.shortcut = FusedConv2d(upsample_unshuffle_kernel(kernel), bias.repeat(4), dtype)

    @staticmethod
    def is_cheaper(block: ResidualBlock, to_labels: ConvLayer) -> bool:
        """Return whether the merged layers take fewer multiplications: not if the block has few channels."""
        num_labels, channels = to_labels.conv.weight.shape[:2]
        in_channels = block.conv1.conv.in_channels
        merged = 4 * num_labels * (36 * channels + 9 * in_channels)
        separate = 36 * channels * (channels + num_labels) + 16 * channels * in_channels
        return merged < separate

    def forward(self, x: Tensor) -> Tensor:
        """Predict the parsing map, int64 (B, 2H, 2W), from the input of the block, (B, C, H, W)."""
        hidden = self.block.conv1(x)
        logits = self.conv(pad(hidden, "reflect", 2)).add_(self.shortcut(pad(x, "replicate")))
        pixels = logits.permute(0, 2, 3, 1).unflatten(3, (2, 2, -1)).argmax(5)  # (B, H, W, row, column)
        seg = pixels.transpose(2, 3).flatten(1, 2).flatten(2, 3)
        for dim in (2, 3):
            for end in (_first, _last):
                border = self._border(end(hidden, dim, 4), end(x, dim, 2))
                end(seg, dim - 1, 1).copy_(end(border, dim - 1, 1))
        return seg

    def _border(self, hidden: Tensor, x: Tensor) -> Tensor:
        """Apply the layers to the two rows or columns that the outermost one of the result depends on."""
        return self.to_labels(self.block.conv2(hidden).add_(self.block.shortcut(x))).argmax(1)


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
        fused_decoder = [FusedResidual(block, dtype) for block in decoder]
        self.decoder = nn.Sequential(*fused_decoder)
        self.to_labels, self.to_image = (
            FusedConvLayer(network.to_labels, dtype),
            FusedConvLayer(network.to_image, dtype),
        )
        self.label_head = None
        if decoder and FusedLabelHead.is_cheaper(decoder[-1], network.to_labels):
            self.label_head = FusedLabelHead(decoder[-1], network.to_labels, fused_decoder[-1], self.to_labels, dtype)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Parse and restore an image, as `FaceParsingNetwork.forward`."""
        features = self.decoder(self._encode(image))
        return self.to_labels(features), self.to_image(features)

    def predict_seg(self, image: Tensor) -> Tensor:
        """Predict the parsing map of an image, as `FaceParsingNetwork.predict_seg`."""
        encoded = self._encode(image)
        if self.label_head is None:
            return self.to_labels(self.decoder(encoded)).argmax(1)
        return self.label_head(self.decoder[:-1](encoded))

    def _encode(self, image: Tensor) -> Tensor:
        encoded = self.encoder(image.to(self.dtype, memory_format=torch.channels_last))
        return self.body(encoded).add_(encoded)
