"""Networks of ST-LPIPS, the shift-tolerant perceptual distance (Ghildyal and Liu, ECCV 2022)."""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from psfr.pretrained import loader, metric_files
from psfr.utils import compat
from psfr.utils.errors import UserError

FILES = {"alex": metric_files.STLPIPS_ALEXNET, "vgg": metric_files.STLPIPS_VGG16}


def load_network(weights_dir: Path, net: Literal["alex", "vgg"]) -> nn.Module:
    """Load ST-LPIPS. Called on two batches (B, 3, H, W) in [-1, 1], it returns distances (B, 1, 1, 1).

    The metric uses AlexNet ("alex"), because VGG16 ("vgg") is the backbone of the style loss: a network that is
    trained against must not measure the result.

    Raises:
        UserError: the file is missing, damaged, or belongs to another network.
    """
    path = Path(weights_dir) / FILES[net]
    stlpips = compat.import_stlpips()
    with torch.device("meta"):  # skips the random initialization
        model = stlpips.LPIPS(net=net, variant="shift_tolerant", blur_filter_size=3, pretrained=False, verbose=False)
    try:
        missing, unexpected = model.load_state_dict(loader.load(path), strict=False, assign=True)
    except RuntimeError:
        raise UserError(f"{path}: shapes do not match ST-LPIPS with {net}: run `dvc repro fetch_weights`") from None
    # The model registers its linear layers twice, as lin0 and as lins.0; the files have the first name only.
    if unexpected or any(not name.startswith("lins.") for name in missing):
        raise UserError(f"{path}: not the weights of ST-LPIPS with {net}: run `dvc repro fetch_weights`")
    return model.eval().requires_grad_(False)


def deepest_features(network: nn.Module, image: Tensor) -> Tensor:
    """Return the deepest features of the network's backbone, averaged over space.

    VGG16's are those of relu5_3, AlexNet's those of relu5, both with anti-aliased pooling.

    Args:
        network: the result of `load_network`.
        image: (B, 3, H, W) in [-1, 1].

    Returns:
        (B, 512) of VGG16, (B, 256) of AlexNet.
    """
    scaled = network.get_submodule("scaling_layer")(image)
    return network.get_submodule("net")(scaled)[-1].mean((2, 3))
