"""VGG features equal those of torchvision's networks at the published layers."""

import pytest
import torch
from torch.nn import functional as F

from psfr.networks.vgg import VggFeatures
from tests.helpers.networks import max_error


def torchvision_features(network: str) -> torch.nn.Sequential:
    from psfr.utils.compat import patch_torchvision

    patch_torchvision()
    from torchvision import models

    torch.manual_seed(0)
    return getattr(models, network)(weights=None).features


@pytest.mark.heavy
def test_vgg19_features_are_the_published_ones():
    layers = torchvision_features("vgg19")
    vgg = VggFeatures("vgg19", min_size=224)
    vgg.load_backbone({f"features.{name}": value for name, value in layers.state_dict().items()})
    image = torch.rand(1, 3, 96, 96) * 2 - 1
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    x = F.interpolate(((image + 1) / 2 - mean) / std, (224, 224), mode="bilinear")
    expected = []
    # The stages end at layers 2, 7, 16, 25 and 34; the ReLU of the next stage works in place on their output.
    for index, layer in enumerate(layers[:35]):
        x = layer(x)
        if index in (17, 26, 34):
            expected.append(x.clone())
    for actual, feature in zip(vgg(image), expected, strict=True):
        assert actual.shape == feature.shape
        assert max_error(actual, feature) < 1e-4 * feature.abs().max()


def test_normalized_features_have_the_same_size_whatever_the_weights():
    torch.manual_seed(0)
    vgg = VggFeatures("vgg16", min_size=32, scale=3, normalize=True)
    for conv in vgg.modules():
        if isinstance(conv, torch.nn.Conv2d) and conv.bias is not None:
            torch.nn.init.kaiming_normal_(conv.weight)
            conv.bias.zero_()  # the features are then proportional to the weights of a layer
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    expected = vgg(image)
    for feature in expected:
        rms = feature.square().mean(1).sqrt()
        assert torch.allclose(rms, torch.full_like(rms, 3), rtol=1e-3)
    list(vgg.stages[4])[-1].weight *= 10
    for actual, feature in zip(vgg(image), expected, strict=True):
        assert max_error(actual, feature) < 1e-3


def test_normalized_features_of_zeros_have_a_finite_gradient():
    vgg = VggFeatures("vgg16", min_size=32, normalize=True)
    for parameter in vgg.parameters():
        parameter.zero_()
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    sum(feature.sum() for feature in vgg(image)).backward()
    assert image.grad.isfinite().all()


@pytest.mark.heavy
def test_weights_of_another_network_are_refused():
    weights = {f"features.{name}": value for name, value in torchvision_features("vgg16").state_dict().items()}
    with pytest.raises(ValueError, match="16 convolutions"):
        VggFeatures("vgg19").load_backbone(weights)
    for name, value in [
        ("features.0.bias", torch.zeros(3)),
        ("features.0.weight", torch.zeros(3)),
        ("features.x.weight", torch.zeros(3)),
    ]:
        with pytest.raises(ValueError):
            VggFeatures("vgg16").load_backbone(weights | {name: value})
    del weights["features.0.bias"]
    with pytest.raises(ValueError, match="13 convolutions"):
        VggFeatures("vgg16").load_backbone(weights)
