"""Networks with fixed weights compute what the plain ones do: each joined form beside the layers it stands for."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from psfr.training import reference
from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.generator import Generator
from psfr.networks.inference import fusion
from psfr.networks.inference.fpn import Joined, LabelHead, Layer, Residual
from psfr.networks.inference.fusion import Convolution, composed, doubled_pixels, fold, four_pixels


def doubles(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def error(found: Tensor, wanted: Tensor) -> float:
    return (found - wanted).abs().max().item()


def spread(four: Tensor) -> Tensor:
    """2x2 pixels as channels, (B, 4 * C, H, W), as the map (B, C, 2H, 2W)."""
    return F.pixel_shuffle(four.unflatten(1, (4, -1)).transpose(1, 2).flatten(1, 2), 2)


def parser(size: int = 32) -> FaceParsingNetwork:
    """A small network in evaluation mode, float64, whose batch norms have seen images."""
    torch.manual_seed(0)
    network = FaceParsingNetwork(size, 8, 4, 4, 8, 2).double().train()
    network(doubles(2, 3, size, size))
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("biases", [(True, True), (True, False), (False, True)])
def test_two_convolutions_are_one(biases):
    x, first, second = doubles(2, 3, 9, 8), (doubles(5, 3, 3, 3), doubles(5)), (doubles(4, 5, 3, 3), doubles(4))
    first, second = (
        (kernel, bias if biased else None) for (kernel, bias), biased in zip((first, second), biases, strict=True)
    )
    assert error(F.conv2d(x, *composed(first, second)), F.conv2d(F.conv2d(x, *first), *second)) < 1e-11


def test_four_pixels_at_once():
    x, kernel = doubles(2, 5, 10, 8), doubles(3, 5, 5, 5)
    assert error(spread(F.conv2d(x, four_pixels(kernel), stride=2)), F.conv2d(x, kernel)) < 1e-12


def test_doubling_and_a_wide_convolution_are_one_of_the_small_map():
    x, kernel = doubles(2, 5, 6, 7), doubles(3, 5, 5, 5)
    wanted = F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), kernel, padding=2)
    assert error(spread(F.conv2d(x, doubled_pixels(kernel), padding=1)), wanted) < 1e-12


@pytest.mark.parametrize("block", ["shortcut", "conv1"])
@pytest.mark.parametrize("size", [(16, 12), (15, 11)])
def test_joined_layers_are_the_two_layers_up_to_the_edge(block, size):
    network = parser()
    first, second = network.encoder[0], getattr(network.encoder[1], block)
    x = doubles(2, 3, *size)
    assert error(Joined(first, second, torch.float64)(x), second(first(x))) < 1e-12


def test_label_head_is_the_block_and_the_layer_up_to_the_edge():
    network = parser()
    block, x = network.decoder[-1], doubles(3, 8, 8, 6)
    head = LabelHead(
        block, network.to_labels, Residual(block, torch.float64), Layer(network.to_labels, torch.float64), torch.float64
    )
    with reference.layers():
        wanted = network.to_labels(block(x)).argmax(1)
    assert torch.equal(head(x), wanted)


@pytest.mark.parametrize("joined", [True, False])
def test_regions_are_the_largest_logits(monkeypatch, joined):
    monkeypatch.setattr(LabelHead, "saves", lambda *_: joined)
    network, image = parser(64), doubles(2, 3, 64, 64)
    with reference.layers():
        wanted = network(image)[0].argmax(1)
    assert len(wanted.unique()) > 5
    assert torch.equal(fold(network, torch.float64).regions(image), wanted)


def test_the_label_head_is_joined_where_that_saves_products():
    for channels, saves in ((64, True), (16, False)):
        with torch.device("meta"):
            network = FaceParsingNetwork(base_channels=channels, min_channels=min(32, channels))
        assert LabelHead.saves(network.decoder[-1], network.to_labels) == saves


def test_a_network_without_halvings_is_folded_too():
    torch.manual_seed(0)
    network = FaceParsingNetwork(16, 16, 4, 4, 8, 1).double().eval().requires_grad_(False)
    image = doubles(1, 3, 16, 16)
    folded = fold(network, torch.float64)
    assert error(folded(image)[0], network(image)[0]) < 1e-12
    assert torch.equal(folded.regions(image), network.regions(image))


@pytest.mark.parametrize(("precision", "most"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("activation", [False, True])
def test_packed_convolutions_are_the_plain_ones(monkeypatch, precision, most, transposed, activation):
    torch.manual_seed(0)
    kernel, bias = torch.randn(16, 16, 4, 4) / 16, torch.randn(16)
    options = {"stride": 2, "padding": 1, "transposed": transposed, "activation": activation}
    packed = Convolution(kernel, bias, precision, **options)
    monkeypatch.setattr(fusion, "onednn", lambda kernel: False)
    native = Convolution(kernel, bias, precision, **options)
    assert packed.packs and not native.packs, "this machine's torch has oneDNN"
    wanted = Convolution(kernel, bias, torch.float64, **options)
    for shape in [(1, 16, 12, 10), (3, 16, 8, 6)]:  # packed for the first, used for both
        x = torch.randn(shape).contiguous(memory_format=torch.channels_last)
        exact = wanted(x.double())
        for form in (packed, native):
            assert error(form(x.to(precision)).double(), exact) < most * exact.abs().max()


def both() -> list[tuple[nn.Module, tuple[Tensor, ...]]]:
    image, labels = torch.rand(2, 3, 32, 32) * 2 - 1, torch.randint(0, 19, (2, 32, 32))
    return [(parser().float(), (image,)), (Generator(32, 8, 4, 16), (image, labels))]


def test_folding_leaves_the_network_as_it_is():
    for network, given in both():
        before = copy.deepcopy(network.state_dict())
        folded = fold(network, torch.float32)
        with torch.no_grad():
            wanted = folded(*given)
            assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
            for parameter in network.parameters():
                parameter.zero_()
            found = folded(*given)
        for one, other in zip(wanted, found, strict=True):
            assert torch.equal(one, other), "it keeps copies"


def test_folded_networks_in_bf16_follow_float32():
    for network, given in both():
        with torch.no_grad():
            wanted, found = network(*given), fold(network, torch.bfloat16)(*given)
        for one, other in zip(wanted, found, strict=True):
            assert other.dtype == torch.bfloat16
            assert ((other.float() - one).norm() / one.norm()).item() < 0.05
