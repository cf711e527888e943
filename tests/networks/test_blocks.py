"""Layers with computed kernels equal the separate operations, and their gradients."""

import gc
import weakref

import pytest
import torch
from torch.nn import functional as F

from psfr.networks.blocks import (
    ConvPool2d,
    NormalizedWeight,
    SpectralNormConv2d,
    UpsampleConv2d,
    instance_norm,
    pool_taps,
    power_iteration,
    upsample_kernel,
)
from psfr.networks.generator import Generator
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


def test_instance_norm_and_its_gradient():
    x = randn64(2, 3, 5, 6, requires_grad=True)
    expected, actual = F.instance_norm(x), instance_norm(x)
    assert max_error(actual, expected) < 1e-12
    assert max_error(*reference.weighted_grad(actual, x), *reference.weighted_grad(expected, x)) < 1e-12


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("batch", [1, 2])
def test_gradient_of_instance_norm_in_bf16(batch, memory_format):
    x = torch.randn(batch, 3, 5, 6).bfloat16().to(memory_format=memory_format).requires_grad_()
    expected = F.instance_norm(x.double())
    actual = instance_norm(x)
    assert max_error(actual, expected) < 2e-2
    assert max_error(*reference.weighted_grad(actual, x), *reference.weighted_grad(expected, x)) < 2e-2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batch", [1, 2])
def test_instance_norm_without_backward_is_released(dtype, batch):
    x = torch.randn(batch, 4, 6, 6, dtype=dtype).to(memory_format=torch.channels_last).requires_grad_()
    gc.disable()
    try:
        output = instance_norm(x)
        node = weakref.ref(output.grad_fn)  # owns the saved tensors
        del output
        assert node() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("taps", [None, torch.randn(9, 16, dtype=torch.float64)])
def test_normalized_weight_and_its_gradient(taps):
    weight, u, v = randn64(4, 5, 3, 3, requires_grad=True), randn64(4), randn64(45)
    normalized = weight / u.dot(weight.flatten(1).mv(v))
    expected = normalized if taps is None else normalized.flatten(2) @ taps
    actual = NormalizedWeight.apply(weight, u, v, taps)
    assert max_error(actual, expected) < 1e-12
    assert max_error(*reference.weighted_grad(actual, weight), *reference.weighted_grad(expected, weight)) < 1e-10


@pytest.mark.parametrize("layer", [SpectralNormConv2d, UpsampleConv2d, ConvPool2d])
def test_spectral_norm_makes_the_largest_singular_value_one(layer):
    torch.manual_seed(0)
    conv = layer(6, 8)
    conv.power_iteration(200)
    assert torch.linalg.matrix_norm(conv.normalized_weight().flatten(1), 2).item() == pytest.approx(1, abs=1e-4)
    u = conv.u.clone()
    conv(torch.randn(1, 6, 8, 8))
    assert torch.equal(conv.u, u), "a forward pass changes no state"


def test_power_iteration_updates_every_layer():
    torch.manual_seed(0)
    network = Generator(32, 16, 4, 8)
    initial = {name: value.clone() for name, value in network.named_buffers()}
    for parameter in network.parameters():
        parameter.data.normal_()
    power_iteration(network)
    assert all(not torch.equal(value, initial[name]) for name, value in network.named_buffers() if value.numel() > 1)
