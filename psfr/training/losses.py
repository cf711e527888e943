"""The losses of PSFR-GAN (article, section Losses), in the form that the published checkpoints were trained with."""

import torch
from torch import Tensor
from torch.nn import functional as F

from psfr.networks.blocks import REGIONS

EPSILON = 1e-8

# What a discriminator returns: a score map and features, for each scale.
Judged = list[tuple[Tensor, list[Tensor]]]


def pixel_loss(restored: Tensor, high: Tensor) -> Tensor:
    """L1 distance, mean over all values."""
    return F.l1_loss(restored.float(), high.float())


class _SquaredDistance(torch.autograd.Function):
    """Sum of squares of x - y, in float32; keeps the difference alone, for the gradient of x."""

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
    """Mean of (x - y) ** 2 for a constant y of the same shape."""
    return _SquaredDistance.apply(x, y) / x.numel()


def feature_matching_loss(fake: Judged, real: Judged) -> Tensor:
    """Mean squared distance to the real image's features, summed over a scale's layers, averaged over the scales; real features are constants."""
    scales = [
        sum(mean_squared_distance(f, r.detach()) for f, r in zip(fs, rs, strict=True))
        for (_, fs), (_, rs) in zip(fake, real, strict=True)
    ]
    return sum(scales) / len(scales)


def mean_score(judged: Judged) -> Tensor:
    """The mean score of an image, averaged over the scales."""
    return sum(score.float().mean() for score, _ in judged) / len(judged)


def hinge_generator_loss(fake: Judged) -> Tensor:
    """Minus the mean score of the restored image."""
    return -mean_score(fake)


def hinge_discriminator_loss(real: Judged, fake: Judged) -> Tensor:
    """Half of mean(relu(1 - real)) + mean(relu(1 + fake)), averaged over the scales."""
    return hinge_real_loss(real) + hinge_fake_loss(fake)


def hinge_real_loss(real: Judged) -> Tensor:
    """The discriminator's loss on the real image: half of mean(relu(1 - real)), averaged over the scales."""
    return 0.5 * sum(F.relu(1 - score.float()).mean() for score, _ in real) / len(real)


def hinge_fake_loss(fake: Judged) -> Tensor:
    """The discriminator's loss on the restored image: half of mean(relu(1 + fake)), averaged over the scales."""
    return 0.5 * sum(F.relu(1 + score.float()).mean() for score, _ in fake) / len(fake)


def semantic_style_loss(restored_features: list[Tensor], high_features: list[Tensor], labels: Tensor) -> Tensor:
    """Squared distance of the regions' Gram matrices.

    A region's Gram matrix is X X^T / (C * (n + 1e-8)), where X (C, n) holds the features of its n pixels. Squared differences are averaged
    over batch, 19 regions and C x C entries, and summed over the feature maps. High-quality features are constants.

    Args:
        restored_features, high_features: feature maps (B, C, h, w) of any sizes.
        labels: int64 (B, H, W), regions of the high-quality image; resized to a map by nearest neighbour.
    """
    return sum(
        _style_of_map(r.float(), h.detach().float(), labels)
        for r, h in zip(restored_features, high_features, strict=True)
    )


def _style_of_map(restored: Tensor, high: Tensor, labels: Tensor) -> Tensor:
    batch, channels, height, width = restored.shape
    small = F.interpolate(labels.unsqueeze(1).float(), (height, width)).long().flatten(1)
    # One sort brings each image's regions together: pixels by (image, region).
    region = (small + REGIONS * torch.arange(batch, device=small.device).unsqueeze(1)).flatten()
    order = torch.argsort(region, stable=True)
    sizes = torch.bincount(region, minlength=batch * REGIONS).tolist()

    def by_region(features: Tensor) -> tuple[Tensor, ...]:
        pixels = features.permute(0, 2, 3, 1).reshape(-1, channels)
        return pixels.index_select(0, order).split(sizes)

    difference, total = by_region(restored - high), by_region(restored + high)
    loss = restored.new_zeros(())
    for d, s, n in zip(difference, total, sizes, strict=True):
        if n:
            loss = loss + _squared_gram_distance(d, s) / (channels * (n + EPSILON)) ** 2
    return loss / (batch * REGIONS * channels * channels)


def _squared_gram_distance(d: Tensor, s: Tensor) -> Tensor:
    """|X^T X - Y^T Y|^2 for X, Y of shape (n, C), from d = X - Y and s = X + Y, by the smaller side.

    The difference of the Gram matrices is the symmetric part of d^T s. Its squared norm needs no C x C matrix where n is small:
    |d^T s|^2 = <d d^T, s s^T>, and <d^T s, s^T d> = <d s^T, (d s^T)^T>. Unlike the norms of X and Y apart, nothing cancels when they are alike.
    """
    n, channels = d.shape
    with torch.autocast(d.device.type, enabled=False):
        if 3 * n < channels:
            cross = d @ s.t()
            return 0.5 * (((d @ d.t()) * (s @ s.t())).sum() + (cross * cross.t()).sum())
        half = d.t() @ s
        return (0.5 * (half + half.t())).square().sum()
