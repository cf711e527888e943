"""VGG features for the semantic-aware style loss (the reimplementation, section Semantic-Aware Style Loss)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Number of convolutions of each stage. A stage ends before the ReLU that the next one begins with, as in the published
# model.
NUM_CONVS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
CHANNELS = (64, 128, 256, 512, 512)
EPSILON = 1e-10  # added to the mean square of a pixel's features


class VggFeatures(nn.Module):
    """Features of the last stages of VGG's five.

    In the published model the ReLU after a stage's last convolution belongs to the next stage and works in place. So
    the features of the first four stages are taken after that ReLU, and those of the fifth without it.

    Args:
        network: "vgg16" or "vgg19".
        min_size: narrower images are first resized to min_size x min_size pixels, bilinearly (224 in the published
            model).
        scale: factor of the features (1 in the published model).
        normalize: whether each pixel's features are first divided by their root mean square over the channels, as
            (ST-)LPIPS normalizes them. Their size then depends neither on the backbone nor on the stage.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: str = "vgg19", min_size: int = 224, scale: float = 1, normalize: bool = False):
        super().__init__()
        self.min_size = min_size
        self.feature_scale, self.normalize = scale, normalize
        self.stages = nn.ModuleList()
        in_channels = 3
        for num_convs, channels in zip(NUM_CONVS[network], CHANNELS, strict=True):
            stage = nn.ModuleList()
            for _ in range(num_convs):
                stage.append(nn.Conv2d(in_channels, channels, 3, padding=1))
                in_channels = channels
            self.stages.append(stage)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def load_backbone(self, state_dict: Mapping[str, Tensor]) -> None:
        """Load trained weights.

        Args:
            state_dict: weights of torchvision's VGG (`features.N.weight`) or of ST-LPIPS (`net.sliceK.N.weight`). The
                convolutions are matched by their order.

        Raises:
            ValueError: the convolutions are not those of this network.
        """
        names = [
            name for name in state_dict if name.startswith(("features.", "net.slice")) and name.endswith(".weight")
        ]
        names.sort(key=lambda name: int(name.split(".")[-2]))
        weights = [state_dict[name] for name in names]
        biases = [state_dict.get(name.removesuffix("weight") + "bias") for name in names]
        convs = [module for module in self.stages.modules() if isinstance(module, nn.Conv2d)]

        shapes = [
            (weight.shape, None if bias is None else bias.shape) for weight, bias in zip(weights, biases, strict=True)
        ]
        expected = [(conv.weight.shape, None if conv.bias is None else conv.bias.shape) for conv in convs]
        if shapes != expected:
            raise ValueError(f"the weights are not those of the {len(convs)} convolutions of this VGG")
        for conv, weight, bias in zip(convs, weights, biases, strict=True):
            assert conv.bias is not None and bias is not None
            conv.weight.data.copy_(weight)
            conv.bias.data.copy_(bias)

    def forward(self, image: Tensor, num_stages: int = 3) -> list[Tensor]:
        """Compute the features of an image.

        Args:
            image: (B, 3, H, W) in [-1, 1].
            num_stages: number of stages, the last ones, whose features are returned.

        Returns:
            A feature map of each stage, float32; of the last three (B, 256, H / 4, W / 4), (B, 512, H / 8, W / 8) and
            (B, 512, H / 16, W / 16).
        """
        x = ((image + 1) / 2 - self.mean) / self.std
        if x.shape[-1] < self.min_size:
            x = F.interpolate(x, (self.min_size, self.min_size), mode="bilinear", align_corners=False)
        x = x.contiguous(memory_format=torch.channels_last)
        features = []
        for i, stage in enumerate(self.stages):
            assert isinstance(stage, nn.ModuleList)
            if i > 0:
                x = F.max_pool2d(x, 2)
            for j, conv in enumerate(stage):
                x = conv(x)
                is_last = i == len(self.stages) - 1 and j == len(stage) - 1
                if not is_last:
                    x = F.relu(x, inplace=True)
            features.append(x)
        features = [feature.float() for feature in features[-num_stages:]]
        if self.normalize:
            features = [feature * torch.rsqrt(feature.square().mean(1, keepdim=True) + EPSILON) for feature in features]
        return [self.feature_scale * feature for feature in features]
