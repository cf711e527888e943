"""Convolutions with spectral norm."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from psfr.networks.functional import PaddingMode, pad
from psfr.networks.kernels import BOX, TENT, ReparameterizedConv, pool_taps, upsample_taps

NUM_INITIAL_ITERATIONS = 15  # steps of the power iteration on a new weight


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
