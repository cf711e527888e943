"""The networks that restore: of a run of ours, of a git revision of the project, or the published ones."""

import tempfile
from pathlib import Path

import numpy as np
import torch

from psfr.compute.devices import device, precision
from psfr.data.datasets import to_image, to_tensor, to_unit
from psfr.networks import serialization
from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.generator import Generator
from psfr.networks.inference.fusion import fold
from psfr.params import Compute
from psfr.pretrained import loader, network_files
from psfr.utils.errors import InputError

FPN, GENERATOR = "fpn.safetensors", "psfrgan/generator.safetensors"


class Restorer:
    """A face parsing network and a generator, loaded once, ready for any number of faces."""

    def __init__(self, fpn: FaceParsingNetwork, generator: Generator, compute: Compute):
        self.device = device(compute)
        self.size = generator.constant.shape[-1] * 2 ** (len(generator.stages) - 1)
        self.fpn, self.generator = (
            fold(network.to(self.device), precision(compute, self.device)) for network in (fpn, generator)
        )

    @torch.inference_mode()
    def __call__(self, aligned: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """An aligned face, uint8 RGB (size, size, 3), to its region map, uint8 (size, size), and the restored face, uint8 RGB (size, size, 3)."""
        image = to_unit(to_tensor(aligned)[None].to(self.device))
        regions = self.fpn.regions(image)
        restored = self.generator(image, regions)
        return regions[0].to(torch.uint8).cpu().numpy(), to_image(restored[0])


def load_restorer(model: str, compute: Compute) -> Restorer:
    """The networks that `model` names.

    Args:
        model: the folder of a run (its `models`, or the folder that holds this); the published generator, a .pth file with the published
            face parsing network beside it; or a git revision of the project in the current folder, whose models come from the DVC cache.

    Raises:
        InputError: it is none of these, or its files are missing or damaged.
    """
    path = Path(model)
    if path.suffix == ".pth":
        generator = serialization.from_published("generator", loader.load(path))
        fpn = serialization.from_published("fpn", loader.load(path.with_name(network_files.PUBLISHED_FPN)))
        return Restorer(fpn, generator, compute)
    if path.is_dir():
        folder = path / "models" if (path / "models").is_dir() else path
        return Restorer(
            serialization.load(folder / FPN, FaceParsingNetwork),
            serialization.load(folder / GENERATOR, Generator),
            compute,
        )
    with tempfile.TemporaryDirectory() as folder:
        _check_out(model, Path(folder))
        return load_restorer(folder, compute)


def _check_out(revision: str, folder: Path) -> None:
    """Put the models of a git revision, as DVC has them in its cache, into a folder."""
    from dvc.api import DVCFileSystem  # here: it takes a second to load, and most runs need none
    from dvc.exceptions import DvcException

    try:
        files = DVCFileSystem(rev=revision)
        for name in (FPN, GENERATOR):
            target = folder / name
            target.parent.mkdir(exist_ok=True)
            files.get_file(f"models/{name}", str(target))
    except (DvcException, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{revision}: no folder of models, no .pth file, and no git revision whose models DVC has ({reason}): name one, or fetch its models with `dvc fetch --rev`"
        ) from None
