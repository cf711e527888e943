"""Checkpoints of an unfinished training, without pickle."""

import hashlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from psfr.utils.files import temporary_path

MAX_TO_KEEP = 2

State = dict[str, Any]  # nested dicts and lists of numbers, strings, None and tensors


class CheckpointManager:
    """Saves training states and keeps the latest two.

    Files are named `step_00000120-1f0c9a7b.safetensors`: the number of steps, and the first digits of the file's
    SHA-256, by which damage is detected.

    Args:
        folder: the folder of the checkpoints; must exist.
        interval: seconds between two checkpoints, used by `is_due`.
    """

    def __init__(self, folder: Path, interval: float):
        self.folder = Path(folder)
        self.interval = interval
        self.last_saved = time.monotonic()

    def is_due(self) -> bool:
        """Return whether `interval` seconds have passed since the last checkpoint."""
        return time.monotonic() - self.last_saved >= self.interval

    def save(self, step: int, state: State) -> None:
        """Save the state after `step` steps, then remove all but the latest `MAX_TO_KEEP` checkpoints."""
        tensors: dict[str, Tensor] = {}
        structure = _to_json(state, tensors)
        temporary = temporary_path(self.folder / "step.safetensors")
        try:
            save_file(tensors, temporary, {"state": json.dumps(structure)})
            temporary.replace(self.folder / f"step_{step:08}-{_short_hash(temporary)}.safetensors")
        finally:
            temporary.unlink(missing_ok=True)
        for path in self._list()[MAX_TO_KEEP:]:
            path.unlink()
        self.last_saved = time.monotonic()

    def latest(self) -> Path | None:
        """Return the latest undamaged checkpoint, if there is one.

        Damaged checkpoints that are later are removed, with a warning on stderr.
        """
        for path in self._list():
            if path.stem.endswith(f"-{_short_hash(path)}"):
                return path
            print(f"{path}: damaged, removed: the training resumes from an earlier state", file=sys.stderr)
            path.unlink()
        return None

    def latest_step(self) -> int | None:
        """Return the number of steps of the latest checkpoint by its name, if there is one."""
        paths = self._list()
        return int(paths[0].stem.removeprefix("step_").split("-")[0]) if paths else None

    def _list(self) -> list[Path]:
        return sorted(self.folder.glob("step_*.safetensors"), reverse=True)


def load(path: Path) -> State:
    """Load a state that `CheckpointManager.save` wrote, with its tensors on the CPU."""
    with safe_open(path, "pt") as file:
        return _from_json(json.loads(file.metadata()["state"]), file)


def non_finite_tensors(state: State) -> list[str]:
    """Return the names of a state's tensors that hold NaN or infinity, such as "generator.to_image.weight".

    The device is read once for all tensors.
    """
    tensors = dict(_floating_tensors(state, ""))
    are_finite = [tensor.isfinite().all() for tensor in tensors.values()]
    if not are_finite:
        return []
    device = are_finite[0].device
    table = torch.stack([is_finite.to(device) for is_finite in are_finite]).tolist()
    return [name for name, is_finite in zip(tensors, table, strict=True) if not is_finite]


def _floating_tensors(value: object, name: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the floating point tensors of a part of a state, with their names."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield name, value
        return
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    else:
        return
    for key, item in items:
        yield from _floating_tensors(item, f"{name}.{key}" if name else str(key))


def _short_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:8]


def _to_json(value: object, tensors: dict[str, Tensor]) -> object:
    """Convert a state to what JSON can hold.

    Tensors are moved to `tensors` and replaced by their name. Dicts become lists of pairs, because the state of an
    optimizer has numbers as keys, which JSON has not.
    """
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"pairs": [[key, _to_json(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_to_json(item, tensors) for item in value]
    return value


def _from_json(structure: Any, file: safe_open) -> Any:
    """Reverse `_to_json`, reading the tensors from the file."""
    if isinstance(structure, list):
        return [_from_json(item, file) for item in structure]
    if isinstance(structure, dict):
        if "tensor" in structure:
            return file.get_tensor(structure["tensor"])
        return {key: _from_json(item, file) for key, item in structure["pairs"]}
    return structure
