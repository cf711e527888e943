"""Convolutions with spectral norm, and their normalized weights."""

import pytest
import torch

from psfr.networks.generator import Generator
from psfr.networks.spectral_norm import (
    ConvPool2d,
    NormalizedWeight,
    SpectralNormConv2d,
    UpsampleConv2d,
    power_iteration,
)
from psfr.training import reference
from tests.helpers.networks import max_error, randn64


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
