"""The state of an unfinished training on disk."""

import hashlib
import json
import sys
import time
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from psfr.utils.files import partial

KEPT = 2

State = dict  # of numbers, strings, tensors, and lists and dicts of these


class Snapshots:
    """The last states of a training, as `step_00000120-1f0c9a7b.safetensors`: the step, and a part of the file's SHA-256.

    Args:
        folder: where they are.
        seconds: between two of them, for `due`.
    """

    def __init__(self, folder: Path, seconds: float):
        self.folder = Path(folder)
        self.seconds = seconds
        self.last = time.monotonic()

    def due(self) -> bool:
        """Whether the last one is `seconds` old."""
        return time.monotonic() - self.last >= self.seconds

    def save(self, step: int, state: State) -> None:
        """Write the state after so many steps, then remove all but the newest two."""
        tensors: dict[str, Tensor] = {}
        structure = _structure(state, tensors)
        temporary = partial(self.folder / "step.safetensors")
        try:
            save_file(tensors, temporary, {"state": json.dumps(structure)})
            temporary.replace(self.folder / f"step_{step:08}-{_digest(temporary)}.safetensors")
        finally:
            temporary.unlink(missing_ok=True)
        for old in self._listed()[KEPT:]:
            old.unlink()
        self.last = time.monotonic()

    def newest(self) -> Path | None:
        """The newest sound one, if there is any; damaged ones are removed, and it is said."""
        for path in self._listed():
            if path.stem.endswith(f"-{_digest(path)}"):
                return path
            print(f"{path}: damaged, so the training goes on from before it", file=sys.stderr)
            path.unlink()
        return None

    def _listed(self) -> list[Path]:
        return sorted(self.folder.glob("step_*.safetensors"), reverse=True)


def load(path: Path) -> State:
    """Read what `Snapshots.save` wrote, tensors on the CPU."""
    with safe_open(path, "pt") as file:
        return _filled(json.loads(file.metadata()["state"]), file)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:8]


def _structure(value: object, tensors: dict[str, Tensor]) -> object:
    """The value for JSON: tensors go to `tensors` and leave their name, dicts become pairs, for JSON has no numbers as keys."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"pairs": [[key, _structure(part, tensors)] for key, part in value.items()]}
    if isinstance(value, list | tuple):
        return [_structure(part, tensors) for part in value]
    return value


def _filled(structure: object, file: safe_open) -> object:
    if isinstance(structure, list):
        return [_filled(part, file) for part in structure]
    if isinstance(structure, dict):
        return (
            file.get_tensor(structure["tensor"])
            if "tensor" in structure
            else {key: _filled(part, file) for key, part in structure["pairs"]}
        )
    return structure
