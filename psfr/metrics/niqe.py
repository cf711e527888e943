"""NIQE: how far the local statistics of an image are from those of pristine photographs (Mittal et al., 2013)."""

from functools import lru_cache
from math import gamma
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from psfr.data import images

BLOCK = 96  # side in pixels of the blocks, as that of the pristine ones; at the second scale it is half of that
MIN_BLOCKS = 2  # a covariance needs two
SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))  # rows and columns to the neighbors whose products are modeled

_WINDOW = cv2.getGaussianKernel(7, 7 / 6)
# MATLAB's imresize by 1/2: the cubic kernel, stretched by 2, at distances of 3.5, 2.5, 1.5 and 0.5 pixels.
_HALF = np.array([-0.01171875, -0.03515625, 0.11328125, 0.43359375])
_HALVING = np.concatenate([_HALF, _HALF[::-1]])
# Shapes of a generalized normal distribution among which the fit selects, and gamma(k / shape) for k from 1 to 3.
_SHAPES = np.arange(0.2, 10.001, 0.001)
_GAMMA1, _GAMMA2, _GAMMA3 = (np.array([gamma(k / shape) for shape in _SHAPES]) for k in (1, 2, 3))
_MOMENTS = _GAMMA2**2 / (_GAMMA1 * _GAMMA3)  # (E|x|)^2 / E(x^2), which increases with the shape


class Pristine(NamedTuple):
    """Normal distribution of the features of pristine blocks: mean (36,) and covariance (36, 36)."""

    mean: np.ndarray
    covariance: np.ndarray


@lru_cache(maxsize=1)
def pristine() -> Pristine:
    """Return the parameters that NIQE's authors published."""
    table = np.loadtxt(Path(__file__).with_name("niqe_parameters.csv"), delimiter=",")
    return Pristine(table[0], table[1:])


def score(image: np.ndarray) -> float:
    """Return the NIQE of an image, at least 0; lower is more natural.

    As the authors' MATLAB program does, it takes gray levels, blocks of 96 pixels without overlap from the upper left
    corner (what is left over at the right and at the bottom does not count), and a second scale of half the size.

    Args:
        image: uint8 RGB (H, W, 3).

    Returns:
        NaN if fewer than two blocks have features, because their covariance is undefined: the image is small or flat.
    """
    rows, columns = (side // BLOCK for side in image.shape[:2])
    if rows * columns < MIN_BLOCKS:
        return float("nan")
    gray = np.rint(image[: rows * BLOCK, : columns * BLOCK] @ np.array([0.299, 0.587, 0.114]))
    halved = cv2.sepFilter2D(gray, cv2.CV_64F, _HALVING, _HALVING, anchor=(3, 3), borderType=cv2.BORDER_REFLECT)[
        ::2, ::2
    ]
    features = np.hstack([_block_features(gray, BLOCK), _block_features(halved, BLOCK // 2)])
    features = features[np.isfinite(features).all(axis=1)]
    if len(features) < MIN_BLOCKS:
        return float("nan")
    mean, covariance = pristine()
    difference = mean - features.mean(0)
    # With fewer than 37 blocks their covariance is singular; the mean of both is not, but the authors use pinv, too.
    inverse = np.linalg.pinv((covariance + np.cov(features, rowvar=False)) / 2)
    return float(np.sqrt(difference @ inverse @ difference))


def scores_from_files(paths: list[Path]) -> list[float]:
    """Return the `score` of each image file.

    Raises:
        UserError: an image cannot be read.
    """
    return [score(images.read(path)) for path in paths]


def _block_features(gray: np.ndarray, size: int) -> np.ndarray:
    """Return the 18 features of each block of `size` pixels, float64 (blocks, 18).

    They are parameters of generalized normal distributions fitted to the normalized levels of a block, and to the
    products of neighbors in four directions. Neighbors beyond the border of a block are those at its other side.
    """
    rows, columns = (side // size for side in gray.shape)
    levels = _normalize(gray).reshape(rows, size, columns, size).transpose(0, 2, 1, 3).reshape(-1, size, size)
    index, left, right = _fit(levels)
    features = [_SHAPES[index], (left + right) / 2]
    for shift in SHIFTS:
        index, left, right = _fit(levels * np.roll(levels, shift, axis=(1, 2)))
        features += [_SHAPES[index], (right - left) * _GAMMA2[index] / _GAMMA1[index], left, right]
    return np.stack(features, axis=1)


def _normalize(gray: np.ndarray) -> np.ndarray:
    """Return the levels less their local mean, over their local standard deviation plus 1 (Eq. 1)."""
    mean, mean_square = (
        cv2.sepFilter2D(values, cv2.CV_64F, _WINDOW, _WINDOW, borderType=cv2.BORDER_REPLICATE)
        for values in (gray, gray**2)
    )
    return (gray - mean) / (np.sqrt(np.abs(mean_square - mean**2)) + 1)


def _fit(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit an asymmetric generalized normal distribution to each block by its moments (Eq. 4 to 7).

    Returns:
        index of the shape in `_SHAPES`, left scale and right scale, each (blocks,). Scales are NaN where a block has no
        negative or no positive value.
    """
    values = blocks.reshape(len(blocks), -1)
    squares = values**2
    with np.errstate(invalid="ignore", divide="ignore"):
        left, right = (
            np.sqrt((squares * side).sum(1) / np.count_nonzero(side, axis=1)) for side in (values < 0, values > 0)
        )
        ratio = left / right
        moment = np.abs(values).mean(1) ** 2 / squares.mean(1)
        moment *= (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    upper = np.clip(np.searchsorted(_MOMENTS, moment), 1, len(_MOMENTS) - 1)
    index = np.where(moment - _MOMENTS[upper - 1] < _MOMENTS[upper] - moment, upper - 1, upper)
    scale = np.sqrt(_GAMMA1[index] / _GAMMA3[index])
    return index, left * scale, right * scale
