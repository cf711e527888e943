"""The networks compute what the published ones do, and the joined layers what the plain ones do."""

from pathlib import Path
from unittest import mock

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional as F

from psfr.training import reference
from psfr.networks.blocks import (  # fmt: skip
    DoublingConv2d,
    PoolingConv2d,
    SpectralConv2d,
    SpectralKernel,
    doubled_kernel,
    instance_norm,
    kernels,
    one_hot,
    pooling_taps,
    power_iteration,
)
from psfr.networks.discriminator import Discriminator
from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.generator import Generator
from psfr.networks.inference import fusion
from psfr.networks.inference.fusion import fold
from psfr.networks.serialization import from_published
from psfr.networks.vgg import VggFeatures
from psfr.training import losses

FIXTURES = Path(__file__).parents[1] / "fixtures"
PARITY = 1e-4


def recorded(name: str) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, str]]:
    """Weights, other tensors and sizes of a fixture."""
    with safe_open(FIXTURES / f"{name}.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        sizes = file.metadata() or {}
    weights = {key.removeprefix("weights/"): value for key, value in tensors.items() if key.startswith("weights/")}
    return weights, {key: value for key, value in tensors.items() if not key.startswith("weights/")}, sizes


def error(found: Tensor, wanted: Tensor) -> float:
    return (found - wanted).abs().max().item()


def relative(found: Tensor, wanted: Tensor) -> float:
    return ((found - wanted).norm() / wanted.norm()).item()


def published(kind: str) -> tuple[torch.nn.Module, dict[str, Tensor]]:
    weights, tensors, sizes = recorded(kind)
    return from_published(kind, weights, **sizes), tensors


def channels_last(network: torch.nn.Module) -> torch.nn.Module:
    return network.to(memory_format=torch.channels_last)


def folded(network: torch.nn.Module) -> torch.nn.Module:
    return fold(network, torch.float32)


def folded_without_onednn(network: torch.nn.Module) -> torch.nn.Module:
    """As on a GPU."""
    with mock.patch.object(fusion, "onednn", lambda kernel: False):
        return folded(network)


# The ways in which stages run the networks: as they are, with fixed weights, with kernels shared by several passes.
WAYS = [lambda network: network, channels_last, folded, folded_without_onednn]


@pytest.mark.parametrize("way", WAYS)
def test_fpn_is_the_published_one(way):
    network, numbers = published("fpn")
    network = way(network)
    logits, restored = network(numbers["image"])
    assert error(logits, numbers["mask_logits"]) < PARITY
    assert error(restored, numbers["restored"]) < PARITY
    assert torch.equal(network.regions(numbers["image"]), logits.argmax(1))


@pytest.mark.parametrize("way", WAYS)
def test_generator_is_the_published_one(way):
    network, numbers = published("generator")
    network = way(network)
    assert error(network(numbers["image"], numbers["labels"]), numbers["restored"]) < PARITY
    with kernels(network, torch.float32):
        assert error(network(numbers["image"], numbers["labels"]), numbers["restored"]) < PARITY


def test_discriminator_and_its_losses_are_the_published_ones():
    network, numbers = published("discriminator")
    restored = numbers["restored"].requires_grad_()
    with kernels(network, torch.float32):
        real, fake = network(numbers["high"], numbers["labels"]), network(restored, numbers["labels"])
    for scale, (score, features) in enumerate(real):
        assert error(score, numbers[f"real/{scale}/score"]) < PARITY
        for layer, feature in enumerate(features):
            assert error(feature, numbers[f"real/{scale}/feature/{layer}"]) < PARITY
    fm, gen = losses.feature_matching_loss(fake, real), losses.hinge_generator_loss(fake)
    pix, disc = losses.pixel_loss(restored, numbers["high"]), losses.hinge_discriminator_loss(real, fake)
    for found, name in [(fm, "feature_matching"), (gen, "generator"), (pix, "pixel"), (disc, "discriminator")]:
        assert relative(found, numbers[f"{name}_loss"]) < PARITY
    (gradient,) = torch.autograd.grad(10 * fm + gen + 10 * pix, restored)
    assert relative(gradient, numbers["gradient_of_10fm_plus_gen_plus_10pix_wrt_restored"]) < PARITY


def test_style_loss_is_the_published_one():
    _, numbers, _ = recorded("style_loss")
    restored = [numbers[f"restored_feature/{i}"].requires_grad_() for i in range(3)]
    loss = losses.semantic_style_loss(restored, [numbers[f"high_feature/{i}"] for i in range(3)], numbers["labels"])
    assert relative(loss, numbers["style_loss"]) < PARITY
    for i, gradient in enumerate(torch.autograd.grad(loss, restored)):
        assert relative(gradient, numbers[f"gradient/{i}"]) < PARITY


@pytest.mark.parametrize(
    ("network", "shapes"),
    [
        (
            Generator,
            {"constant": (1, 1024, 16, 16), "stages.5.conv.weight": (32, 64, 3, 3), "to_image.weight": (3, 32, 3, 3)},
        ),
        (
            FaceParsingNetwork,
            {"encoder.4.conv2.conv.weight": (256, 256, 3, 3), "body.9.conv1.conv.weight": (256, 256, 3, 3)},
        ),
        (Discriminator, {"scales.2.layers.4.weight": (1024, 512, 3, 3), "scales.2.score.weight": (1, 1024, 3, 3)}),
    ],
)
def test_the_defaults_are_the_published_sizes(network, shapes):
    with torch.device("meta"):
        weights = network().state_dict()
    assert {name: tuple(weights[name].shape) for name in shapes} == shapes


def doubles(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("padding", ["constant", "reflect"])
def test_doubling_and_convolution_are_one_transposed_convolution(padding):
    x, weight, bias = doubles(2, 5, 7, 6), doubles(4, 5, 3, 3), doubles(4)
    wanted = reference.doubled_convolution(x, weight, bias, padding)
    if padding == "constant":
        found = F.conv_transpose2d(x, doubled_kernel(weight), bias, stride=2, padding=1)
    else:
        found = F.conv_transpose2d(
            F.pad(x, (1, 1, 1, 1), "replicate"), doubled_kernel(weight), bias, stride=2, padding=3
        )
    assert error(found, wanted) < 1e-12
    for ours, theirs in zip(
        reference.gradients(found, x, weight, bias), reference.gradients(wanted, x, weight, bias), strict=True
    ):
        assert error(ours, theirs) < 1e-11


def test_convolution_and_pooling_are_one_convolution():
    x, weight, bias = doubles(2, 5, 8, 6), doubles(4, 5, 3, 3), doubles(4)
    wanted = reference.pooled_convolution(x, weight, bias)
    found = F.conv2d(
        F.pad(x, (1, 1, 1, 1), "reflect"),
        (weight.flatten(2) @ pooling_taps(weight)).unflatten(2, (4, 4)),
        bias,
        stride=2,
    )
    assert error(found, wanted) < 1e-12
    for ours, theirs in zip(
        reference.gradients(found, x, weight, bias), reference.gradients(wanted, x, weight, bias), strict=True
    ):
        assert error(ours, theirs) < 1e-11


def test_instance_norm_and_its_gradient():
    x = doubles(2, 3, 5, 6)
    wanted, found = F.instance_norm(x), instance_norm(x)
    assert error(found, wanted) < 1e-12
    assert error(*reference.gradients(found, x), *reference.gradients(wanted, x)) < 1e-12


@pytest.mark.parametrize("taps", [None, torch.randn(9, 16, dtype=torch.float64)])
def test_spectral_kernel_and_its_gradient(taps):
    weight, u, v = doubles(4, 5, 3, 3), torch.randn(4, dtype=torch.float64), torch.randn(45, dtype=torch.float64)
    divided = weight / u.dot(weight.flatten(1).mv(v))
    wanted = divided if taps is None else divided.flatten(2) @ taps
    found = SpectralKernel.apply(weight, u, v, taps)
    assert error(found, wanted) < 1e-12
    assert error(*reference.gradients(found, weight), *reference.gradients(wanted, weight)) < 1e-10


def small(network: str) -> tuple[torch.nn.Module, tuple[Tensor, ...]]:
    """A small network in float64, and what it reads."""
    torch.manual_seed(0)
    image, labels = torch.rand(2, 3, 32, 32, dtype=torch.float64) * 2 - 1, torch.randint(0, 19, (2, 32, 32))
    match network:
        case "generator":
            return Generator(32, 8, 4, 8).double(), (image, labels)
        case "discriminator":
            return Discriminator(2, 2, 4).double(), (image, labels)
        case _:
            return FaceParsingNetwork(32, 8, 4, 4, 8, 2).double(), (image,)


def flat(output) -> Tensor:
    """All the tensors of an output, one after the other."""
    return output.flatten() if isinstance(output, Tensor) else torch.cat([flat(part) for part in output])


@pytest.mark.parametrize("name", ["generator", "discriminator", "fpn"])
def test_networks_equal_their_plain_form(name):
    network, given = small(name)
    parameters = list(network.parameters())
    with reference.layers():
        wanted = flat(network(*given))
        wanted_gradients = reference.gradients(wanted, *parameters)
    found = flat(network(*given))
    assert error(found, wanted) < 1e-10
    for ours, theirs in zip(reference.gradients(found, *parameters), wanted_gradients, strict=True):
        assert error(ours, theirs) < 1e-8


@pytest.mark.parametrize("name", ["generator", "discriminator", "fpn"])
def test_shared_kernels_give_the_gradients_of_two_passes(name):
    network, given = small(name)
    other = tuple(value.flip(2) for value in given)
    (flat(network(*given)).square().sum() + flat(network(*other)).sum()).backward()
    wanted = [parameter.grad for parameter in network.parameters()]
    network.zero_grad(set_to_none=True)
    with kernels(network, torch.float64):
        flat(network(*given)).square().sum().backward()
        flat(network(*other)).sum().backward()
    for parameter, gradient in zip(network.parameters(), wanted, strict=True):
        assert error(parameter.grad, gradient) <= 1e-9 * max(1, gradient.abs().max())


@pytest.mark.parametrize("name", ["generator", "fpn"])
def test_folded_networks_equal_their_plain_form(name):
    network, given = small(name)
    network.train()
    network(*given)  # batch norm gets statistics
    network.eval()
    with reference.layers():
        wanted = flat(network(*given))
    assert error(flat(fold(network, torch.float64)(*given)), wanted) < 1e-10


@pytest.mark.parametrize("layer", [SpectralConv2d, DoublingConv2d, PoolingConv2d])
def test_spectral_norm_makes_the_largest_singular_value_one(layer):
    torch.manual_seed(0)
    conv = layer(6, 8)
    conv.power_iteration(200)
    assert torch.linalg.matrix_norm(conv.kernel().flatten(1), 2).item() == pytest.approx(1, abs=1e-4)
    before = conv.u.clone()
    conv(torch.randn(1, 6, 8, 8))
    assert torch.equal(conv.u, before), "a pass alone changes no state"


def test_power_iteration_reaches_every_layer():
    torch.manual_seed(0)
    network = Generator(32, 16, 4, 8)
    before = {name: value.clone() for name, value in network.named_buffers()}
    for parameter in network.parameters():
        parameter.data.normal_()
    power_iteration(network)
    assert all(not torch.equal(value, before[name]) for name, value in network.named_buffers() if value.numel() > 1)


def test_one_hot_planes():
    labels = torch.randint(0, 19, (2, 4, 5))
    assert torch.equal(one_hot(labels).argmax(1), labels)
    assert torch.equal(one_hot(labels).sum(1), torch.ones(2, 4, 5))


def torchvision_vgg(network: str):
    from psfr.utils.compat import before_torchvision

    before_torchvision()
    from torchvision import models

    torch.manual_seed(0)
    return getattr(models, network)(weights=None).features


def test_vgg19_features_are_the_published_modules():
    features = torchvision_vgg("vgg19")
    vgg = VggFeatures("vgg19", min_size=224)
    vgg.load_trunk({f"features.{name}": value for name, value in features.state_dict().items()})
    image = torch.rand(1, 3, 96, 96) * 2 - 1
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    x = F.interpolate(((image + 1) / 2 - mean) / std, (224, 224), mode="bilinear")
    wanted = []
    # Modules end at layers 2, 7, 16, 25 and 34; the next one's ReLU works in place on what was kept.
    for index, layer in enumerate(features[:35]):
        x = layer(x)
        if index in (17, 26, 34):
            wanted.append(x.clone())
    for found, want in zip(vgg(image), wanted, strict=True):
        assert found.shape == want.shape
        assert error(found, want) < 1e-4 * want.abs().max()


def test_vgg_refuses_another_trunk():
    trunk = {f"features.{name}": value for name, value in torchvision_vgg("vgg16").state_dict().items()}
    with pytest.raises(ValueError, match="16 convolutions"):
        VggFeatures("vgg19").load_trunk(trunk)
    for name, value in [
        ("features.0.bias", torch.zeros(3)),
        ("features.0.weight", torch.zeros(3)),
        ("features.x.weight", torch.zeros(3)),
    ]:
        with pytest.raises(ValueError):
            VggFeatures("vgg16").load_trunk(trunk | {name: value})
    del trunk["features.0.bias"]
    with pytest.raises(ValueError, match="13 convolutions"):
        VggFeatures("vgg16").load_trunk(trunk)
