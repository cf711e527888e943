"""Load the networks that restore a face: from a run, a git revision of the project, or the published weights."""

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import numpy as np
import torch
import yaml

from psfr.compute.devices import compute_dtype, get_device
from psfr.data.datasets import normalize, to_image, to_tensor
from psfr.networks import serialization
from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.generator import Generator
from psfr.networks.inference.fuse import fuse
from psfr.params import ComputeParams
from psfr.pretrained import loader, network_files
from psfr.utils.errors import UserError, truncate

LOCK_FILE = "dvc.lock"
FPN_FILE, GENERATOR_FILE = "fpn.safetensors", "psfrgan/generator.safetensors"


class Restorer:
    """Parsing network and generator for inference.

    Args:
        face_parser: moved to the device and fused, as is the generator.
        generator: determines `size`, the side length of its input and output.
        compute: device and precision.
    """

    def __init__(self, face_parser: FaceParsingNetwork, generator: Generator, compute: ComputeParams):
        self.device = get_device(compute)
        self.size = generator.constant.shape[-1] * 2 ** (len(generator.stages) - 1)
        dtype = compute_dtype(compute, self.device)
        self.face_parser = fuse(face_parser.to(self.device), dtype)
        self.generator = fuse(generator.to(self.device), dtype)

    @torch.inference_mode()
    def __call__(self, aligned: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Restore an aligned face.

        Args:
            aligned: uint8 RGB (size, size, 3).

        Returns:
            The parsing map, uint8 (size, size), and the restored face, uint8 RGB (size, size, 3).
        """
        lq = normalize(to_tensor(aligned)[None].to(self.device))
        seg = self.face_parser.predict_seg(lq)
        restored = self.generator(lq, seg)
        return seg[0].to(torch.uint8).cpu().numpy(), to_image(restored[0])


def load_restorer(model: str, compute: ComputeParams) -> Restorer:
    """Load the networks that `model` names.

    Args:
        model: the `models` folder of a run, or the folder that contains it; the published generator, a .pth file, with
            the published parsing network beside it; or a git revision of the project in the current folder, whose
            models are read from the DVC cache.
        compute: device and precision.

    Raises:
        UserError: `model` is none of these, or its files are missing or damaged.
    """
    with _model_files(model) as (fpn_path, generator_path):
        if generator_path.suffix == ".pth":
            face_parser = serialization.from_published("fpn", loader.load(fpn_path))
            generator = serialization.from_published("generator", loader.load(generator_path))
            return Restorer(cast(FaceParsingNetwork, face_parser), cast(Generator, generator), compute)
        return Restorer(
            serialization.load(fpn_path, FaceParsingNetwork), serialization.load(generator_path, Generator), compute
        )


def model_fingerprint(model: str) -> str:
    """Return a text that is another one if the files that `load_restorer` reads have been changed or written again."""
    digest = hashlib.sha256()
    with _model_files(model) as paths:
        for path in paths:
            digest.update(f"{loader.file_hash(path)} {path.stat().st_mtime_ns}\n".encode())
    return digest.hexdigest()


def is_trained_on_portraits(model: str) -> bool:
    """Return whether a run's generator was trained on the synthetic portraits, as the run's dvc.lock says.

    Args:
        model: as for `load_restorer`. Without a dvc.lock beside the folder of the models, the answer is False.
    """
    path = Path(model)
    if path.is_dir():
        lock = (path if (path / "models").is_dir() else path.resolve().parent) / LOCK_FILE
        text = lock.read_text(encoding="utf-8") if lock.is_file() else ""
    elif path.suffix == ".pth":
        return False
    else:
        shown = subprocess.run(["git", "show", f"{model}:./{LOCK_FILE}"], capture_output=True, check=False)
        text = shown.stdout.decode(errors="replace")
    try:
        source = yaml.safe_load(text)["stages"]["download@ffhq"]["params"]["params.yaml"]["ffhq"]["source"]
    except (yaml.YAMLError, KeyError, TypeError):
        return False
    return source == "sample"


@contextmanager
def _model_files(model: str) -> Iterator[tuple[Path, Path]]:
    """Yield the files of the parsing network and of the generator."""
    path = Path(model)
    if path.suffix == ".pth":
        yield path.with_name(network_files.PUBLISHED_FPN), path
    elif path.is_dir():
        folder = path / "models" if (path / "models").is_dir() else path
        yield folder / FPN_FILE, folder / GENERATOR_FILE
    else:
        with tempfile.TemporaryDirectory() as folder:
            _copy_models(model, Path(folder))
            yield Path(folder, FPN_FILE), Path(folder, GENERATOR_FILE)


def _copy_models(revision: str, folder: Path) -> None:
    """Copy the models of a git revision from the DVC cache into a folder; they have no modification time."""
    from dvc.api import DVCFileSystem  # imported here: it takes a second, and only git revisions need it
    from dvc.exceptions import DvcException

    try:
        files = DVCFileSystem(rev=revision)
        for name in (FPN_FILE, GENERATOR_FILE):
            target = folder / name
            target.parent.mkdir(exist_ok=True)
            files.get_file(f"models/{name}", str(target))
            os.utime(target, (0, 0))
    except (DvcException, OSError) as error:
        raise UserError(
            f"{revision}: not a folder of models, a .pth file or a git revision whose models DVC has "
            f"({truncate(error)}): "
            "check the name, or fetch the models with `dvc fetch --all-commits`"
        ) from None
