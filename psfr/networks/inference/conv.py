"""Convolutions with fixed weights, for inference, and kernels that merge two convolutions into one."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from psfr.networks.functional import LEAKY_SLOPE, pad
from psfr.networks.kernels import ReparameterizedConv

KernelAndBias = tuple[Tensor, Tensor | None]


def mkldnn_supported(kernel: Tensor) -> bool:
    """Return whether oneDNN's convolutions with packed weights and a fused leaky ReLU support a kernel.

    torch offers them under the private names `torch.ops.mkldnn._convolution_*pointwise` only.
    """
    if kernel.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return False
    if kernel.dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return kernel.dtype == torch.float32


class FusedConv2d(nn.Module):
    """Convolution with fixed weights and an optional leaky ReLU: (B, in, H, W) to (B, out, H', W'), both in `dtype`.

    Args:
        kernel: (out, in, h, w), or (in, out, h, w) of a transposed convolution.
        bias: (out,) or None.
        dtype: dtype of the computation.
        stride: the same in both directions.
        padding: zero padding, the same in both directions.
        replicate: whether each side is first padded with the nearest pixel.
        transposed: whether it is a transposed convolution.
        activation: whether a leaky ReLU follows.
    """

    def __init__(
        self,
        kernel: Tensor,
        bias: Tensor | None,
        dtype: torch.dtype,
        stride: int = 1,
        padding: int = 0,
        replicate: bool = False,
        transposed: bool = False,
        activation: bool = False,
    ):
        super().__init__()
        # Channels-last as the feature maps, or each call would convert it.
        self.kernel: Tensor | None = kernel.detach().to(dtype, copy=True, memory_format=torch.channels_last)
        self.bias = None if bias is None else bias.detach().to(dtype, copy=True)
        self.stride = [stride, stride]
        self.padding = [padding, padding]
        self.replicate = replicate
        self.transposed = transposed
        self.activation = activation
        self.use_mkldnn = mkldnn_supported(self.kernel)
        self._packed_kernel: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.replicate:
            x = pad(x, "replicate")
        if self.use_mkldnn:
            return self._forward_mkldnn(x)
        assert self.kernel is not None
        with torch.autocast(x.device.type, enabled=False):
            if self.transposed:
                x = F.conv_transpose2d(x, self.kernel, self.bias, stride=self.stride, padding=self.padding)
            else:
                x = F.conv2d(x, self.kernel, self.bias, stride=self.stride, padding=self.padding)
        return F.leaky_relu(x, LEAKY_SLOPE, inplace=True) if self.activation else x

    def _forward_mkldnn(self, x: Tensor) -> Tensor:
        ops = torch.ops.mkldnn
        dilation, num_groups, output_padding = [1, 1], 1, [0, 0]
        # Positional arguments of oneDNN's convolutions, in their order.
        geometry = [self.padding, output_padding] if self.transposed else [self.padding]
        geometry += [self.stride, dilation, num_groups]
        activation = ["leaky_relu", [LEAKY_SLOPE], ""] if self.activation else ["none", [], ""]
        if self._packed_kernel is None:
            # The packed layout is the best one for the first input's size, and works for all sizes.
            pack = ops._reorder_convolution_transpose_weight if self.transposed else ops._reorder_convolution_weight
            self._packed_kernel = pack(self.kernel, *geometry, list(x.shape))
            self.kernel = None
        convolve = ops._convolution_transpose_pointwise if self.transposed else ops._convolution_pointwise
        return convolve(x, self._packed_kernel, self.bias, *geometry, *activation)


def frozen_kernel_and_bias(layer: ReparameterizedConv) -> KernelAndBias:
    """Compute a layer's kernel and bias in the dtype of its parameters, without gradient."""
    with torch.no_grad(), torch.autocast(next(layer.parameters()).device.type, enabled=False):
        return layer.kernel_and_bias()


def compose_kernels(first: KernelAndBias, second: KernelAndBias) -> tuple[Tensor, Tensor]:
    """Return kernel and bias of the convolution that equals two convolutions of stride 1 in a row, away from padding.

    It is computed in float64, on the CPU, because a Mac's GPU does not have it: its sums over the channels in between
    are longer than those of a convolution.

    Args:
        first: kernel (mid, in, h, w) and bias of the first convolution.
        second: kernel (out, mid, h', w') and bias of the second convolution; one of the biases may be None.

    Returns:
        Kernel (out, in, h + h' - 1, w + w' - 1) and bias (out,), in the dtype and on the device of the first kernel.
    """
    first_kernel, first_bias = _float64_on_cpu(first)
    second_kernel, second_bias = _float64_on_cpu(second)
    height, width = second_kernel.shape[2:]
    padding = (height - 1, width - 1)
    kernel = F.conv2d(first_kernel.transpose(0, 1), second_kernel.flip(2, 3), padding=padding).transpose(0, 1)
    bias = kernel.new_zeros(len(kernel)) if second_bias is None else second_bias
    if first_bias is not None:
        bias = bias + second_kernel.sum((2, 3)) @ first_bias
    # The dtype first: the device may not have float64
    dtype, device = first[0].dtype, first[0].device
    return kernel.to(dtype).to(device), bias.to(dtype).to(device)


def _float64_on_cpu(layer: KernelAndBias) -> KernelAndBias:
    kernel, bias = layer
    return kernel.cpu().double(), None if bias is None else bias.cpu().double()
