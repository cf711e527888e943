"""The multi-scale discriminator (article, section Discriminator)."""

from torch import Tensor, nn
from torch.nn import functional as F

from psfr.networks.blocks import REGIONS, SLOPE, PoolingConv2d, SpectralConv2d, instance_norm, padded, with_regions

MAX_CHANNELS = 1024


class ScaleDiscriminator(nn.Module):
    """A type-1 layer, then type-2 layers that halve the map, then the score."""

    def __init__(self, input_channels: int, base_channels: int, layers: int):
        super().__init__()
        channels = [min(base_channels * 2**i, MAX_CHANNELS) for i in range(layers + 1)]
        self.layers = nn.ModuleList([SpectralConv2d(input_channels, channels[0], padding=0)])
        for narrow, wide in zip(channels[:-1], channels[1:], strict=True):
            self.layers.append(PoolingConv2d(narrow, wide))
        self.score = SpectralConv2d(channels[-1], 1, padding=0)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        features = [F.leaky_relu(self.layers[0](padded(x, "reflect")), SLOPE, inplace=True)]
        for layer in self.layers[1:]:
            features.append(F.leaky_relu(instance_norm(layer(features[-1])), SLOPE))
        return self.score(features[-1]), features


class Discriminator(nn.Module):
    """The same discriminator at several scales; each further one sees the input averaged to half the size.

    Images must be at least 3 * 2 ** (scales - 1 + layers) pixels a side: 192 at the published sizes.
    """

    def __init__(self, scales: int = 3, layers: int = 4, base_channels: int = 64, input_channels: int = 3 + REGIONS):
        super().__init__()
        self.scales = nn.ModuleList([ScaleDiscriminator(input_channels, base_channels, layers) for _ in range(scales)])

    def forward(self, image: Tensor, labels: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        """Image (B, 3, H, W) and labels of the high-quality image, int64 (B, H, W), to a score map and the features of each scale."""
        x = with_regions(image, labels)
        results = []
        for i, scale in enumerate(self.scales):
            if i:
                x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
            results.append(scale(x))
        return results
