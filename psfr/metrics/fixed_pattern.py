"""Fixed pattern: horizontal and vertical stripes that the errors of all restored images have in common, in levels.

A generator that draws the same stripes into every face raises neither ST-LPIPS nor a Fréchet distance much: to them,
stripes are texture. The mean over faces shows them, but holds a part of each single face's errors too, so the amplitude
is computed from products of the errors of different faces only.
"""

import numpy as np
import torch
from torch import Tensor

from psfr.metrics.fidelity import DATA_RANGE, MAX_LEVEL

LUMINANCE = (0.299, 0.587, 0.114)  # weights of red, green and blue (ITU-R BT.601)
# As fractions of an image's side: the strips beside the face lie between both distances from the left and the right
# edge. Nearer to the edge there may be a frame, which is no stripe.
STRIP_START, STRIP_END = 1 / 32, 3 / 16
SIGMA = 1 / 64  # of the high-pass filter, as a fraction of the side: half of 12 cycles per image passes


def stripe_profiles(restored: Tensor, hq: Tensor) -> tuple[Tensor, Tensor]:
    """Reduce the error of each image to the profiles of its horizontal and of its vertical stripes.

    The error of the luminance beside the face, where the errors at eyes and lips do not count, is averaged along x
    (horizontal stripes) or along y (vertical stripes), and low frequencies are removed.

    Args:
        restored, hq: images (B, 3, H, W) in [-1, 1].

    Returns:
        In levels of 255, float64: rows (B, P), averaged over the strips on both sides, and columns of both strips
        (B, Q). P is about H and Q about 5 W / 16.
    """
    weights = restored.new_tensor(LUMINANCE).view(1, 3, 1, 1)
    error = MAX_LEVEL / DATA_RANGE * ((restored - hq) * weights).sum(1)
    height, width = error.shape[1:]
    rows = slice(round(STRIP_START * height), height - round(STRIP_START * height))
    start, end = round(STRIP_START * width), round(STRIP_END * width)
    columns = [*range(start, end), *range(width - end, width - start)]
    horizontal = error[:, :, columns].mean(2).cpu().double()
    vertical = error[:, rows].mean(1).cpu().double()
    horizontal, vertical = horizontal - horizontal @ _gauss(height), vertical - vertical @ _gauss(width)
    return horizontal[:, rows], vertical[:, columns]


def remove_low_frequencies(image: np.ndarray) -> np.ndarray:
    """Filter an image (H, W) like the profiles, in both directions."""
    height, width = image.shape
    return image - _gauss(height).numpy().T @ image @ _gauss(width).numpy()


def _gauss(length: int) -> Tensor:
    """Return the matrix (length, length) that blurs profiles p (B, length) as p @ matrix."""
    positions = torch.arange(length, dtype=torch.float64)
    weights = torch.exp(-(((positions[:, None] - positions) / (SIGMA * length)) ** 2) / 2)
    return weights / weights.sum(0)


def amplitude(profiles: np.ndarray, indices: np.ndarray) -> float:
    """Return the RMS in levels of what the profiles of different images have in common.

    It is the root of the mean of e_i e_j over all pairs i != j of different images, which is the mean of the covariance
    between halves of the set over all ways to halve it. Independent errors have an expected covariance of zero.

    Args:
        profiles: (images, P), one of the results of `stripe_profiles`.
        indices: images to use, for example a bootstrap resample. Two copies of one image are not a pair.

    Returns:
        0 if the covariance is negative, or if all indices are of one image.

    Raises:
        ValueError: there are fewer than two profiles.
    """
    if len(profiles) < 2:
        raise ValueError("a fixed pattern needs at least two images")
    counts = np.bincount(indices, minlength=len(profiles)).astype(np.float64)
    total = counts @ profiles
    products = total @ total - counts**2 @ (profiles**2).sum(1)
    pairs = counts.sum() ** 2 - (counts**2).sum()
    return float(np.sqrt(max(products, 0.0) / (pairs * profiles.shape[1]))) if pairs else 0.0
