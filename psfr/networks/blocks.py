"""Layers that the networks share.

What they store is the plain 3x3 kernel; what they compute with is derived from it, and may stand for more than one layer: a convolution
and its pooling, or a doubling and its convolution, are one convolution of 2.25 times fewer products.
"""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

REGIONS = 19
SLOPE = 0.2  # of every leaky ReLU


def one_hot(labels: Tensor) -> Tensor:
    """Region labels, int64 (B, H, W), as float32 planes (B, 19, H, W) of 0 and 1."""
    planes = torch.zeros(labels.shape[0], REGIONS, *labels.shape[1:], device=labels.device)
    return planes.scatter_(1, labels.unsqueeze(1), 1.0)


def with_regions(image: Tensor, labels: Tensor) -> Tensor:
    """An image (B, 3, H, W) and its one-hot region map together, (B, 22, H, W), channels-last."""
    batch, _, height, width = image.shape
    planes = torch.zeros(batch, height, width, 3 + REGIONS, dtype=image.dtype, device=image.device)
    planes.scatter_(3, labels.unsqueeze(3) + 3, 1.0)
    planes[..., :3] = image.permute(0, 2, 3, 1)
    return planes.permute(0, 3, 1, 2)


def resized(condition: Tensor, size: int) -> Tensor:
    """The condition at a feature map's size, bicubic as the published model has it."""
    if condition.shape[-1] == size:
        return condition
    return F.interpolate(condition, (size, size), mode="bicubic", align_corners=False)


def padded(x: Tensor, mode: str, width: int = 1) -> Tensor:
    """A map with `width` more pixels on each side, by "reflect" or "replicate", in its own precision: autocast would take it to float32 and back."""
    with torch.autocast(x.device.type, enabled=False):
        return F.pad(x, (width,) * 4, mode)


class InstanceNorm(torch.autograd.Function):
    """Instance norm without affine parameters, eps 1e-5, statistics in float32 at least.

    Written over rows of pixels: the library's own kernels leave channels-last layout, or their gradient is many times slower in it.
    """

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        if x.dtype in (torch.bfloat16, torch.float16):
            return InstanceNorm._rounded(ctx, x)
        rows = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        centred = rows.clone()
        centred -= centred.mean(1, keepdim=True)
        scale = torch.rsqrt(centred.square().mean(1, keepdim=True) + 1e-5)
        normal = centred.mul_(scale)
        ctx.save_for_backward(normal, scale)
        return normal.view(batch, height, width, channels).permute(0, 3, 1, 2)

    @staticmethod
    def _rounded(ctx, x: Tensor) -> Tensor:
        """Each image by the library's batch norm: its float32 statistics are worse than ours by far less than a bf16 pixel's rounding."""
        one, zero = torch.ones(x.shape[1], device=x.device), torch.zeros(x.shape[1], device=x.device)
        normal, _, scale = zip(
            *(torch.native_batch_norm(image, one, zero, None, None, True, 0.0, 1e-5) for image in x.split(1)),
            strict=True,
        )
        normal = torch.cat(normal) if len(normal) > 1 else normal[0]
        ctx.save_for_backward(normal.permute(0, 2, 3, 1).flatten(1, 2), torch.stack(scale).unsqueeze(1))
        return normal

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        normal, scale = ctx.saved_tensors
        batch, channels, height, width = gradient.shape
        rows = gradient.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        along = (rows * normal).mean(1, keepdim=True, dtype=scale.dtype)
        result = rows.to(scale.dtype, copy=True)
        result -= result.mean(1, keepdim=True)
        result = result.addcmul_(normal.to(scale.dtype), along, value=-1).mul_(scale).to(gradient.dtype)
        return result.view(batch, height, width, channels).permute(0, 3, 1, 2)


def instance_norm(x: Tensor) -> Tensor:
    """`InstanceNorm` of features (B, C, H, W)."""
    return InstanceNorm.apply(x)


@cache
def _shifts(dtype: torch.dtype, device: torch.device) -> Tensor:
    """(9, 16) of 0 and 1: the taps of a 4x4 kernel that each tap of a 3x3 kernel reaches when it is moved by 0 or 1 each way."""
    shifts = torch.zeros(3, 3, 4, 4, dtype=dtype, device=device)
    for row in range(3):
        for column in range(3):
            shifts[row, column, row : row + 2, column : column + 2] = 1
    return shifts.view(9, 16)


def doubling_taps(weight: Tensor) -> Tensor:
    """The (9, 16) map of `doubled_kernel`: an output pixel's three taps fall on two pixels of the small map; transposed, so mirrored."""
    return _shifts(weight.dtype, weight.device).flip(0)


def pooling_taps(weight: Tensor) -> Tensor:
    """The (9, 16) map of a 3x3 kernel to the 4x4 kernel of stride 2 that equals the convolution, then 2x2 average pooling."""
    return _shifts(weight.dtype, weight.device) / 4


def doubled_kernel(weight: Tensor) -> Tensor:
    """The kernel (in, out, 4, 4) of a transposed convolution of stride 2 that equals nearest doubling, then a 3x3 convolution."""
    return (weight.flatten(2) @ doubling_taps(weight)).unflatten(2, (4, 4)).transpose(0, 1)


class SpectralKernel(torch.autograd.Function):
    """A kernel (out, in, 3, 3) divided by its singular value u^T W v, its taps spread by a (9, n) map if one is given: (out, in, 3, 3) or (out, in, n).

    The gradient is that of the division, in as few passes over the weights as there can be.
    """

    @staticmethod
    def forward(ctx, weight: Tensor, u: Tensor, v: Tensor, taps: Tensor | None) -> Tensor:
        sigma = u.dot(weight.flatten(1).mv(v))
        ctx.save_for_backward(weight, u, v, taps, sigma)
        return weight / sigma if taps is None else weight.flatten(2) @ (taps / sigma)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        weight, u, v, taps, sigma = ctx.saved_tensors
        result = gradient / sigma if taps is None else gradient @ (taps / sigma).t()
        result = result.reshape(weight.shape[0], -1)
        along = result.flatten().dot(weight.flatten()) / sigma
        return result.addr_(u * -along, v).view_as(weight), None, None, None


class Derived(nn.Module):
    """A layer that computes with a kernel and a bias derived from its weights."""

    _kernels: "Kernels | None" = None

    @abstractmethod
    def derived(self) -> tuple[Tensor, Tensor | None]:
        """The kernel and the bias that `forward` computes with, in the weights' precision."""

    def operands(self) -> tuple[Tensor, Tensor | None]:
        """`derived`, or what `kernels` keeps of it."""
        if self._kernels is not None:
            return self._kernels.of(self)
        with torch.autocast(next(self.parameters()).device.type, enabled=False):
            return self.derived()


class Kernels:
    """The kernels and biases of a network's layers, each derived when it is first used, in the precision of the convolutions."""

    def __init__(self, network: nn.Module, precision: torch.dtype):
        self.precision = precision
        self.layers = [module for module in network.modules() if isinstance(module, Derived)]
        self.kept: dict[Derived, tuple[Tensor, Tensor | None]] = {}
        self.sources: list[Tensor] = []
        self.leaves: list[Tensor] = []

    def of(self, layer: Derived) -> tuple[Tensor, Tensor | None]:
        if layer not in self.kept:
            with torch.autocast(next(layer.parameters()).device.type, enabled=False):
                kernel, bias = layer.derived()
            self.kept[layer] = self._leaf(kernel), None if bias is None else self._leaf(bias)
        return self.kept[layer]

    def _leaf(self, source: Tensor) -> Tensor:
        leaf = source.detach().to(self.precision, memory_format=torch.contiguous_format)
        if torch.is_grad_enabled() and source.requires_grad:
            leaf.requires_grad_()
            self.sources.append(source)
            self.leaves.append(leaf)
        return leaf

    def flow(self) -> None:
        """Hand the gradients that gathered at the kernels on to the weights."""
        reached = [
            (source, leaf.grad.to(source.dtype))
            for source, leaf in zip(self.sources, self.leaves, strict=True)
            if leaf.grad is not None
        ]
        if reached:
            torch.autograd.backward(*zip(*reached, strict=True))


@contextmanager
def kernels(network: nn.Module, precision: torch.dtype) -> Iterator[Kernels]:
    """Within it each layer derives its kernel once, however many passes use it; gradients gather there and reach the weights at the end."""
    kept = Kernels(network, precision)
    for layer in kept.layers:
        layer._kernels = kept
    try:
        yield kept
        kept.flow()
    finally:
        for layer in kept.layers:
            layer._kernels = None


class SpectralConv2d(Derived, nn.Conv2d):
    """A 3x3 convolution whose kernel, as a matrix (out, in * 9), is divided by its largest singular value.

    The singular vectors `u` and `v` are estimates that `power_iteration` improves; `forward` uses them as they are, in training and
    evaluation alike. A training step calls `power_iteration` once.
    """

    def __init__(self, in_channels: int, out_channels: int, padding: int = 1):
        super().__init__(in_channels, out_channels, 3, padding=padding)
        self.register_buffer("u", torch.randn(out_channels))
        self.register_buffer("v", torch.randn(in_channels * 9))
        if not self.weight.is_meta:  # a plan of a network has no values
            self.u.copy_(F.normalize(self.u, dim=0))
            self.power_iteration(15)

    @torch.no_grad()
    def power_iteration(self, count: int = 1) -> None:
        """Improve `u` and `v` by `count` steps."""
        matrix = self.weight.flatten(1)
        for _ in range(count):
            self.v.copy_(F.normalize(matrix.t().mv(self.u), dim=0, eps=1e-12))
            self.u.copy_(F.normalize(matrix.mv(self.v), dim=0, eps=1e-12))

    def kernel(self, taps: Tensor | None = None) -> Tensor:
        """The weight divided by its largest singular value, (out, in, 3, 3); spread by a (9, 16) map to (out, in, 4, 4)."""
        kernel = SpectralKernel.apply(self.weight, self.u, self.v, taps)
        return kernel if taps is None else kernel.unflatten(2, (4, 4))

    def derived(self) -> tuple[Tensor, Tensor]:
        return self.kernel(), self.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, *self.operands(), padding=self.padding)


class DoublingConv2d(SpectralConv2d):
    """Nearest doubling of the map, then the convolution with zero padding: (B, C, H, W) to (B, out, 2H, 2W)."""

    def derived(self) -> tuple[Tensor, Tensor]:
        return self.kernel(doubling_taps(self.weight)).transpose(0, 1), self.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, *self.operands(), stride=2, padding=1)


class PoolingConv2d(SpectralConv2d):
    """Reflection padding, the convolution, then 2x2 average pooling: (B, C, H, W) to (B, out, H / 2, W / 2)."""

    def derived(self) -> tuple[Tensor, Tensor]:
        return self.kernel(pooling_taps(self.weight)), self.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(padded(x, "reflect"), *self.operands(), stride=2)


def power_iteration(network: nn.Module) -> None:
    """One step of the power iteration in every spectrally normalised layer of a network."""
    for module in network.modules():
        if isinstance(module, SpectralConv2d):
            module.power_iteration()
