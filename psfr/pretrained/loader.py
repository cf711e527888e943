"""Read pretrained weights from disk."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from psfr.pretrained import pickle_scan
from psfr.pretrained.network_files import PUBLISHED_FPN, PUBLISHED_GENERATOR, VGG_BACKBONES
from psfr.utils.errors import InputError, shortened

if TYPE_CHECKING:
    import torch

FOLDER = Path("data/weights")


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_hash(path: Path, sha256: str) -> None:
    """Verify the SHA-256 of a file before a library that does not validate its input opens it.

    Raises:
        InputError: the file is missing or has another hash.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file of weights: {_advice(path)}")
    if (digest := file_hash(path)) != sha256:
        raise InputError(
            f"{path}: has SHA-256 {digest[:8]}..., not {sha256[:8]}...: remove it and run `dvc repro fetch_weights`"
        )


def load(path: Path | str) -> "dict[str, torch.Tensor]":
    """Read a state dict, .safetensors or PyTorch's own format, onto the CPU; nothing but tensors is ever unpickled.

    Raises:
        InputError: the file is missing, damaged, or holds something else than named, plain tensors.
    """
    import torch  # here, for fetching alone needs no networks: it starts 20 times sooner
    from safetensors.torch import load_file

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file of weights: {_advice(path)}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path, device="cpu")
        pickle_scan.look_through(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds on damaged files
        if (
            isinstance(error, OSError) and error.filename
        ):  # it cannot be opened: others come of places that it names wrongly
            raise
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"{path}: not a readable file of weights ({shortened(reason[0], 120)}): {_advice(path)}"
        ) from None
    if (
        not isinstance(state, Mapping)
        or not state
        or not all(isinstance(name, str) and _is_plain(value) for name, value in state.items())
    ):
        raise InputError(f"{path}: holds no state dict of named, dense tensors: {_advice(path)}")
    return dict(state)


def _is_plain(value: object) -> bool:
    import torch

    return (
        isinstance(value, torch.Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    )


def _advice(path: Path) -> str:
    published = (PUBLISHED_FPN, PUBLISHED_GENERATOR)
    if path.name in published or re.search(r"-[0-9a-f]{8}\.pth$", path.name):  # the suffix of PyTorch's own downloads
        return "set weights.source to download and run `dvc repro fetch_weights`"
    if path.name in VGG_BACKBONES.values() or path.parent.name == "metrics":
        return "run `dvc repro fetch_weights`"
    return "name another, or make it again with `dvc repro`"
