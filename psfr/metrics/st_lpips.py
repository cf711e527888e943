"""Networks of ST-LPIPS, the shift-tolerant perceptual distance (Ghildyal and Liu, ECCV 2022).

Written here because the authors' package imports torchvision, which takes as long to load as PyTorch itself.
"""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from psfr.pretrained import loader, metric_files
from psfr.utils.errors import UserError

FILES = {"alex": metric_files.STLPIPS_ALEXNET, "vgg": metric_files.STLPIPS_VGG16}
CHANNELS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}  # of the features
VGG16_CONVS = (2, 2, 3, 3, 3)  # of each slice
EPSILON = 1e-10  # added to the norm of a pixel's features


def load_network(weights_dir: Path, net: Literal["alex", "vgg"]) -> "StLpips":
    """Load ST-LPIPS. Called on two batches (B, 3, H, W) in [-1, 1], it returns distances (B, 1, 1, 1).

    The metric uses AlexNet ("alex"), because VGG16 ("vgg") is the backbone of the style loss: a network that is
    trained against must not measure the result.

    Raises:
        UserError: the file is missing, damaged, or belongs to another network.
    """
    path = Path(weights_dir) / FILES[net]
    with torch.device("meta"):  # skips the random initialization
        model = StLpips(net)
    try:
        model.load_state_dict(loader.load(path), assign=True)
    except RuntimeError:  # other names or shapes
        raise UserError(f"{path}: not the weights of ST-LPIPS with {net}: run `dvc repro fetch_weights`") from None
    return model.eval().requires_grad_(False)


def deepest_features(network: "StLpips", image: Tensor) -> Tensor:
    """Return the deepest features of the network's backbone, averaged over space.

    VGG16's are those of relu5_3, AlexNet's those of relu5, both with anti-aliased pooling.

    Args:
        network: the result of `load_network`.
        image: (B, 3, H, W) in [-1, 1].

    Returns:
        (B, 512) of VGG16, (B, 256) of AlexNet.
    """
    return network.features(image)[-1].mean((2, 3))


class StLpips(nn.Module):
    """ST-LPIPS with AlexNet ("alex") or VGG16 ("vgg"); its parameters are named as in the published files."""

    def __init__(self, net: str):
        super().__init__()
        self.scaling_layer = _Scaling()
        self.net = nn.Sequential()
        index = 0  # the published names count the layers over all slices
        for number, layers in enumerate(_alexnet_slices() if net == "alex" else _vgg16_slices(), 1):
            part = nn.Sequential()
            for layer in layers:
                part.add_module(str(index), layer)
                index += 1
            self.net.add_module(f"slice{number}", part)
        for number, channels in enumerate(CHANNELS[net]):
            self.add_module(f"lin{number}", _ChannelWeights(channels))

    def features(self, image: Tensor) -> list[Tensor]:
        """Return the features (B, C, h, w) of each slice for images (B, 3, H, W) in [-1, 1]."""
        features, x = [], self.scaling_layer(image)
        for part in self.net:
            x = part(x)
            features.append(x)
        return features

    def forward(self, restored: Tensor, hq: Tensor) -> Tensor:
        """Return the distance of each pair, (B, 1, 1, 1); images (B, 3, H, W) in [-1, 1]."""
        distances = []
        for number, (a, b) in enumerate(zip(self.features(restored), self.features(hq), strict=True)):
            difference = (_normalize(a) - _normalize(b)) ** 2
            distances.append(self.get_submodule(f"lin{number}")(difference).mean((2, 3), keepdim=True))
        return sum(distances[1:], distances[0])


def _normalize(features: Tensor) -> Tensor:
    """Divide each pixel's features by their Euclidean norm."""
    return features / ((features**2).sum(1, keepdim=True).sqrt() + EPSILON)


class _Scaling(nn.Module):
    """Normalization of images, by constants that the published files hold."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.empty(1, 3, 1, 1))
        self.register_buffer("scale", torch.empty(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return (image - self.shift) / self.scale


class _ChannelWeights(nn.Module):
    """Weighted sum over the channels."""

    def __init__(self, channels: int):
        super().__init__()
        # The first layer is the dropout of the training.
        self.model = nn.Sequential(nn.Identity(), nn.Conv2d(channels, 1, 1, bias=False))

    def forward(self, difference: Tensor) -> Tensor:
        return self.model(difference)


class _BlurPool(nn.Module):
    """Anti-aliased subsampling by 2, with the filter that the published files hold."""

    filt: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("filt", torch.empty(channels, 1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), self.filt, stride=2, groups=len(self.filt))


def _alexnet_slices() -> list[list[nn.Module]]:
    c1, c2, c3, c4, c5 = CHANNELS["alex"]
    return [
        [nn.Conv2d(3, c1, 11, padding=2), _BlurPool(c1), nn.ReLU()],
        [nn.MaxPool2d(3, 1), _BlurPool(c1), nn.Conv2d(c1, c2, 5, padding=2), nn.ReLU()],
        [nn.MaxPool2d(3, 1), _BlurPool(c2), nn.Conv2d(c2, c3, 3, padding=1), nn.ReLU()],
        [nn.Conv2d(c3, c4, 3, padding=1), nn.ReLU()],
        [nn.Conv2d(c4, c5, 3, padding=1), nn.ReLU()],
    ]


def _vgg16_slices() -> list[list[nn.Module]]:
    slices: list[list[nn.Module]] = []
    in_channels = 3
    for num_convs, channels in zip(VGG16_CONVS, CHANNELS["vgg"], strict=True):
        layers: list[nn.Module] = [nn.MaxPool2d(2, 1), _BlurPool(in_channels)] if slices else []
        for _ in range(num_convs):
            layers += [nn.Conv2d(in_channels, channels, 3, padding=1), nn.ReLU(inplace=True)]
            in_channels = channels
        slices.append(layers)
    return slices
