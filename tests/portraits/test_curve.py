"""Monotonic curves."""

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from psfr.portraits.curve import interpolate


@pytest.mark.parametrize("shape", ["rough", "monotonic", "steps"])
def test_curve_is_that_of_scipy_to_the_bit(shape):
    rng = np.random.default_rng(0)
    for num_points in range(3, 20):
        xs = np.cumsum(rng.uniform(0.01, 2, num_points))
        ys = rng.uniform(-1, 1, num_points)
        ys = {"rough": ys, "monotonic": np.sort(ys), "steps": ys.round()}[shape]
        x = rng.uniform(xs[0] - 1, xs[-1] + 1, (20, 10)).astype(np.float32)
        x.flat[:num_points] = xs
        assert np.array_equal(interpolate(x, xs, ys), PchipInterpolator(xs, ys)(x))
