"""The networks and losses reproduce numbers that were recorded from the authors' code (docs/parity.md).

PARITY_FIXTURES=DIR tests the files that `python -m tests.record_fixtures AUTHORS_CHECKOUT --out DIR` wrote.
"""

import os
from pathlib import Path
from unittest import mock

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from psfr.networks.inference import conv
from psfr.networks.inference.fuse import fuse
from psfr.networks.kernels import cache_kernels
from psfr.networks.serialization import from_published
from psfr.training import losses
from tests.helpers.networks import max_error, relative_error

FIXTURES = Path(os.environ.get("PARITY_FIXTURES", Path(__file__).parents[1] / "fixtures"))
TOLERANCE = 1e-4


def load_fixture(name: str) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, str]]:
    """Return weights, other tensors and config of a fixture."""
    with safe_open(FIXTURES / f"{name}.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (`file` is no mapping)
        config = file.metadata() or {}
    weights = {key.removeprefix("weights/"): value for key, value in tensors.items() if key.startswith("weights/")}
    return weights, {key: value for key, value in tensors.items() if not key.startswith("weights/")}, config


def load_published(kind: str) -> tuple[nn.Module, dict[str, Tensor]]:
    weights, tensors, config = load_fixture(kind)
    return from_published(kind, weights, **config), tensors


def unchanged(network: nn.Module) -> nn.Module:
    return network


def channels_last(network: nn.Module) -> nn.Module:
    return network.to(memory_format=torch.channels_last)


def fused(network: nn.Module) -> nn.Module:
    return fuse(network, torch.float32)


def fused_without_mkldnn(network: nn.Module) -> nn.Module:
    """Fuse a network with torch's own convolutions, as on a GPU."""
    with mock.patch.object(conv, "mkldnn_supported", lambda kernel: False):
        return fused(network)


# The forms in which the stages run the networks; kernels that several passes share are tested below.
FORMS = [unchanged, channels_last, fused, fused_without_mkldnn]


@pytest.mark.parametrize("form", FORMS)
def test_fpn_matches_the_published_one(form):
    network, recorded = load_published("fpn")
    network = form(network)
    logits, restored = network(recorded["image"])
    assert max_error(logits, recorded["mask_logits"]) < TOLERANCE
    assert max_error(restored, recorded["restored"]) < TOLERANCE
    assert torch.equal(network.predict_seg(recorded["image"]), logits.argmax(1))


@pytest.mark.parametrize("form", FORMS)
def test_generator_matches_the_published_one(form):
    network, recorded = load_published("generator")
    network = form(network)
    assert max_error(network(recorded["image"], recorded["labels"]), recorded["restored"]) < TOLERANCE
    with cache_kernels(network, torch.float32):
        assert max_error(network(recorded["image"], recorded["labels"]), recorded["restored"]) < TOLERANCE


def test_discriminator_and_its_losses_match_the_published_ones():
    network, recorded = load_published("discriminator")
    restored = recorded["restored"].requires_grad_()
    with cache_kernels(network, torch.float32):
        real, fake = network(recorded["high"], recorded["labels"]), network(restored, recorded["labels"])
    for scale, (score, features) in enumerate(real):
        assert max_error(score, recorded[f"real/{scale}/score"]) < TOLERANCE
        for layer, feature in enumerate(features):
            assert max_error(feature, recorded[f"real/{scale}/feature/{layer}"]) < TOLERANCE
    fm, gen = losses.feature_matching_loss(fake, real), losses.hinge_generator_loss(fake)
    pix, disc = losses.pixel_loss(restored, recorded["high"]), losses.hinge_discriminator_loss(real, fake)
    for loss, name in [(fm, "feature_matching"), (gen, "generator"), (pix, "pixel"), (disc, "discriminator")]:
        assert relative_error(loss, recorded[f"{name}_loss"]) < TOLERANCE
    (grad,) = torch.autograd.grad(10 * fm + gen + 10 * pix, restored)
    assert relative_error(grad, recorded["gradient_of_10fm_plus_gen_plus_10pix_wrt_restored"]) < TOLERANCE


def test_style_loss_matches_the_published_one():
    _, recorded, _ = load_fixture("style_loss")
    restored = [recorded[f"restored_feature/{i}"].requires_grad_() for i in range(3)]
    loss = losses.semantic_style_loss(restored, [recorded[f"high_feature/{i}"] for i in range(3)], recorded["labels"])
    assert relative_error(loss, recorded["style_loss"]) < TOLERANCE
    for i, grad in enumerate(torch.autograd.grad(loss, restored)):
        assert relative_error(grad, recorded[f"gradient/{i}"]) < TOLERANCE
