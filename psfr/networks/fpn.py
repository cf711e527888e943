"""Face parsing network (article, section Face Parsing Network)."""

import math
from typing import Literal

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from psfr.networks.blocks import REGIONS, SLOPE, Derived, doubled_kernel, padded
from psfr.networks.inference.fpn import FoldedParsingNetwork

Scale = Literal["keep", "halve", "double"]


class SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over the processes; the gradient of the sum of their losses."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        total = x.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return SumOverProcesses.apply(gradient)


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm; where processes share a batch, training takes the statistics of the whole of it. `nn.SyncBatchNorm` has no CPU form."""

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and distributed.is_initialized()):
            return super().forward(x)
        exact = x.float()
        mean = self._over_all(exact.mean((0, 2, 3)))
        centred = exact - mean[:, None, None]
        variance = self._over_all(centred.square().mean((0, 2, 3)))
        pixels = x.numel() // x.shape[1] * distributed.get_world_size()
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * pixels / (pixels - 1), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    @staticmethod
    def _over_all(value: Tensor) -> Tensor:
        return SumOverProcesses.apply(value) / distributed.get_world_size()


class ConvLayer(Derived):
    """Doubling if asked for, reflection padding, 3x3 convolution (of stride 2 to halve), batch norm and leaky ReLU if asked for.

    In evaluation mode the batch norm is part of the kernel.
    """

    def __init__(
        self, in_channels: int, out_channels: int, scale: Scale = "keep", norm: bool = False, activation: bool = False
    ):
        super().__init__()
        self.scale = scale
        self.activation = activation
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=2 if scale == "halve" else 1, bias=not norm)
        self.norm = BatchNorm2d(out_channels) if norm else nn.Identity()

    def derived(self) -> tuple[Tensor, Tensor | None]:
        kernel, bias, norm = self.conv.weight, self.conv.bias, self.norm
        if isinstance(norm, nn.BatchNorm2d) and not self.training:
            kernel, bias = fuse_conv_bn_weights(
                kernel, bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
        return doubled_kernel(kernel) if self.scale == "double" else kernel, bias

    def forward(self, x: Tensor) -> Tensor:
        kernel, bias = self.operands()
        if self.scale == "double":
            # Reflection at the edge of the doubled map repeats the edge of the small one.
            x = F.conv_transpose2d(padded(x, "replicate"), kernel, bias, stride=2, padding=3)
        else:
            x = F.conv2d(padded(x, "reflect"), kernel, bias, stride=self.conv.stride)
        if self.training:
            x = self.norm(x)
        return F.leaky_relu(x, SLOPE, inplace=True) if self.activation else x


class ResidualBlock(nn.Module):
    """Two normalised convolutions beside a shortcut; the shortcut is a convolution where the size or the channels change."""

    def __init__(self, in_channels: int, out_channels: int, scale: Scale = "keep"):
        super().__init__()
        same = scale == "keep" and in_channels == out_channels
        self.shortcut = nn.Identity() if same else ConvLayer(in_channels, out_channels, scale)
        self.conv1 = ConvLayer(
            in_channels, out_channels, "double" if scale == "double" else "keep", norm=True, activation=True
        )
        self.conv2 = ConvLayer(out_channels, out_channels, "halve" if scale == "halve" else "keep", norm=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x)).add_(self.shortcut(x))


class FaceParsingNetwork(nn.Module):
    """Encoder, residual body with a long skip, decoder, and two heads: the region map, and the restored image that supervises it.

    Args:
        image_size: pixels a side the sizes are counted from, a power of two.
        min_feature_size: pixels a side of the body's map; image_size / min_feature_size gives the number of halvings.
        base_channels: channels at full size; each halving doubles them.
        min_channels, max_channels: the bounds of the doubling.
        body_blocks: residual blocks of the body.
    """

    def __init__(
        self,
        image_size: int = 512,
        min_feature_size: int = 32,
        base_channels: int = 64,
        min_channels: int = 32,
        max_channels: int = 256,
        body_blocks: int = 10,
        labels: int = REGIONS,
    ):
        super().__init__()
        halvings = int(math.log2(image_size // min_feature_size))
        clipped = [max(min_channels, min(base_channels * 2**i, max_channels)) for i in range(halvings + 1)]

        self.encoder = nn.Sequential(ConvLayer(3, base_channels))
        for i in range(halvings):
            self.encoder.append(ResidualBlock(base_channels if i == 0 else clipped[i], clipped[i + 1], "halve"))
        self.body = nn.Sequential(*[ResidualBlock(clipped[-1], clipped[-1]) for _ in range(body_blocks)])
        self.decoder = nn.Sequential(
            *[ResidualBlock(clipped[i + 1], clipped[i], "double") for i in reversed(range(halvings))]
        )
        self.to_image = ConvLayer(clipped[0], 3)
        self.to_labels = ConvLayer(clipped[0], labels)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Image (B, 3, H, W) in [-1, 1] to mask logits (B, 19, H, W) and restored image (B, 3, H, W)."""
        features = self.features(image)
        return self.to_labels(features), self.to_image(features)

    def features(self, image: Tensor) -> Tensor:
        """What both heads read: image (B, 3, H, W) to (B, C, H, W)."""
        coarse = self.encoder(image)
        return self.decoder(coarse + self.body(coarse))

    def regions(self, image: Tensor) -> Tensor:
        """The label of the largest logit at each pixel, without the restored image: image (B, 3, H, W) to int64 (B, H, W)."""
        return self.to_labels(self.features(image)).argmax(1)

    def folded(self, precision: torch.dtype) -> FoldedParsingNetwork:
        """For `folding.fold`."""
        return FoldedParsingNetwork(self, precision)
