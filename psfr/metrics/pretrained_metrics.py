"""LPIPS of torchmetrics and features of pytorch-fid, with weights from the project's folder, not downloaded."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from psfr.pretrained import loader, metric_files
from psfr.utils import compat
from psfr.utils.errors import UserError

compat.patch_torchvision()
from pytorch_fid.fid_score import get_activations  # noqa: E402 (after the patch)
from pytorch_fid.inception import InceptionV3  # noqa: E402 (after the patch)
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity  # noqa: E402 (after the patch)

FID_DIMENSIONS = 2048


@contextmanager
def local_hub(path: Path) -> Iterator[None]:
    """Let torch.hub load `path` instead of downloading the file of that name.

    Raises:
        UserError: the file is missing, damaged, or belongs to another network.
    """
    loader.load(path)  # rejects pickles with other content than tensors, which the libraries below would execute
    previous_dir = torch.hub.get_dir()
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Path(folder) / "checkpoints"
        checkpoints.mkdir()
        (checkpoints / path.name).symlink_to(path.resolve())
        torch.hub.set_dir(folder)
        try:
            yield
        except RuntimeError:
            raise UserError(
                f"{path}: weights of another network: remove it and run `dvc repro fetch_weights`"
            ) from None
        finally:
            torch.hub.set_dir(previous_dir)


class Lpips:
    """LPIPS with VGG16 (Zhang et al., 2018), as in the reimplementation.

    Args:
        weights_dir: folder that holds the VGG16 weights.
    """

    def __init__(self, weights_dir: Path, device: torch.device):
        with local_hub(Path(weights_dir) / metric_files.VGG16):
            self.metric = LearnedPerceptualImagePatchSimilarity(net_type="vgg", reduction="none").to(device)

    def __call__(self, restored: Tensor, hq: Tensor) -> Tensor:
        """Return the distance of each pair, (B,); images (B, 3, H, W) in [-1, 1]."""
        values = self.metric(restored, hq).reshape(-1)
        self.metric.reset()
        return values


def load_inception(weights_dir: Path, device: torch.device) -> nn.Module:
    """Return pytorch-fid's Inception network with its published weights; it computes 2048 features."""
    with local_hub(Path(weights_dir) / metric_files.INCEPTION):
        return InceptionV3([InceptionV3.BLOCK_INDEX_BY_DIM[FID_DIMENSIONS]]).to(device)


def inception_features(network: nn.Module, paths: list[Path], device: torch.device) -> np.ndarray:
    """Return the features of a batch of image files, float64 (images, 2048)."""
    with redirect_stderr(StringIO()):  # hides pytorch-fid's progress bar, which would count one batch
        return get_activations(paths, network, len(paths), FID_DIMENSIONS, str(device), num_workers=0)
