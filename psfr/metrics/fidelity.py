"""PSNR, SSIM and tint: agreement of the pixels with the true image.

PSNR and SSIM are those of torchmetrics, to the bit. Written here because torchmetrics takes longer to load than PyTorch
itself.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

DATA_RANGE = 2.0  # of images in [-1, 1]
MAX_LEVEL = 255
SIGMA, RADIUS = 1.5, 5  # of SSIM's Gaussian window, in pixels
SSIM_C1, SSIM_C2 = (0.01 * DATA_RANGE) ** 2, (0.03 * DATA_RANGE) ** 2


def psnr(restored: Tensor, hq: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each image in dB.

    Args:
        restored, hq: images (B, 3, H, W) in [-1, 1].

    Returns:
        (B,), infinite for equal images.
    """
    error = restored - hq
    mse = (error * error).sum((1, 2, 3)) / hq[0].numel()
    decibels = 10 / torch.tensor(10.0).log()  # of a natural logarithm
    return (2 * torch.tensor(DATA_RANGE).log() - mse.log()) * decibels


def pooled_psnr(psnr_per_image: np.ndarray) -> float:
    """Return the PSNR of the mean squared error over all images, as reported by the reimplementation.

    The mean is taken over squared errors, not over decibels. All images must have one size.
    """
    squared_errors = DATA_RANGE**2 / 10 ** (np.asarray(psnr_per_image, np.float64) / 10)
    mse = squared_errors.mean()
    return float(10 * np.log10(DATA_RANGE**2 / mse)) if mse > 0 else float("inf")


def ssim(restored: Tensor, hq: Tensor) -> Tensor:
    """Return the structural similarity (Wang et al., 2004; Gaussian window, sigma 1.5) of each image.

    Args:
        restored, hq: images (B, 3, H, W) in [-1, 1].

    Returns:
        (B,), at most 1.
    """
    channels = hq.shape[1]
    offsets = torch.arange(-RADIUS, RADIUS + 1, dtype=hq.dtype, device=hq.device)
    profile = torch.exp(-torch.pow(offsets / SIGMA, 2) / 2)
    profile = (profile / profile.sum())[None]
    window = (profile.t() @ profile).expand(channels, 1, -1, -1)
    restored, hq = (F.pad(image, [RADIUS] * 4, mode="reflect") for image in (restored, hq))
    moments = F.conv2d(torch.cat((restored, hq, restored * restored, hq * hq, restored * hq)), window, groups=channels)
    mean_a, mean_b, square_a, square_b, product = moments.split(len(hq))
    variance_a, variance_b = (square_a - mean_a**2).clamp(min=0), (square_b - mean_b**2).clamp(min=0)
    covariance = product - mean_a * mean_b
    similarity = ((2 * (mean_a * mean_b) + SSIM_C1) * (2 * covariance + SSIM_C2)) / (
        (mean_a**2 + mean_b**2 + SSIM_C1) * (variance_a + variance_b + SSIM_C2)
    )
    return similarity.flatten(1).mean(1)


def tint(restored: Tensor, hq: Tensor) -> Tensor:
    """Return the error of each image's mean color in levels of 255, without the error of its brightness.

    Args:
        restored, hq: images (B, 3, H, W) in [-1, 1].

    Returns:
        (B,): the Euclidean norm of the mean error (red, green, blue) less its mean over the three channels.
    """
    error = MAX_LEVEL / DATA_RANGE * (restored - hq).mean((2, 3))
    return (error - error.mean(1, keepdim=True)).norm(dim=1)


def pooled_tint(tint_per_image: np.ndarray) -> float:
    """Return the root mean square of the tint over all images."""
    return float(np.sqrt((np.asarray(tint_per_image, np.float64) ** 2).mean()))
