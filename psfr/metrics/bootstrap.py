"""Percentile bootstrap (Efron and Tibshirani, 1993): how much a metric depends on the choice of test images."""

from collections.abc import Callable

import numpy as np

from psfr.utils import seeds

CONFIDENCE_LEVEL = 0.95


def resample_indices(seed: int, n: int, n_resamples: int) -> np.ndarray:
    """Draw `n_resamples` resamples of `n` images with replacement.

    Use the same resamples for all models and metrics: their intervals then refer to the same resampled test sets.

    Returns:
        Indices, int64 (n_resamples, n).
    """
    return seeds.rng_for(seed, "bootstrap").integers(n, size=(n_resamples, n))


def confidence_interval(
    resamples: np.ndarray, statistic: Callable[[np.ndarray], float], bias_corrected_to: float | None = None
) -> list[float]:
    """Return the 95 % interval [low, high] of `statistic(indices)` over the resamples.

    Args:
        resamples: indices (n_resamples, n) from `resample_indices`.
        statistic: maps the indices of one resample to a number.
        bias_corrected_to: for a biased statistic, its value on all images. The resampled values are shifted to have
            it as their mean. A Fréchet distance needs this: a resample repeats images, so its covariance has a lower
            rank than that of the set, and the distances of all resamples can exceed the distance of the set.
    """
    values = np.array([statistic(indices) for indices in resamples])
    if bias_corrected_to is not None:
        values += bias_corrected_to - values.mean()
    quantiles = [(1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2]
    return [float(bound) for bound in np.quantile(values, quantiles, method="inverted_cdf")]
