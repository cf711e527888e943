"""Kernels that layers compute from their parameters, and a cache of them.

Layers store a plain 3x3 kernel and convolve with a kernel computed from it, which also applies the normalization,
upsampling or pooling around the convolution. Upsampling or pooling in the kernel takes 2.25 times fewer
multiplications than the separate operations.
"""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor, nn

BOX = (1.0, 1.0)  # filter of 2x nearest upsampling, and of the sum before 2x2 average pooling
TENT = (0.25, 0.75, 0.75, 0.25)  # filter of 2x bilinear upsampling


@cache
def _filter_taps(filter_1d: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the matrix (9, n^2) that convolves a 3x3 kernel with a filter each way; n is the filter's size plus 2."""
    values, width = torch.tensor(filter_1d, dtype=dtype, device=device), len(filter_1d)
    taps = torch.zeros(3, 3, width + 2, width + 2, dtype=dtype, device=device)
    for row in range(3):
        for column in range(3):
            taps[row, column, row : row + width, column : column + width] = torch.outer(values, values)
    return taps.view(9, -1)


def upsample_taps(weight: Tensor, filter_1d: tuple[float, ...] = BOX) -> Tensor:
    """Return the matrix (9, n^2) that maps a 3x3 kernel to that of `upsample_kernel`.

    With `BOX`, the three taps of an output pixel fall on two pixels of the small map; with `TENT`, on three. A
    transposed convolution mirrors its kernel, hence the flip.
    """
    return _filter_taps(filter_1d, weight.dtype, weight.device).flip(0)


def pool_taps(weight: Tensor) -> Tensor:
    """Return the matrix (9, 16) that maps a 3x3 kernel to the 4x4 kernel of `ConvPool2d`, of stride 2."""
    return _filter_taps(BOX, weight.dtype, weight.device) / 4


def upsample_kernel(weight: Tensor) -> Tensor:
    """Return the kernel of the transposed convolution that equals 2x nearest upsampling and a 3x3 convolution.

    Args:
        weight: kernel of the 3x3 convolution, (out, in, 3, 3).

    Returns:
        Kernel (in, out, 4, 4), for a stride of 2.
    """
    return (weight.flatten(2) @ upsample_taps(weight)).unflatten(2, (4, 4)).transpose(0, 1)


class ReparameterizedConv(nn.Module):
    """Base class of layers that convolve with a kernel and a bias computed from their parameters."""

    _kernel_cache: "KernelCache | None" = None

    @abstractmethod
    def kernel_and_bias(self) -> tuple[Tensor, Tensor | None]:
        """Compute the kernel and the bias that `forward` uses, in the dtype of the parameters."""

    def cached_kernel_and_bias(self) -> tuple[Tensor, Tensor | None]:
        """Return `kernel_and_bias`, from the cache within `cache_kernels`."""
        if self._kernel_cache is not None:
            return self._kernel_cache.get(self)
        with torch.autocast(next(self.parameters()).device.type, enabled=False):
            return self.kernel_and_bias()


class KernelCache:
    """Kernels and biases of a network's layers, computed on first use and converted to the dtype of the convolutions.

    Args:
        network: the network whose `ReparameterizedConv` layers are cached.
        dtype: dtype of the cached kernels and biases.

    Attributes:
        leaves: cached tensors that collect gradients, e.g. for `Tensor.backward(inputs=cache.leaves)`.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype):
        self.dtype = dtype
        self.layers = [module for module in network.modules() if isinstance(module, ReparameterizedConv)]
        self.leaves: list[Tensor] = []
        self._cached: dict[ReparameterizedConv, tuple[Tensor, Tensor | None]] = {}
        self._sources: list[Tensor] = []

    def get(self, layer: ReparameterizedConv) -> tuple[Tensor, Tensor | None]:
        """Return the kernel and the bias of a layer."""
        if layer not in self._cached:
            with torch.autocast(next(layer.parameters()).device.type, enabled=False):
                kernel, bias = layer.kernel_and_bias()
            self._cached[layer] = self._to_leaf(kernel), None if bias is None else self._to_leaf(bias)
        return self._cached[layer]

    def _to_leaf(self, source: Tensor) -> Tensor:
        leaf = source.detach().to(self.dtype, memory_format=torch.contiguous_format)
        if torch.is_grad_enabled() and source.requires_grad:
            leaf.requires_grad_()
            self._sources.append(source)
            self.leaves.append(leaf)
        return leaf

    def backward_to_weights(self) -> None:
        """Propagate the gradients of the cached tensors to the layers' parameters."""
        sources, grads = [], []
        for source, leaf in zip(self._sources, self.leaves, strict=True):
            if leaf.grad is not None:
                sources.append(source)
                grads.append(leaf.grad.to(source.dtype))
        if sources:
            torch.autograd.backward(sources, grads)


@contextmanager
def cache_kernels(network: nn.Module, dtype: torch.dtype) -> Iterator[KernelCache]:
    """Compute the kernel of each layer once for all forward passes within the context.

    Gradients collect at the cached kernels and are propagated to the parameters at the end. Compare
    `torch.nn.utils.parametrize.cached`.

    Args:
        network: the network whose layers are cached.
        dtype: dtype of the convolutions.
    """
    kernel_cache = KernelCache(network, dtype)
    for layer in kernel_cache.layers:
        layer._kernel_cache = kernel_cache
    try:
        yield kernel_cache
        kernel_cache.backward_to_weights()
    finally:
        for layer in kernel_cache.layers:
            layer._kernel_cache = None
