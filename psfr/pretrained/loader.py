"""Load pretrained weights and checkpoints from disk."""

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psfr.pretrained import pickle_scan
from psfr.utils.errors import UserError, truncate

if TYPE_CHECKING:
    import torch

WEIGHTS_DIR = Path("data/weights")
# Its folders: backbones of the style loss, networks of the paper's authors, networks of the metrics.
PURPOSES = ("perceptual", "published", "metrics")


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_in_name(name: str) -> str:
    """Return the first 8 digits of the SHA-256 from a name such as `vgg19-dcbb9e9d.pth`; empty if it has none."""
    match = re.search(r"-([0-9a-f]{8})\.pth$", name)
    return match[1] if match else ""


def verify_hash(path: Path, sha256: str) -> None:
    """Verify the SHA-256 of a file before a library that does not validate its input opens it.

    Raises:
        UserError: If the file is missing or has another hash.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such weights file: {_hint(path)}")
    digest = file_hash(path)
    if digest != sha256:
        problem = f"has SHA-256 {digest[:8]}..., not {sha256[:8]}..."
        raise UserError(f"{path}: {problem}: remove it and run `dvc repro fetch_weights`")


def load(
    path: Path | str, canonicalize: Callable[[Any], Any] = lambda state: state, hint: str | None = None
) -> "dict[str, torch.Tensor]":
    """Load a state dict from a .safetensors file or a file of torch.save, onto the CPU; only tensors are unpickled.

    Args:
        path: of the file.
        canonicalize: returns the state dict of the dict in the file, if it is an entry of it.
        hint: how to get another file, for messages; by default how DVC gets it.

    Raises:
        UserError: If the file is missing, damaged, or holds anything but named, dense tensors.
    """
    import torch  # imported here because fetch_weights, which imports this module, starts 20 times faster without it
    from safetensors.torch import load_file

    path = Path(path)
    hint = hint or _hint(path)
    if not path.is_file():
        raise UserError(f"{path}: no such weights file: {hint}")
    try:
        if path.suffix == ".safetensors":
            return dict(canonicalize(load_file(path, device="cpu")))
        pickle_scan.check_pickle(path)
        state = canonicalize(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch and safetensors raise exceptions of many types on damaged files
        if isinstance(error, OSError) and error.filename:  # it cannot be opened; damaged files raise OSErrors without
            raise
        reason = str(error).strip().splitlines() or [type(error).__name__]
        problem = f"not a readable weights file ({truncate(reason[0], 120)})"
        raise UserError(f"{path}: {problem}: {hint}") from None
    if not _is_state_dict(state):
        raise UserError(f"{path}: holds no state dict of named, dense tensors: {hint}")
    return dict(state)


def _is_state_dict(state: object) -> bool:
    if not isinstance(state, Mapping) or not state:
        return False
    return all(isinstance(name, str) and _is_dense_tensor(value) for name, value in state.items())


def _is_dense_tensor(value: object) -> bool:
    import torch

    return (
        isinstance(value, torch.Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    )


def _hint(path: Path) -> str:
    """Return how to get a missing or damaged file."""
    purpose = path.parent.name
    if purpose == "published" or hash_in_name(path.name):
        return "set weights.source to download and run `dvc repro fetch_weights`"
    if purpose in PURPOSES:
        return "run `dvc repro fetch_weights`"
    if path.suffix == ".pth":
        return "name another file, or set weights.source to download and run `dvc repro fetch_weights`"
    return "name another file, or create it with `dvc repro`"
