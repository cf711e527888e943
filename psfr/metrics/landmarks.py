"""LMD: the mean distance of the landmarks that AWing-FAN finds in a restored and in its true face (Gu et al., 2022)."""

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from psfr.metrics.unavailable import UnavailableError
from psfr.pretrained import loader
from psfr.utils import compat
from psfr.utils.errors import UserError

SIZE = 256  # pixels per side of the network's input
NUM_LANDMARKS = 98
NUM_STACKS = 4  # hourglasses of the network
# Without its dependencies, which the parts used here do not need.
INSTALL = "pip install --no-deps facexlib==0.3.0"
WRONG_NETWORK = "{path}: not the weights of AWing-FAN: set evaluate.lmd_weights to others"


class Landmarks:
    """Landmarks of faces by AWing-FAN (Wang et al., 2019) of the optional package facexlib.

    Args:
        path: the published weights, `alignment_WFLW_4HG.pth`.

    Raises:
        UserError: the file is missing or damaged, or belongs to another network.
        UnavailableError: facexlib is not installed.
    """

    def __init__(self, path: Path, device: torch.device):
        if importlib.util.find_spec("facexlib") is None:
            raise UnavailableError(f"facexlib is not installed: {INSTALL}")
        compat.patch_torchvision()
        alignment = importlib.import_module("facexlib.alignment")
        self._network = alignment.FAN(num_modules=NUM_STACKS, num_landmarks=NUM_LANDMARKS, device=device)
        hint = "set evaluate.lmd_weights to another file"
        try:
            self._network.load_state_dict(loader.load(path, _state_dict, hint))
        except RuntimeError:
            raise UserError(WRONG_NETWORK.format(path=path)) from None
        self._network.eval().requires_grad_(False).to(device)
        self._device = device

    def features(self, image: np.ndarray) -> np.ndarray:
        """Return the landmarks, (98, 2) as x and y in pixels, of a face, uint8 RGB (H, W, 3)."""
        height, width = image.shape[:2]
        pixels = torch.from_numpy(cv2.resize(image, (SIZE, SIZE))).to(self._device)
        stacks, _ = self._network(pixels.permute(2, 0, 1)[None] / 255)
        heatmaps = stacks[-1][0, :NUM_LANDMARKS].cpu().numpy()  # the last one is the face's outline
        return _peaks(heatmaps) * (width / heatmaps.shape[2], height / heatmaps.shape[1])

    @staticmethod
    def distance(restored: np.ndarray, true: np.ndarray) -> float:
        """Return the mean Euclidean distance of corresponding landmarks in pixels."""
        return float(np.linalg.norm(restored - true, axis=1).mean())


def _peaks(heatmaps: np.ndarray) -> np.ndarray:
    """Return x and y of the maxima, (N, 2), of heatmaps (N, H, W), a quarter of a pixel towards the higher neighbor."""
    _, height, width = heatmaps.shape
    y, x = np.divmod(heatmaps.reshape(len(heatmaps), -1).argmax(1), width)
    index = np.arange(len(heatmaps))
    slope_x = heatmaps[index, y, np.minimum(x + 1, width - 1)] - heatmaps[index, y, np.maximum(x - 1, 0)]
    slope_y = heatmaps[index, np.minimum(y + 1, height - 1), x] - heatmaps[index, np.maximum(y - 1, 0), x]
    return np.stack([x + 0.25 * np.sign(slope_x), y + 0.25 * np.sign(slope_y)], axis=1) + 0.5


def _state_dict(checkpoint: Any) -> dict[str, Any]:
    """Return the state dict of a training checkpoint."""
    return checkpoint.get("state_dict", checkpoint)
