"""LPIPS of torchmetrics and the features of pytorch-fid, on weight files of our own folder instead of a download."""

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
from psfr.utils.errors import InputError

compat.before_torchvision()
from pytorch_fid.fid_score import get_activations  # noqa: E402
from pytorch_fid.inception import InceptionV3  # noqa: E402
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity  # noqa: E402

FID_DIMENSIONS = 2048


@contextmanager
def _hub(path: Path) -> Iterator[None]:
    """Let torch.hub find `path` where it would have put its own download of a file of that name.

    Raises:
        InputError: the file is missing, damaged, or of another network.
    """
    loader.load(path)  # refuses a pickle of anything but tensors: the libraries below would not
    before = torch.hub.get_dir()
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Path(folder) / "checkpoints"
        checkpoints.mkdir()
        (checkpoints / path.name).symlink_to(path.resolve())
        torch.hub.set_dir(folder)
        try:
            yield
        except RuntimeError:
            raise InputError(
                f"{path}: weights of another network: remove it and run `dvc repro fetch_weights`"
            ) from None
        finally:
            torch.hub.set_dir(before)


class Lpips:
    """LPIPS with VGG16 (Zhang et al. 2018), as in the article."""

    def __init__(self, folder: Path, device: torch.device):
        with _hub(Path(folder) / metric_files.VGG16):
            self.metric = LearnedPerceptualImagePatchSimilarity(net_type="vgg", reduction="none").to(device)

    def __call__(self, restored: Tensor, true: Tensor) -> Tensor:
        """Distance of each pair, (B,); images (B, 3, H, W) in [-1, 1]."""
        values = self.metric(restored, true).reshape(-1)
        self.metric.reset()
        return values


def inception(folder: Path, device: torch.device) -> nn.Module:
    """pytorch-fid's Inception network with its published weights, giving 2048 features."""
    with _hub(Path(folder) / metric_files.INCEPTION):
        return InceptionV3([InceptionV3.BLOCK_INDEX_BY_DIM[FID_DIMENSIONS]]).to(device)


def inception_features(network: nn.Module, paths: list[Path], device: torch.device) -> np.ndarray:
    """Features of a batch of image files, float64 (images, 2048)."""
    with redirect_stderr(StringIO()):  # its own progress bar would count one batch
        return get_activations(paths, network, len(paths), FID_DIMENSIONS, device, num_workers=0)
