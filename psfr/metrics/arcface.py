"""Deg: the angle between ArcFace embeddings of a restored and its true face, as papers on face restoration give it."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from psfr.pretrained import loader
from psfr.utils.errors import UserError

SIZE = 128
WRONG_NETWORK = "{path}: not the weights of ArcFace's ResNet-18 for gray images: set evaluate.deg_weights to others"


class Block(nn.Module):
    """Residual block of ArcFace's ResNets for 128 x 128 pixels, without squeeze and excitation."""

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        self.bn0 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, in_channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.prelu = nn.PReLU()
        self.conv2 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = nn.Identity()
        if stride > 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.prelu(self.bn1(self.conv1(self.bn0(x))))
        return self.prelu(self.bn2(self.conv2(out)) + self.downsample(x))


class ResNet18(nn.Module):
    """ResNet-18 of ArcFace (Deng et al., 2019) for gray images, with the keys of the published `resnet18_110.pth`."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.prelu = nn.PReLU()
        self.layer1 = nn.Sequential(Block(64, 64, 1), Block(64, 64, 1))
        self.layer2 = nn.Sequential(Block(64, 128, 2), Block(128, 128, 1))
        self.layer3 = nn.Sequential(Block(128, 256, 2), Block(256, 256, 1))
        self.layer4 = nn.Sequential(Block(256, 512, 2), Block(512, 512, 1))
        self.bn4 = nn.BatchNorm2d(512)
        self.fc5 = nn.Linear(512 * 8 * 8, 512)
        self.bn5 = nn.BatchNorm1d(512)

    def forward(self, x: Tensor) -> Tensor:
        """Return the embeddings (B, 512) of faces (B, 1, 128, 128) in [-1, 1]."""
        x = nn.functional.max_pool2d(self.prelu(self.bn1(self.conv1(x))), 2)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.bn5(self.fc5(self.bn4(x).flatten(1)))


class ArcFace:
    """Angles between faces in the FFHQ frame, which are reduced to 128 x 128 pixels as a whole (VQFR, Gu et al., 2022).

    Args:
        path: weights of `ResNet18`, of torch.save or as safetensors.

    Raises:
        UserError: the file is missing or damaged, or belongs to another network.
    """

    def __init__(self, path: Path, device: torch.device):
        with torch.device("meta"):  # skips the random initialization
            self._network = ResNet18()
        hint = "set evaluate.deg_weights to another file"
        try:
            self._network.load_state_dict(loader.load(path, _without_prefix, hint), assign=True)
        except RuntimeError:
            raise UserError(WRONG_NETWORK.format(path=path)) from None
        self._network.eval().requires_grad_(False).to(device)
        self._device = device

    def features(self, image: np.ndarray) -> np.ndarray:
        """Return the embedding, float64 (512,), of a face, uint8 RGB (H, W, 3)."""
        gray = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
        batch = (torch.from_numpy(gray).to(self._device, torch.float32) - 127.5) / 127.5
        return self._network(batch[None, None])[0].double().cpu().numpy()

    @staticmethod
    def distance(restored: np.ndarray, true: np.ndarray) -> float:
        """Return the angle between two embeddings in degrees, from 0 to 180."""
        cosine = restored @ true / (np.linalg.norm(restored) * np.linalg.norm(true))
        return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _without_prefix(state: Any) -> dict[str, Any]:
    """Remove the prefix that nn.DataParallel gives the keys."""
    return {name.removeprefix("module."): value for name, value in state.items()}
