"""Computed kernels equal the separate operations, and so do their gradients."""

import pytest
from torch.nn import functional as F

from psfr.networks.kernels import pool_taps, upsample_kernel
from psfr.training import reference
from tests.helpers.networks import max_error, randn64


@pytest.mark.parametrize("padding", ["constant", "reflect"])
def test_upsample_kernel_equals_upsampling_and_convolution(padding):
    x, weight, bias = (randn64(*shape, requires_grad=True) for shape in [(2, 5, 7, 6), (4, 5, 3, 3), (4,)])
    expected = reference.upsample_conv2d(x, weight, bias, padding)
    kernel = upsample_kernel(weight)
    if padding == "constant":
        actual = F.conv_transpose2d(x, kernel, bias, stride=2, padding=1)
    else:
        actual = F.conv_transpose2d(F.pad(x, (1, 1, 1, 1), "replicate"), kernel, bias, stride=2, padding=3)
    assert max_error(actual, expected) < 1e-12
    actual_grads = reference.weighted_grad(actual, x, weight, bias)
    expected_grads = reference.weighted_grad(expected, x, weight, bias)
    for actual_grad, expected_grad in zip(actual_grads, expected_grads, strict=True):
        assert max_error(actual_grad, expected_grad) < 1e-11


def test_pool_taps_equal_convolution_and_pooling():
    x, weight, bias = (randn64(*shape, requires_grad=True) for shape in [(2, 5, 8, 6), (4, 5, 3, 3), (4,)])
    expected = reference.conv2d_avg_pool(x, weight, bias)
    kernel = (weight.flatten(2) @ pool_taps(weight)).unflatten(2, (4, 4))
    actual = F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), kernel, bias, stride=2)
    assert max_error(actual, expected) < 1e-12
    actual_grads = reference.weighted_grad(actual, x, weight, bias)
    expected_grads = reference.weighted_grad(expected, x, weight, bias)
    for actual_grad, expected_grad in zip(actual_grads, expected_grads, strict=True):
        assert max_error(actual_grad, expected_grad) < 1e-11
