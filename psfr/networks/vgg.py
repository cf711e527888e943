"""VGG features that the semantic-aware style loss compares."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Convolutions of each module. Modules end before a ReLU that the next one begins with, as in the published model.
CONVOLUTIONS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
CHANNELS = (64, 128, 256, 512, 512)


class VggFeatures(nn.Module):
    """The last three of VGG's five modules.

    A module's last convolution is followed by the first ReLU of the next module, which in the published model works in place:
    so the first two features are taken after their ReLU, and the last, conv5, without.

    Args:
        network: "vgg16" or "vgg19".
        min_size: images narrower than this are first enlarged to it, bilinearly (224 in the published model).
        scale: of the features (1 in the published model).
    """

    def __init__(self, network: str = "vgg19", min_size: int = 224, scale: float = 1):
        super().__init__()
        self.min_size = min_size
        self.scale = scale
        self.groups = nn.ModuleList()
        before = 3
        for count, channels in zip(CONVOLUTIONS[network], CHANNELS, strict=True):
            self.groups.append(
                nn.ModuleList([nn.Conv2d(before if i == 0 else channels, channels, 3, padding=1) for i in range(count)])
            )
            before = channels
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def load_trunk(self, state_dict: dict[str, Tensor]) -> None:
        """Take a trained trunk: torchvision's VGG (`features.N.weight`) or that of ST-LPIPS (`net.sliceK.N.weight`).

        Both hold the convolutions in their order, which is what is read.

        Raises:
            ValueError: other convolutions than this network's.
        """
        names = [
            name for name in state_dict if name.startswith(("features.", "net.slice")) and name.endswith(".weight")
        ]
        names.sort(key=lambda name: int(name.split(".")[-2]))
        convolutions = [conv for group in self.groups for conv in group]
        pairs = [(state_dict[name], state_dict.get(name.removesuffix("weight") + "bias")) for name in names]
        shapes = [(weight.shape, None if bias is None else bias.shape) for weight, bias in pairs]
        if shapes != [(conv.weight.shape, conv.bias.shape) for conv in convolutions]:
            raise ValueError(f"these are not the {len(convolutions)} convolutions of this VGG")
        for conv, (weight, bias) in zip(convolutions, pairs, strict=True):
            conv.weight.data.copy_(weight)
            conv.bias.data.copy_(bias)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Image (B, 3, H, W) in [-1, 1] to three feature maps, float32, at a quarter, an eighth and a sixteenth of the size."""
        x = ((image + 1) / 2 - self.mean) / self.std
        if x.shape[-1] < self.min_size:
            x = F.interpolate(x, (self.min_size, self.min_size), mode="bilinear", align_corners=False)
        x = x.contiguous(memory_format=torch.channels_last)
        features = []
        for i, group in enumerate(self.groups):
            if i:
                x = F.max_pool2d(x, 2)
            for j, conv in enumerate(group):
                x = conv(x)
                if (i, j) != (4, len(group) - 1):
                    x = F.relu(x, inplace=True)
            features.append(x)
        return [self.scale * feature.float() for feature in features[2:]]
