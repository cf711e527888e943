"""Fused networks equal the networks that they were made from, and each fused layer the layers that it replaces."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.generator import Generator
from psfr.networks.inference import conv
from psfr.networks.inference.conv import (
    FusedConv2d,
    compose_kernels,
)
from psfr.networks.inference.fpn import FusedConvPair
from psfr.networks.inference.fuse import fuse
from psfr.training import reference
from tests.helpers.networks import GENERATORS, flatten, max_error, randn64, relative_error, small_network


def small_parser(size: int = 32) -> FaceParsingNetwork:
    """Return a small parsing network in float64 and evaluation mode, with batch norm statistics of random images."""
    torch.manual_seed(0)
    network = FaceParsingNetwork(size, 8, 4, 4, 8, 2).double().train()
    network(randn64(2, 3, size, size))
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("has_bias", [(True, True), (True, False), (False, True)])
def test_composed_kernel_equals_two_convolutions(has_bias):
    x, first_kernel, second_kernel = randn64(2, 3, 9, 8), randn64(5, 3, 3, 3), randn64(4, 5, 3, 3)
    first = first_kernel, randn64(5) if has_bias[0] else None
    second = second_kernel, randn64(4) if has_bias[1] else None
    assert max_error(F.conv2d(x, *compose_kernels(first, second)), F.conv2d(F.conv2d(x, *first), *second)) < 1e-11


@pytest.mark.parametrize("layer", ["shortcut", "conv1"])
@pytest.mark.parametrize("size", [(16, 12), (15, 11)])
def test_fused_pair_equals_the_two_layers_including_the_border(layer, size):
    network = small_parser()
    first, second = network.encoder[0], getattr(network.encoder[1], layer)
    x = randn64(2, 3, *size)
    assert max_error(FusedConvPair(first, second, torch.float64)(x), second(first(x))) < 1e-12


def test_parsing_map_is_the_argmax_of_the_logits():
    network, image = small_parser(64), randn64(2, 3, 64, 64)
    with reference.plain_forward():
        expected = network(image)[0].argmax(1)
    assert len(expected.unique()) > 5
    assert torch.equal(fuse(network, torch.float64).predict_seg(image), expected)


def test_a_network_without_downsampling_can_be_fused():
    torch.manual_seed(0)
    network = FaceParsingNetwork(16, 16, 4, 4, 8, 1).double().eval().requires_grad_(False)
    image = randn64(1, 3, 16, 16)
    fused = fuse(network, torch.float64)
    assert max_error(fused(image)[0], network(image)[0]) < 1e-12
    assert torch.equal(fused.predict_seg(image), network.predict_seg(image))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("activation", "padding", "replicate"), [(False, 1, False), (True, 1, False), (True, 3, True)])
def test_mkldnn_convolutions_equal_those_of_torch(
    monkeypatch, dtype, tolerance, transposed, activation, padding, replicate
):
    torch.manual_seed(0)
    kernel, bias = torch.randn(16, 16, 4, 4) / 16, torch.randn(16)
    options = {"stride": 2, "padding": padding, "replicate": replicate}
    options |= {"transposed": transposed, "activation": activation}
    packed = FusedConv2d(kernel, bias, dtype, **options)
    monkeypatch.setattr(conv, "mkldnn_supported", lambda kernel: False)
    native = FusedConv2d(kernel, bias, dtype, **options)
    assert not native.use_mkldnn
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("oneDNN has no bfloat16 convolutions on this CPU")
    assert packed.use_mkldnn, "the installed torch has oneDNN"
    exact = FusedConv2d(kernel, bias, torch.float64, **options)
    for shape in [(1, 16, 12, 10), (3, 16, 8, 6)]:  # the kernel is packed for the first shape and used for both
        x = torch.randn(shape).contiguous(memory_format=torch.channels_last)
        expected = exact(x.double())
        for layer in (packed, native):
            assert max_error(layer(x.to(dtype)).double(), expected) < tolerance * expected.abs().max()


@pytest.mark.parametrize("name", [*GENERATORS, "fpn"])
def test_fused_networks_equal_the_reference_implementation(name):
    network, inputs = small_network(name)
    network.train()
    network(*inputs)  # sets the statistics of batch norm
    network.eval()
    with reference.plain_forward():
        expected = flatten(network(*inputs))
    assert max_error(flatten(fuse(network, torch.float64)(*inputs)), expected) < 1e-10


def fusible_networks() -> list[tuple[nn.Module, tuple[Tensor, ...]]]:
    image, labels = torch.rand(2, 3, 32, 32) * 2 - 1, torch.randint(0, 19, (2, 32, 32))
    generators = [Generator(32, 8, 4, 16, replicate_padding=own, antialias=own) for own in (False, True)]
    return [(small_parser().float(), (image,)), *((network, (image, labels)) for network in generators)]


def test_fused_networks_copy_the_weights():
    for network, inputs in fusible_networks():
        weights = copy.deepcopy(network.state_dict())
        fused = fuse(network, torch.float32)
        with torch.no_grad():
            expected = fused(*inputs)
            assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
            for parameter in network.parameters():
                parameter.zero_()
            actual = fused(*inputs)
        for output, expected_output in zip(actual, expected, strict=True):
            assert torch.equal(output, expected_output), "the fused network does not see the change"


def test_fused_networks_in_bfloat16_are_close_to_float32():
    for network, inputs in fusible_networks():
        with torch.no_grad():
            expected, actual = network(*inputs), fuse(network, torch.bfloat16)(*inputs)
        for output, expected_output in zip(actual, expected, strict=True):
            assert output.dtype == torch.bfloat16
            assert relative_error(output.float(), expected_output) < 0.05
