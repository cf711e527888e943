"""Layers shared by the networks.

Layers store a plain 3x3 kernel and convolve with a kernel computed from it, which also applies the normalization,
upsampling or pooling around the convolution. Upsampling or pooling in the kernel takes 2.25 times fewer
multiplications than the separate operations.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from psfr.networks import NUM_CLASSES

LEAKY_SLOPE = 0.2  # negative slope of every leaky ReLU
PaddingMode = Literal["zeros", "replicate"]
NUM_INITIAL_ITERATIONS = 15  # steps of the power iteration on a new weight
BOX = (1.0, 1.0)  # filter of 2x nearest upsampling, and of the sum before 2x2 average pooling
TENT = (0.25, 0.75, 0.75, 0.25)  # filter of 2x bilinear upsampling


def concat_one_hot(image: Tensor, seg: Tensor) -> Tensor:
    """Concatenate an image (B, 3, H, W) with the one-hot planes of its parsing map.

    Args:
        image: float (B, 3, H, W).
        seg: labels from 0 to 18, int64 (B, H, W).

    Returns:
        (B, 22, H, W) in the image's dtype, channels-last.
    """
    batch, _, height, width = image.shape
    planes = torch.zeros(batch, height, width, 3 + NUM_CLASSES, dtype=image.dtype, device=image.device)
    planes.scatter_(3, seg.unsqueeze(3) + 3, 1.0)
    planes[..., :3] = image.permute(0, 2, 3, 1)
    return planes.permute(0, 3, 1, 2)


def resize_condition(condition: Tensor, size: int, antialias: bool = False) -> Tensor:
    """Resize a condition (B, C, H, W) to size x size pixels.

    Args:
        condition: float (B, C, H, W).
        size: side of the result in pixels.
        antialias: whether to average the pixels, of which there must be a whole number per pixel of the result; bicubic
            interpolation, as in the published model, leaves most of them out.
    """
    if condition.shape[-1] == size:
        return condition
    if antialias:
        return F.avg_pool2d(condition, condition.shape[-1] // size)
    return F.interpolate(condition, (size, size), mode="bicubic", align_corners=False)


def pad(x: Tensor, mode: str, width: int = 1) -> Tensor:
    """Pad each side of a feature map (B, C, H, W) by `width` pixels.

    Args:
        x: feature map of any dtype.
        mode: "reflect" or "replicate", as in `torch.nn.functional.pad`.
        width: number of pixels on each side.

    Returns:
        The padded map, in the dtype of `x`: under autocast `F.pad` would convert it to float32.
    """
    with torch.autocast(x.device.type, enabled=False):
        return F.pad(x, (width,) * 4, mode)


class InstanceNorm(torch.autograd.Function):
    """Instance norm without affine parameters, eps 1e-5, with statistics in float32 or better.

    It works on rows of pixels, (B, H * W, C): torch's own kernels leave the channels-last layout, or have a much slower
    gradient in it.
    """

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        if x.dtype in (torch.bfloat16, torch.float16):
            return InstanceNorm._forward_low_precision(ctx, x)
        rows = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        centered = rows.clone()
        centered -= centered.mean(1, keepdim=True)
        inv_std = torch.rsqrt(centered.square().mean(1, keepdim=True) + 1e-5)
        normalized = centered.mul_(inv_std)
        ctx.save_for_backward(normalized, inv_std)
        return normalized.view(batch, height, width, channels).permute(0, 3, 1, 2)

    @staticmethod
    def _forward_low_precision(ctx, x: Tensor) -> Tensor:
        """Normalize each image by torch's batch norm, with statistics in float32."""
        ones, zeros = torch.ones(x.shape[1], device=x.device), torch.zeros(x.shape[1], device=x.device)
        results = [torch.native_batch_norm(image, ones, zeros, None, None, True, 0.0, 1e-5) for image in x.split(1)]
        normalized = torch.cat([image for image, _, _ in results]) if len(results) > 1 else results[0][0]
        inv_std = torch.stack([inv_std for _, _, inv_std in results]).unsqueeze(1)
        # The output itself: a saved view of it would keep its own graph alive in a reference cycle.
        ctx.save_for_backward(normalized, inv_std)
        return normalized

    @staticmethod
    @once_differentiable  # what it saves does not depend on the input for autograd
    def backward(ctx, grad: Tensor) -> Tensor:
        normalized, inv_std = ctx.saved_tensors
        if normalized.dim() == 4:  # from `_forward_low_precision`
            normalized = normalized.permute(0, 2, 3, 1).flatten(1, 2)
        batch, channels, height, width = grad.shape
        rows = grad.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        projection = (rows * normalized).mean(1, keepdim=True, dtype=inv_std.dtype)
        result = rows.to(inv_std.dtype, copy=True)
        result -= result.mean(1, keepdim=True)
        result = result.addcmul_(normalized.to(inv_std.dtype), projection, value=-1).mul_(inv_std).to(grad.dtype)
        return result.view(batch, height, width, channels).permute(0, 3, 1, 2)


def instance_norm(x: Tensor) -> Tensor:
    """Normalize each channel of each image of (B, C, H, W) to mean 0 and variance 1; see `InstanceNorm`."""
    return InstanceNorm.apply(x)


@cache
def _filter_taps(filter_1d: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the matrix (9, n^2) that convolves a 3x3 kernel with a filter each way; n is the filter's size plus 2."""
    width = len(filter_1d)
    filter_2d = torch.outer(*2 * [torch.tensor(filter_1d, dtype=dtype, device=device)])
    taps = torch.zeros(3, 3, width + 2, width + 2, dtype=dtype, device=device)
    for row in range(3):
        for column in range(3):
            taps[row, column, row : row + width, column : column + width] = filter_2d
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


class NormalizedWeight(torch.autograd.Function):
    """Weight (out, in, 3, 3) divided by its largest singular value, estimated as u^T W v.

    With `taps`, a matrix (9, n), the 3x3 taps are also mapped to n taps and the result is (out, in, n). The gradient
    passes over the weights as few times as possible.
    """

    @staticmethod
    def forward(ctx, weight: Tensor, u: Tensor, v: Tensor, taps: Tensor | None) -> Tensor:
        sigma = u.dot(weight.flatten(1).mv(v))
        ctx.save_for_backward(weight, u, v, taps, sigma)
        return weight / sigma if taps is None else weight.flatten(2) @ (taps / sigma)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None, None]:
        weight, u, v, taps, sigma = ctx.saved_tensors
        result = grad / sigma if taps is None else grad @ (taps / sigma).t()
        result = result.reshape(weight.shape[0], -1)
        projection = result.flatten().dot(weight.flatten()) / sigma
        return result.addr_(u * -projection, v).view_as(weight), None, None, None


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


class SpectralNormConv2d(ReparameterizedConv, nn.Conv2d):
    """3x3 convolution with spectral norm: the kernel, a matrix (out, in * 9), is divided by its largest singular value.

    The singular vectors `u` and `v` are estimated by power iteration. Unlike `torch.nn.utils.spectral_norm`, `forward`
    never updates them: a training step calls `power_iteration` once.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        padding: pixels of padding on each side.
        padding_mode: "zeros" or "replicate".
    """

    padding: tuple[int, int]
    u: Tensor
    v: Tensor

    def __init__(self, in_channels: int, out_channels: int, padding: int = 1, padding_mode: PaddingMode = "zeros"):
        super().__init__(in_channels, out_channels, 3, padding=padding, padding_mode=padding_mode)
        self.register_buffer("u", torch.randn(out_channels))
        self.register_buffer("v", torch.randn(in_channels * 9))
        if not self.weight.is_meta:  # a meta tensor has no values to iterate on
            self.u.copy_(F.normalize(self.u, dim=0))
            self.power_iteration(NUM_INITIAL_ITERATIONS)

    def init_normal(self, std: float) -> None:
        """Draw the weight from N(0, std^2), set the bias to zero and estimate the singular vectors anew."""
        if self.weight.is_meta:
            return
        assert self.bias is not None
        nn.init.normal_(self.weight, 0, std)
        nn.init.zeros_(self.bias)
        self.power_iteration(NUM_INITIAL_ITERATIONS)

    @torch.no_grad()
    def power_iteration(self, num_steps: int = 1) -> None:
        """Update `u` and `v` by `num_steps` steps of the power iteration."""
        matrix = self.weight.flatten(1)
        for _ in range(num_steps):
            self.v.copy_(F.normalize(matrix.t().mv(self.u), dim=0, eps=1e-12))
            self.u.copy_(F.normalize(matrix.mv(self.v), dim=0, eps=1e-12))

    def normalized_weight(self, taps: Tensor | None = None) -> Tensor:
        """Return the weight divided by its largest singular value.

        Args:
            taps: matrix (9, n^2) that maps the 3x3 taps to those of an n x n kernel, as `upsample_taps` and
                `pool_taps`.

        Returns:
            (out, in, 3, 3), or (out, in, n, n) with `taps`.
        """
        kernel = NormalizedWeight.apply(self.weight, self.u, self.v, taps)
        return kernel if taps is None else kernel.unflatten(2, 2 * (math.isqrt(taps.shape[1]),))

    def kernel_and_bias(self) -> tuple[Tensor, Tensor | None]:
        return self.normalized_weight(), self.bias

    def forward(self, x: Tensor) -> Tensor:
        if self.padding_mode == "replicate":
            return F.conv2d(pad(x, "replicate", self.padding[0]), *self.cached_kernel_and_bias())
        return F.conv2d(x, *self.cached_kernel_and_bias(), padding=self.padding)


class UpsampleConv2d(SpectralNormConv2d):
    """2x upsampling, then the convolution, padded by a pixel: (B, in, H, W) to (B, out, 2H, 2W).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        padding_mode: "zeros" or "replicate".
        antialias: whether the upsampling is bilinear instead of nearest. With zero padding it then takes the pixels
            outside for zeros, too.
    """

    def __init__(
        self, in_channels: int, out_channels: int, padding_mode: PaddingMode = "zeros", antialias: bool = False
    ):
        super().__init__(in_channels, out_channels, padding_mode=padding_mode)
        self.antialias = antialias

    @property
    def transposed_padding(self) -> int:
        """The `padding` of the transposed convolution of the map without padding."""
        return 2 if self.antialias else 1

    def kernel_and_bias(self) -> tuple[Tensor, Tensor | None]:
        taps = upsample_taps(self.weight, TENT if self.antialias else BOX)
        return self.normalized_weight(taps).transpose(0, 1), self.bias

    def forward(self, x: Tensor) -> Tensor:
        padding = self.transposed_padding
        if self.padding_mode == "replicate":
            x, padding = pad(x, "replicate"), padding + 2  # a pixel of the small map is two of the large one
        return F.conv_transpose2d(x, *self.cached_kernel_and_bias(), stride=2, padding=padding)


class ConvPool2d(SpectralNormConv2d):
    """The convolution with reflection padding, then 2x2 average pooling: (B, in, H, W) to (B, out, H / 2, W / 2)."""

    def kernel_and_bias(self) -> tuple[Tensor, Tensor | None]:
        return self.normalized_weight(pool_taps(self.weight)), self.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(pad(x, "reflect"), *self.cached_kernel_and_bias(), stride=2)


def power_iteration(network: nn.Module) -> None:
    """Run one step of the power iteration in every `SpectralNormConv2d` of a network."""
    for module in network.modules():
        if isinstance(module, SpectralNormConv2d):
            module.power_iteration()
