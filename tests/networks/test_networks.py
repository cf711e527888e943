"""The networks have the published sizes and equal the reference implementation."""

import pytest
import torch

from psfr.networks.discriminator import Discriminator
from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.generator import Generator
from psfr.networks.kernels import cache_kernels
from psfr.networks.spectral_norm import SpectralNormConv2d
from psfr.training import reference
from tests.helpers.networks import GENERATORS, flatten, max_error, small_network

PUBLISHED_SHAPES = {
    Generator: {
        "constant": (1, 1024, 16, 16),
        "stages.5.conv.weight": (32, 64, 3, 3),
        "to_image.weight": (3, 32, 3, 3),
    },
    FaceParsingNetwork: {
        "encoder.4.conv2.conv.weight": (256, 256, 3, 3),
        "body.9.conv1.conv.weight": (256, 256, 3, 3),
    },
    Discriminator: {
        "scales.2.layers.4.weight": (1024, 512, 3, 3),
        "scales.2.score.weight": (1, 1024, 3, 3),
    },
}


@pytest.mark.parametrize("network_class", PUBLISHED_SHAPES)
def test_the_defaults_are_the_published_sizes(network_class):
    with torch.device("meta"):
        weights = network_class().state_dict()
    expected = PUBLISHED_SHAPES[network_class]
    assert {name: tuple(weights[name].shape) for name in expected} == expected


@pytest.mark.parametrize("name", [*GENERATORS, "discriminator", "fpn"])
def test_networks_equal_the_reference_implementation(name):
    network, inputs = small_network(name)
    parameters = list(network.parameters())
    with reference.plain_forward():
        expected = flatten(network(*inputs))
        expected_grads = reference.weighted_grad(expected, *parameters)
    actual = flatten(network(*inputs))
    assert max_error(actual, expected) < 1e-10
    for actual_grad, expected_grad in zip(reference.weighted_grad(actual, *parameters), expected_grads, strict=True):
        assert max_error(actual_grad, expected_grad) < 1e-8


@pytest.mark.parametrize("name", ["generator", "discriminator", "fpn"])
def test_cached_kernels_collect_the_gradients_of_two_passes(name):
    network, inputs = small_network(name)
    flipped = tuple(value.flip(2) for value in inputs)
    (flatten(network(*inputs)).square().sum() + flatten(network(*flipped)).sum()).backward()
    expected_grads = [parameter.grad for parameter in network.parameters()]
    network.zero_grad(set_to_none=True)
    with cache_kernels(network, torch.float64):
        flatten(network(*inputs)).square().sum().backward()
        flatten(network(*flipped)).sum().backward()
    for parameter, expected in zip(network.parameters(), expected_grads, strict=True):
        assert max_error(parameter.grad, expected) <= 1e-9 * max(1, expected.abs().max())


def test_discriminators_start_as_published():
    """Every weight is drawn from N(0, 0.02^2), every bias is zero, and the singular vectors belong to the weights."""
    torch.manual_seed(0)
    layers = {
        name: module
        for name, module in Discriminator(2, 3, 16).named_modules()
        if isinstance(module, SpectralNormConv2d)
    }
    assert len(layers) == 2 * 5
    for name, layer in layers.items():
        weight = layer.weight.detach()
        standard_error = 0.02 / weight.numel() ** 0.5
        assert abs(weight.mean()) < 5 * standard_error, name
        assert abs(weight.std() - 0.02) < 5 * standard_error / 2**0.5, name
        kurtosis = (weight / weight.std()).pow(4).mean()
        assert abs(kurtosis - 3) < 5 * (24 / weight.numel()) ** 0.5, f"{name}: not normal"
        assert not layer.bias.detach().any(), name
        matrix = weight.flatten(1)
        sigma = layer.u.dot(matrix.mv(layer.v)) / torch.linalg.matrix_norm(matrix, 2)
        assert 0.9 < sigma < 1.0001, name
        assert layer.u.norm().item() == pytest.approx(1) and layer.v.norm().item() == pytest.approx(1), name
