"""Percentile bootstrap (Efron & Tibshirani 1993): how far a figure would move with other test images of the same kind."""

from collections.abc import Callable

import numpy as np

from psfr.utils import seeds

LEVEL = 0.95


def resamples(seed: int, images: int, count: int) -> np.ndarray:
    """Draws of `images` images with replacement, int64 (count, images).

    The same draws serve every model and metric, so that their intervals tell of the same imagined test sets.
    """
    return seeds.generator(seed, "bootstrap").integers(images, size=(count, images))


def interval(draws: np.ndarray, statistic: Callable[[np.ndarray], float], value: float | None = None) -> list[float]:
    """The central 95 % of `statistic(indices)` over the draws: [low, high].

    Args:
        value: the statistic of all images, where it is biased: a draw repeats images, so its covariance has fewer directions than that
            of the set, and a Fréchet distance of draws can lie wholly above the set's own. The draws are then shifted to have it as mean.
    """
    values = np.array([statistic(indices) for indices in draws])
    if value is not None:
        values += value - values.mean()
    return [float(bound) for bound in np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="inverted_cdf")]
