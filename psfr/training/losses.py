"""Losses of PSFR-GAN, in the form that the published checkpoints were trained with.

They follow the reimplementation, section Losses. Where its formulas and the published model differ, the published
model decides.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from psfr.networks import NUM_CLASSES

EPSILON = 1e-8
PERCEPTUAL_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1)  # of VGG's stages

# Score map and features of each scale.
DiscriminatorOutput = list[tuple[Tensor, list[Tensor]]]


def sum_tensors(tensors: Iterable[Tensor]) -> Tensor:
    """Return the sum of at least one tensor: the builtin's return type includes the int of an empty sum."""
    total = sum(tensors)
    assert isinstance(total, Tensor)
    return total


def pixel_loss(restored: Tensor, hq: Tensor) -> Tensor:
    """Return the L1 distance, the mean over all values."""
    return F.l1_loss(restored.float(), hq.float())


class _SquaredDistance(torch.autograd.Function):
    """Sum of squares of x - y, in at least float32, differentiable in x. Only the difference is saved for backward."""

    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor) -> Tensor:
        difference = x - y
        ctx.save_for_backward(difference)
        return torch.linalg.vector_norm(difference, dtype=torch.promote_types(x.dtype, torch.float32)).square()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (difference,) = ctx.saved_tensors
        return difference * (2 * gradient).to(difference.dtype), None


def mean_squared_distance(x: Tensor, y: Tensor) -> Tensor:
    """Return the mean of (x - y) ** 2 for a constant `y` of the same shape."""
    return _SquaredDistance.apply(x, y) / x.numel()


def feature_matching_loss(fake: DiscriminatorOutput, real: DiscriminatorOutput) -> Tensor:
    """Return the mean squared distance to the features of the real image.

    It is summed over the layers of a scale and averaged over the scales. The real features are constants.

    Args:
        fake: the discriminator's output for the restored image.
        real: its output for the high-quality image.
    """
    scale_losses = []
    for (_, fake_features), (_, real_features) in zip(fake, real, strict=True):
        distances = [mean_squared_distance(f, r.detach()) for f, r in zip(fake_features, real_features, strict=True)]
        scale_losses.append(sum_tensors(distances))
    return sum_tensors(scale_losses) / len(scale_losses)


def perceptual_loss(restored_features: list[Tensor], high_features: list[Tensor]) -> Tensor:
    """Return the mean squared distance of VGG's features, summed over its five stages with `PERCEPTUAL_WEIGHTS`.

    It is part of the authors' training code, with weight 0.

    Args:
        restored_features: feature maps (B, C, h, w) of the restored image, one of each stage.
        high_features: those of the high-quality image, which are constants.
    """
    maps = zip(PERCEPTUAL_WEIGHTS, restored_features, high_features, strict=True)
    return sum_tensors(weight * mean_squared_distance(restored, hq.detach()) for weight, restored, hq in maps)


def mean_score(output: DiscriminatorOutput) -> Tensor:
    """Return the mean of the score maps, averaged over the scales."""
    return sum_tensors(score.float().mean() for score, _ in output) / len(output)


def hinge_generator_loss(fake: DiscriminatorOutput) -> Tensor:
    """Return the generator's hinge loss, minus the mean score of the restored image."""
    return -mean_score(fake)


def hinge_discriminator_loss(real: DiscriminatorOutput, fake: DiscriminatorOutput) -> Tensor:
    """Return half of mean(relu(1 - real)) + mean(relu(1 + fake)), averaged over the scales."""
    return hinge_real_loss(real) + hinge_fake_loss(fake)


def hinge_real_loss(real: DiscriminatorOutput) -> Tensor:
    """Return the discriminator's loss of the real image: half of mean(relu(1 - real)), averaged over the scales."""
    return 0.5 * sum_tensors(F.relu(1 - score.float()).mean() for score, _ in real) / len(real)


def hinge_fake_loss(fake: DiscriminatorOutput) -> Tensor:
    """Return the discriminator's loss of the restored image: half of mean(relu(1 + fake)), averaged over the scales."""
    return 0.5 * sum_tensors(F.relu(1 + score.float()).mean() for score, _ in fake) / len(fake)


def semantic_style_loss(restored_features: list[Tensor], high_features: list[Tensor], labels: Tensor) -> Tensor:
    """Return the squared distance between the Gram matrices of each region of the face (semantic-aware style loss).

    The Gram matrix of a region is X X^T / (C * (n + 1e-8)), where X of shape (C, n) holds the features of the
    region's n pixels. The squared differences are averaged over the batch, the 19 regions and the C x C entries, and
    summed over the feature maps.

    Args:
        restored_features: feature maps (B, C, h, w) of the restored image, each of any size.
        high_features: those of the high-quality image, which are constants.
        labels: parsing map of the high-quality image, integer (B, H, W); resized to each feature map by nearest
            neighbor. If the features are on a GPU, a map on the CPU saves time: the sizes of the regions are read from
            it, and reading them from the GPU waits for all of its work.
    """
    return sum_tensors(
        _map_style_loss(restored.float(), hq.detach().float(), labels)
        for restored, hq in zip(restored_features, high_features, strict=True)
    )


def _map_style_loss(restored: Tensor, hq: Tensor, labels: Tensor) -> Tensor:
    """Return the style loss of one feature map."""
    batch, channels, height, width = restored.shape
    order, sizes = _sort_by_region(labels, height, width)
    order = order.to(restored.device, non_blocking=True)

    def split_by_region(features: Tensor) -> tuple[Tensor, ...]:
        pixels = features.permute(0, 2, 3, 1).reshape(-1, channels)
        return pixels.index_select(0, order).split(sizes)

    differences, totals = split_by_region(restored - hq), split_by_region(restored + hq)
    loss = restored.new_zeros(())
    for difference, total, n in zip(differences, totals, sizes, strict=True):
        if n:
            loss = loss + _squared_gram_distance(difference, total) / (channels * (n + EPSILON)) ** 2
    return loss / (batch * NUM_CLASSES * channels * channels)


def _sort_by_region(labels: Tensor, height: int, width: int) -> tuple[Tensor, list[int]]:
    """Sort the pixels of a batch by image and label, so that each region is a contiguous slice.

    Args:
        labels: parsing map, integer (B, H, W).
        height, width: size to which the map is resized first.

    Returns:
        The indices of the sorted pixels, int64 (B * height * width,), on the device of the map, and the number of
        pixels of each region, 19 for each image.
    """
    seg = F.interpolate(labels.unsqueeze(1).float(), (height, width)).long().flatten(1)
    region = (seg + NUM_CLASSES * torch.arange(len(seg), device=seg.device).unsqueeze(1)).flatten()
    sizes = torch.bincount(region, minlength=len(seg) * NUM_CLASSES)
    return torch.argsort(region, stable=True), sizes.tolist()


def _squared_gram_distance(d: Tensor, s: Tensor) -> Tensor:
    """Return |X^T X - Y^T Y|^2 for X, Y of shape (n, C), given d = X - Y and s = X + Y.

    The difference of the Gram matrices is the symmetric part of d^T s. If n is small, its squared norm is computed from
    n x n instead of C x C matrices: |d^T s|^2 = <d d^T, s s^T>, and <d^T s, s^T d> = <d s^T, (d s^T)^T>. Unlike the
    difference of two separately computed Gram matrices, this form does not cancel digits if X and Y are alike.
    """
    n, channels = d.shape
    with torch.autocast(d.device.type, enabled=False):
        if 3 * n < channels:
            cross = d @ s.t()
            return 0.5 * (((d @ d.t()) * (s @ s.t())).sum() + (cross * cross.t()).sum())
        half = d.t() @ s
        return (0.5 * (half + half.t())).square().sum()
