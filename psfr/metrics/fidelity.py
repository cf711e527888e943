"""PSNR and SSIM: how near the pixels are to the true ones."""

import numpy as np
from torch import Tensor

from psfr.utils import compat

compat.before_torchvision()
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure  # noqa: E402

DATA_RANGE = 2.0  # of images in [-1, 1]


def psnr(restored: Tensor, true: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB, (B,); infinite where both are equal. Images (B, 3, H, W) in [-1, 1]."""
    return peak_signal_noise_ratio(restored, true, data_range=DATA_RANGE, reduction="none", dim=(1, 2, 3))


def psnr_of_set(psnr_of_images: np.ndarray) -> float:
    """PSNR of the mean squared error over all images of one size, as the article took it: the mean is of errors, not of decibels."""
    errors = DATA_RANGE**2 / 10 ** (np.asarray(psnr_of_images, np.float64) / 10)
    mean = errors.mean()
    return float(10 * np.log10(DATA_RANGE**2 / mean)) if mean > 0 else float("inf")


def ssim(restored: Tensor, true: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004; Gaussian window, sigma 1.5) of each image, (B,). Images (B, 3, H, W) in [-1, 1]."""
    return structural_similarity_index_measure(restored, true, data_range=DATA_RANGE, reduction="none").reshape(-1)
