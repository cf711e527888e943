"""Smooth curves through points: monotonic cubic interpolation (PCHIP), as scipy's, which takes a second to import."""

from collections.abc import Sequence

import numpy as np


def interpolate(x: np.ndarray, xs: Sequence[float], ys: Sequence[float]) -> np.ndarray:
    """Return the values at `x` of the curve through the points (xs, ys); beyond them, its first and last cubic.

    Between two points the curve rises or falls as the points do (Fritsch and Butland, 1984).

    Args:
        x: any shape.
        xs: increasing, at least three.
        ys: as many.

    Returns:
        float64, the shape of `x`.
    """
    knots, values = np.asarray(xs, np.float64), np.asarray(ys, np.float64)
    steps = np.diff(knots)
    secants = np.diff(values) / steps
    slopes = _slopes(steps, secants)
    bend = (slopes[:-1] + slopes[1:] - 2 * secants) / steps
    cubic, square = bend / steps, (secants - slopes[:-1]) / steps - bend

    x = np.asarray(x, np.float64)
    i = np.clip(np.searchsorted(knots, x, "right") - 1, 0, len(steps) - 1)
    t = x - knots[i]
    t2 = t * t
    return values[i] + slopes[i] * t + square[i] * t2 + cubic[i] * (t2 * t)


def _slopes(steps: np.ndarray, secants: np.ndarray) -> np.ndarray:
    """Return the slope at each point: the weighted harmonic mean of both secants, 0 at a local extremum."""
    slopes = np.zeros(len(secants) + 1)
    w1, w2 = 2 * steps[1:] + steps[:-1], steps[1:] + 2 * steps[:-1]
    monotonic = secants[:-1] * secants[1:] > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (w1 / secants[:-1] + w2 / secants[1:]) / (w1 + w2)
    slopes[1:-1][monotonic] = 1 / mean[monotonic]
    slopes[0] = _end_slope(steps[0], steps[1], secants[0], secants[1])
    slopes[-1] = _end_slope(steps[-1], steps[-2], secants[-1], secants[-2])
    return slopes


def _end_slope(step: float, next_step: float, secant: float, next_secant: float) -> float:
    """Return the slope of the parabola through the last three points, limited so that the curve stays monotonic."""
    slope = ((2 * step + next_step) * secant - step * next_secant) / (step + next_step)
    if np.sign(slope) != np.sign(secant):
        return 0.0
    if np.sign(secant) != np.sign(next_secant) and abs(slope) > 3 * abs(secant):
        return 3 * secant
    return slope
