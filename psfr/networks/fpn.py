"""Face parsing network (FPN; the reimplementation, section Face Parsing Network)."""

import math
from typing import Any, Literal

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from psfr.compute.exchange import all_gather
from psfr.networks import NUM_CLASSES
from psfr.networks.functional import LEAKY_SLOPE, pad
from psfr.networks.kernels import ReparameterizedConv, upsample_kernel

Scale = Literal["none", "down", "up"]


class NormalizeOverProcesses(torch.autograd.Function):
    """Normalize feature maps by mean and variance over the batch of all processes: one collective call each way.

    The gradient is that of the sum of the losses of the processes.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return the normalized maps, and mean and variance (divided by the number of pixels), each (C,)."""
        # PyTorch's own kernels take maps of bfloat16 with parameters of float32, and few passes.
        _, mean, inverse_std = torch.native_batch_norm(x, weight, bias, None, None, True, 0.0, eps)
        means, variances = all_gather(torch.stack((mean, inverse_std**-2 - eps))).unbind(1)
        mean = means.mean(0)
        variance = (variances + (means - mean) ** 2).mean(0)
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance)
        return F.batch_norm(x, mean, variance, weight, bias, eps=eps), mean, variance

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, variance = ctx.saved_tensors
        grad_x, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )  # with constant mean and variance
        # Through mean and variance: -weight / std * (normalized * mean(grad * normalized) + mean(grad))
        sums = all_gather(torch.stack((grad_weight, grad_bias))).sum(0)
        num_pixels = x.numel() // x.shape[1] * distributed.get_world_size()
        factor, summand = -weight * (variance + ctx.eps).rsqrt() * sums / num_pixels
        return grad_x.add_(F.batch_norm(x, mean, variance, factor, summand, eps=ctx.eps)), grad_weight, grad_bias, None


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch norm with training statistics over the batch of all processes; `nn.SyncBatchNorm` has no CPU support."""

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and distributed.is_initialized()):
            return super().forward(x)
        result, mean, variance = NormalizeOverProcesses.apply(x, self.weight, self.bias, self.eps)
        num_pixels = x.numel() // x.shape[1] * distributed.get_world_size()
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        assert self.num_batches_tracked is not None
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * num_pixels / (num_pixels - 1), self.momentum)
            self.num_batches_tracked += 1
        return result


class ConvLayer(ReparameterizedConv):
    """3x3 convolution with reflection padding and optional re-scaling, batch norm and leaky ReLU.

    In evaluation mode the batch norm is part of the kernel.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        scale: "down" for a convolution of stride 2, "up" for 2x nearest upsampling before the convolution.
        norm: whether batch norm follows; the convolution then has no bias.
        activation: whether a leaky ReLU follows.
    """

    def __init__(
        self, in_channels: int, out_channels: int, scale: Scale = "none", norm: bool = False, activation: bool = False
    ):
        super().__init__()
        self.scale = scale
        self.activation = activation
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=2 if scale == "down" else 1, bias=not norm)
        self.norm = SyncBatchNorm2d(out_channels) if norm else nn.Identity()

    def kernel_and_bias(self) -> tuple[Tensor, Tensor | None]:
        kernel, bias, norm = self.conv.weight, self.conv.bias, self.norm
        if isinstance(norm, nn.BatchNorm2d) and not self.training:
            assert norm.running_mean is not None and norm.running_var is not None
            kernel, bias = fuse_conv_bn_weights(
                kernel, bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
        return upsample_kernel(kernel) if self.scale == "up" else kernel, bias

    def forward(self, x: Tensor) -> Tensor:
        kernel, bias = self.cached_kernel_and_bias()
        if self.scale == "up":
            # Reflection of the upsampled map by one pixel is replication of the small one.
            x = F.conv_transpose2d(pad(x, "replicate"), kernel, bias, stride=2, padding=3)
        else:
            x = F.conv2d(pad(x, "reflect"), kernel, bias, stride=self.conv.stride)
        if self.training:
            x = self.norm(x)
        return F.leaky_relu(x, LEAKY_SLOPE, inplace=True) if self.activation else x


class ResidualBlock(nn.Module):
    """Two `ConvLayer`s with batch norm and a shortcut, which is a convolution if the size or the channels change."""

    def __init__(self, in_channels: int, out_channels: int, scale: Scale = "none"):
        super().__init__()
        is_identity = scale == "none" and in_channels == out_channels
        self.shortcut = nn.Identity() if is_identity else ConvLayer(in_channels, out_channels, scale)
        self.conv1 = ConvLayer(in_channels, out_channels, "up" if scale == "up" else "none", norm=True, activation=True)
        self.conv2 = ConvLayer(out_channels, out_channels, "down" if scale == "down" else "none", norm=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x)).add_(self.shortcut(x))


class FaceParsingNetwork(nn.Module):
    """Face parsing network: encoder, residual body with a long skip connection, decoder and two heads.

    One head predicts the parsing map, the other the restored image, which is an auxiliary task of the training.

    Args:
        image_size: side of the image in pixels, a power of two.
        min_feature_size: side of the body's feature maps in pixels; log2(image_size / min_feature_size) is the number
            of downsamplings.
        base_channels: channels at full size; each downsampling doubles them.
        min_channels: lower bound of the channels after the first layer.
        max_channels: upper bound of the channels after the first layer.
        body_blocks: number of residual blocks in the body.
        labels: number of classes.
    """

    def __init__(
        self,
        image_size: int = 512,
        min_feature_size: int = 32,
        base_channels: int = 64,
        min_channels: int = 32,
        max_channels: int = 256,
        body_blocks: int = 10,
        labels: int = NUM_CLASSES,
    ):
        super().__init__()
        num_scales = int(math.log2(image_size // min_feature_size))
        channels = [max(min_channels, min(base_channels * 2**i, max_channels)) for i in range(num_scales + 1)]

        self.encoder = nn.Sequential(ConvLayer(3, base_channels))
        for i in range(num_scales):
            self.encoder.append(ResidualBlock(base_channels if i == 0 else channels[i], channels[i + 1], "down"))
        self.body = nn.Sequential(*[ResidualBlock(channels[-1], channels[-1]) for _ in range(body_blocks)])
        self.decoder = nn.Sequential()
        for i in reversed(range(num_scales)):
            self.decoder.append(ResidualBlock(channels[i + 1], channels[i], "up"))
        self.to_image = ConvLayer(channels[0], 3)
        self.to_labels = ConvLayer(channels[0], labels)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Parse and restore an image.

        Args:
            image: float (B, 3, H, W) in [-1, 1].

        Returns:
            Logits of the parsing map (B, 19, H, W) and restored image (B, 3, H, W).
        """
        features = self.features(image)
        return self.to_labels(features), self.to_image(features)

    def features(self, image: Tensor) -> Tensor:
        """Compute the features (B, C, H, W) that both heads read from an image (B, 3, H, W)."""
        encoded = self.encoder(image)
        return self.decoder(encoded + self.body(encoded))

    def predict_logits(self, image: Tensor) -> Tensor:
        """Predict the logits of the parsing map, (B, 19, H, W), of an image (B, 3, H, W)."""
        return self.to_labels(self.features(image))

    def predict_seg(self, image: Tensor) -> Tensor:
        """Predict the parsing map, int64 (B, H, W), of an image (B, 3, H, W): the argmax of the logits."""
        return self.predict_logits(image).argmax(1)
