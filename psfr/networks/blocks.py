"""Layers that the networks share.

Two of them compute a pair of layers as one convolution (2.25 times fewer products); what they store is the plain 3x3 kernel.
"""

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
    """An image (B, 3, H, W) and its one-hot region map together, (B, 22, H, W)."""
    return torch.cat([image, one_hot(labels).to(image.dtype)], 1).contiguous(memory_format=torch.channels_last)


class InstanceNorm(torch.autograd.Function):
    """Instance norm without affine parameters, eps 1e-5, statistics in float32.

    Written over rows of pixels: the library's own kernels leave channels-last layout, or their gradient is many times slower in it.
    """

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        centred = rows - rows.mean(1, keepdim=True, dtype=torch.float32)
        scale = torch.rsqrt(centred.square().mean(1, keepdim=True) + 1e-5)
        normal = (centred * scale).to(x.dtype)
        ctx.save_for_backward(normal, scale)
        return normal.view(batch, height, width, channels).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        normal, scale = ctx.saved_tensors
        batch, channels, height, width = gradient.shape
        rows = gradient.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        mean = rows.mean(1, keepdim=True, dtype=torch.float32)
        along = (rows * normal).mean(1, keepdim=True, dtype=torch.float32)
        result = ((rows - mean - normal * along) * scale).to(gradient.dtype)
        return result.view(batch, height, width, channels).permute(0, 3, 1, 2)


def instance_norm(x: Tensor) -> Tensor:
    """`InstanceNorm` of features (B, C, H, W)."""
    return InstanceNorm.apply(x)


def doubled_kernel(weight: Tensor) -> Tensor:
    """The kernel (in, out, 4, 4) of a transposed convolution of stride 2 that equals nearest doubling, then a 3x3 convolution.

    An output pixel's three taps fall on two pixels of the small map, so the kernel is the sum of shifts of the mirrored 3x3 kernel.
    """
    kernel = weight.transpose(0, 1).flip(2, 3)
    return F.pad(kernel, (0, 1, 0, 1)) + F.pad(kernel, (1, 0, 0, 1)) + F.pad(kernel, (0, 1, 1, 0)) + F.pad(kernel, (1, 0, 1, 0))


def pooled_kernel(weight: Tensor) -> Tensor:
    """The kernel (out, in, 4, 4) of a convolution of stride 2 that equals a 3x3 convolution, then 2x2 average pooling."""
    return (F.pad(weight, (0, 1, 0, 1)) + F.pad(weight, (1, 0, 0, 1)) + F.pad(weight, (0, 1, 1, 0)) + F.pad(weight, (1, 0, 1, 0))) / 4


class SpectralConv2d(nn.Conv2d):
    """A 3x3 convolution whose kernel, as a matrix (out, in * 9), is divided by its largest singular value.

    The singular vectors `u` and `v` are estimates that `power_iteration` improves; `forward` uses them as they are, in training and
    evaluation alike. A training step calls `power_iteration` once.
    """

    def __init__(self, in_channels: int, out_channels: int, padding: int = 1):
        super().__init__(in_channels, out_channels, 3, padding=padding)
        self.register_buffer("u", F.normalize(torch.randn(out_channels), dim=0))
        self.register_buffer("v", F.normalize(torch.randn(in_channels * 9), dim=0))
        self.power_iteration(15)

    @torch.no_grad()
    def power_iteration(self, count: int = 1) -> None:
        """Improve `u` and `v` by `count` steps."""
        matrix = self.weight.flatten(1)
        for _ in range(count):
            self.v.copy_(F.normalize(matrix.t().mv(self.u), dim=0, eps=1e-12))
            self.u.copy_(F.normalize(matrix.mv(self.v), dim=0, eps=1e-12))

    def kernel(self) -> Tensor:
        """The weight divided by its largest singular value."""
        return self.weight / self.u.dot(self.weight.flatten(1).mv(self.v))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel(), self.bias, padding=self.padding)


class DoublingConv2d(SpectralConv2d):
    """Nearest doubling of the map, then the convolution with zero padding: (B, C, H, W) to (B, out, 2H, 2W)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, doubled_kernel(self.kernel()), self.bias, stride=2, padding=1)


class PoolingConv2d(SpectralConv2d):
    """Reflection padding, the convolution, then 2x2 average pooling: (B, C, H, W) to (B, out, H / 2, W / 2)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), pooled_kernel(self.kernel()), self.bias, stride=2)


def power_iteration(network: nn.Module) -> None:
    """One step of the power iteration in every spectrally normalised layer of a network."""
    for module in network.modules():
        if isinstance(module, SpectralConv2d):
            module.power_iteration()
