"""Multi-scale discriminator (the reimplementation, section Discriminator)."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from psfr.networks import NUM_CLASSES
from psfr.networks.functional import LEAKY_SLOPE, concat_one_hot, instance_norm, pad
from psfr.networks.spectral_norm import ConvPool2d, SpectralNormConv2d

MAX_CHANNELS = 1024
INIT_STD = 0.02  # standard deviation of every weight at the start


class PatchDiscriminator(nn.Module):
    """Discriminator of one scale: a type-1 layer, type-2 layers that halve the feature map, and a score map."""

    def __init__(self, input_channels: int, base_channels: int, layers: int):
        super().__init__()
        channels = [min(base_channels * 2**i, MAX_CHANNELS) for i in range(layers + 1)]
        self.layers = nn.ModuleList([SpectralNormConv2d(input_channels, channels[0], padding=0)])
        for in_channels, out_channels in pairwise(channels):
            self.layers.append(ConvPool2d(in_channels, out_channels))
        self.score = SpectralNormConv2d(channels[-1], 1, padding=0)

    def forward(self, x: Tensor, twice_differentiable: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Return the score map and the features of each layer for the input (B, 22, H, W)."""
        norm = F.instance_norm if twice_differentiable else instance_norm
        features = [F.leaky_relu(self.layers[0](pad(x, "reflect")), LEAKY_SLOPE, inplace=True)]
        for layer in self.layers[1:]:
            features.append(F.leaky_relu(norm(layer(features[-1])), LEAKY_SLOPE))
        return self.score(features[-1]), features


class Discriminator(nn.Module):
    """Patch discriminators of one architecture at several scales, each on the input average-pooled to half the size.

    It starts as published: every weight from N(0, 0.02^2), every bias zero.

    Images must have a side of at least 3 * 2 ** (scales - 1 + layers) pixels: 192 at the published sizes.

    Args:
        scales: number of scales.
        layers: number of type-2 layers.
        base_channels: channels of the type-1 layer; each type-2 layer doubles them, up to 1024.
        input_channels: channels of the image and the one-hot planes of its parsing map.
    """

    def __init__(
        self, scales: int = 3, layers: int = 4, base_channels: int = 64, input_channels: int = 3 + NUM_CLASSES
    ):
        super().__init__()
        self.scales = nn.ModuleList([PatchDiscriminator(input_channels, base_channels, layers) for _ in range(scales)])
        for module in self.modules():
            if isinstance(module, SpectralNormConv2d):
                module.init_normal(INIT_STD)

    def forward(
        self, image: Tensor, labels: Tensor, twice_differentiable: bool = False
    ) -> list[tuple[Tensor, list[Tensor]]]:
        """Score an image at each scale.

        Args:
            image: high-quality or restored image, float (B, 3, H, W) in [-1, 1].
            labels: parsing map of the high-quality image, int64 (B, H, W).
            twice_differentiable: whether a gradient of the gradient is needed; then torch's slower kernels normalize.

        Returns:
            For each scale the score map (B, 1, h, w) and the list of the layers' feature maps.
        """
        x = concat_one_hot(image, labels)
        results = []
        for i, scale in enumerate(self.scales):
            if i > 0:
                x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
            results.append(scale(x, twice_differentiable))
        return results
