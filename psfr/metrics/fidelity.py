"""PSNR, SSIM and tint: agreement of the pixels with the true image."""

import numpy as np
from torch import Tensor

from psfr.utils import compat

DATA_RANGE = 2.0  # of images in [-1, 1]
MAX_LEVEL = 255


def psnr(restored: Tensor, hq: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each image in dB.

    Args:
        restored, hq: images (B, 3, H, W) in [-1, 1].

    Returns:
        (B,), infinite for equal images.
    """
    # Imported here because it takes longer than PyTorch, and pictures of the mean error need only this module.
    compat.patch_torchvision()
    from torchmetrics.functional.image import peak_signal_noise_ratio

    return peak_signal_noise_ratio(restored, hq, data_range=DATA_RANGE, reduction="none", dim=(1, 2, 3))


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
    compat.patch_torchvision()
    from torchmetrics.functional.image import structural_similarity_index_measure

    values = structural_similarity_index_measure(restored, hq, data_range=DATA_RANGE, reduction="none")
    assert isinstance(values, Tensor)  # a tuple only with return_full_image
    return values.reshape(-1)


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
