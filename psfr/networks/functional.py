"""Functions of images and feature maps that the networks share."""

from typing import Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from psfr.networks import NUM_CLASSES

LEAKY_SLOPE = 0.2  # negative slope of every leaky ReLU
PaddingMode = Literal["zeros", "replicate"]


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
