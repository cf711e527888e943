"""The networks of ST-LPIPS, the shift-tolerant perceptual distance (Ghildyal & Liu, ECCV 2022)."""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from psfr.pretrained import loader, metric_files
from psfr.utils import compat
from psfr.utils.errors import InputError

FILES = {"alex": metric_files.STLPIPS_ALEXNET, "vgg": metric_files.STLPIPS_VGG16}


def network(folder: Path, net: Literal["alex", "vgg"]) -> nn.Module:
    """ST-LPIPS with its weights from `folder`: called on two images (B, 3, H, W) in [-1, 1] it gives their distances (B, 1, 1, 1).

    The metric uses AlexNet ("alex"): the VGG16 ("vgg") trains the style loss, and what is trained on no longer measures.

    Raises:
        InputError: the file is missing, damaged, or of another network.
    """
    path = Path(folder) / FILES[net]
    stlpips = compat.import_stlpips()
    with torch.device("meta"):  # no time for random weights that are replaced at once
        model = stlpips.LPIPS(net=net, variant="shift_tolerant", blur_filter_size=3, pretrained=False, verbose=False)
    try:
        missing, unknown = model.load_state_dict(loader.load(path), strict=False, assign=True)
    except RuntimeError:
        raise InputError(
            f"{path}: weights of other shapes than ST-LPIPS's {net}: run `dvc repro fetch_weights`"
        ) from None
    # The model names its linear layers twice, as lin0 and as lins.0; files have the first name alone.
    if unknown or any(not name.startswith("lins.") for name in missing):
        raise InputError(f"{path}: not the weights of ST-LPIPS's {net}: run `dvc repro fetch_weights`")
    return model.eval().requires_grad_(False)


def deepest_features(vgg: nn.Module, image: Tensor) -> Tensor:
    """Features of its VGG16 (relu5_3, pooled without aliasing) averaged over space: (B, 512) of images (B, 3, H, W) in [-1, 1]."""
    return vgg.net(vgg.scaling_layer(image))[-1].mean((2, 3))
