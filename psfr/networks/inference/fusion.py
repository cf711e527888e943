"""Networks with fixed weights, for inference: each layer keeps the kernel that it computes with, in the precision of the computation.

`FaceParsingNetwork.folded` and `Generator.folded` are built of what stands here.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from psfr.networks.blocks import SLOPE, Derived


def onednn(kernel: Tensor) -> bool:
    """Whether oneDNN's convolutions, with their kernels packed beforehand and a leaky ReLU inside, can take this kernel: torch has no public name for them."""
    if (
        kernel.device.type != "cpu"
        or not torch.backends.mkldnn.is_available()
        or not hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    ):
        return False
    return kernel.dtype == torch.float32 or (
        kernel.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


class Convolution(nn.Module):
    """A convolution with fixed weights, then a leaky ReLU if asked for: (B, in, H, W) of the kernel's precision to (B, out, H', W').

    Args:
        kernel: (out, in, h, w); of a transposed convolution (in, out, h, w).
        precision: of the computation.
    """

    def __init__(
        self,
        kernel: Tensor,
        bias: Tensor | None,
        precision: torch.dtype,
        stride: int = 1,
        padding: int = 0,
        transposed: bool = False,
        activation: bool = False,
    ):
        super().__init__()
        # In the layout of the maps: otherwise every call would bring it there.
        self.kernel = kernel.detach().to(precision, copy=True, memory_format=torch.channels_last)
        self.bias = None if bias is None else bias.detach().to(precision, copy=True)
        self.stride, self.padding, self.transposed, self.activation = (
            [stride] * 2,
            [padding] * 2,
            transposed,
            activation,
        )
        self.packs = onednn(self.kernel)
        self.packed: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.packs:
            return self._packed(x)
        with torch.autocast(x.device.type, enabled=False):
            convolve = F.conv_transpose2d if self.transposed else F.conv2d
            x = convolve(x, self.kernel, self.bias, stride=self.stride, padding=self.padding)
        return F.leaky_relu(x, SLOPE, inplace=True) if self.activation else x

    def _packed(self, x: Tensor) -> Tensor:
        ops, rest = torch.ops.mkldnn, (self.stride, [1, 1], 1)
        activation = ("leaky_relu", [SLOPE], "") if self.activation else ("none", [], "")
        between = (self.padding, [0, 0]) if self.transposed else (self.padding,)
        if self.packed is None:  # best for the first size, right for all
            pack = ops._reorder_convolution_transpose_weight if self.transposed else ops._reorder_convolution_weight
            self.packed, self.kernel = pack(self.kernel, *between, *rest, list(x.shape)), None
        convolve = ops._convolution_transpose_pointwise if self.transposed else ops._convolution_pointwise
        return convolve(x, self.packed, self.bias, *between, *rest, *activation)


def operands(layer: Derived) -> tuple[Tensor, Tensor | None]:
    """A layer's kernel and bias, derived in the weights' precision."""
    with torch.no_grad(), torch.autocast(next(layer.parameters()).device.type, enabled=False):
        return layer.derived()


def composed(first: tuple[Tensor, Tensor | None], second: tuple[Tensor, Tensor | None]) -> tuple[Tensor, Tensor]:
    """Kernel and bias of the one convolution, (out, in, h + h' - 1, w + w' - 1), that equals two with nothing between them, where no padding is met.

    Computed in float64: sums over the channels between are longer than a convolution's own rounding allows for.
    """
    (inner, inner_bias), (outer, outer_bias) = (
        tuple(None if x is None else x.double() for x in pair) for pair in (first, second)
    )
    height, width = outer.shape[2:]
    kernel = F.conv2d(inner.transpose(0, 1), outer.flip(2, 3), padding=(height - 1, width - 1)).transpose(0, 1)
    bias = sum(x for x in (outer_bias, None if inner_bias is None else outer.sum((2, 3)) @ inner_bias) if x is not None)
    return kernel.to(first[0].dtype), bias.to(first[0].dtype)


def four_pixels(kernel: Tensor) -> Tensor:
    """The kernel (4 * out, in, h + 1, w + 1), of stride 2, that computes 2x2 pixels of a convolution (out, in, h, w) as channels, row by row.

    A convolution of few channels leaves most of a processor's vectors empty.
    """
    return torch.cat([F.pad(kernel, (column, 1 - column, row, 1 - row)) for row in (0, 1) for column in (0, 1)])


def doubled_pixels(kernel: Tensor) -> Tensor:
    """The kernel (4 * out, in, 3, 3), for the small map, that equals nearest doubling, then a 5x5 convolution: 2x2 pixels as channels, row by row."""
    shifts = torch.zeros(2, 3, 5, dtype=kernel.dtype, device=kernel.device)
    for parity in (0, 1):
        for tap in range(5):
            shifts[parity, (parity + tap) // 2, tap] = 1
    return torch.cat([shifts[row] @ kernel @ shifts[column].t() for row in (0, 1) for column in (0, 1)])


def fold(network: nn.Module, precision: torch.dtype) -> nn.Module:
    """The network with fixed weights, for inference: a `FaceParsingNetwork` or `Generator`, brought to evaluation mode, where it lies.

    It keeps copies: a change of the network's weights does not reach it. Maps are channels-last, in `precision`, whether autocast is on or not.
    """
    with torch.no_grad():
        return network.eval().folded(precision)
