"""Generators of validated steps that a training keeps, and which of them is the best."""

import json
import shutil
from pathlib import Path

from psfr.training.validation import BEST_BY
from psfr.utils.files import atomic_write

CHECKPOINTS = "checkpoints.json"
LAST_GENERATOR = "generator.safetensors"
STEPS = "steps"  # folder of the generators of earlier steps


class KeptGenerators:
    """Chooses the generators that are kept: the best one by validation, and the latest other ones.

    Args:
        folder: where their files are while the training runs.
        num_kept: their number.
    """

    def __init__(self, folder: Path, num_kept: int):
        self.folder, self.num_kept = folder, num_kept
        self.validations: list[tuple[int, dict[str, float]]] = []  # step and scores

    def path(self, step: int) -> Path:
        """Return the file of a step's generator, which must be written before `add`."""
        return self.folder / f"{step:07}.safetensors"

    def add(self, step: int, scores: dict[str, float]) -> None:
        """Add a validated step, and remove the files that are no longer kept."""
        self.validations.append((step, scores))
        kept = self.steps()
        for other, _ in self.validations:
            if other not in kept:
                self.path(other).unlink(missing_ok=True)

    def steps(self) -> list[int]:
        """Return the steps whose generators are kept."""
        best = self.best_step()
        if not self.num_kept or best is None:
            return []
        others = [step for step, _ in self.validations if step != best]
        return sorted([best, *others[::-1][: self.num_kept - 1]])

    def best_step(self) -> int | None:
        """Return the step of the best validation, the first of equal ones; None before any."""
        return min(self.validations, key=lambda validation: validation[1][BEST_BY])[0] if self.validations else None

    def write(self, folder: Path, last_step: int) -> None:
        """Copy the kept generators to the folder of the trained model, and write which they are to `CHECKPOINTS`.

        Args:
            folder: the folder, which has the generator of the last step under the name `LAST_GENERATOR`.
            last_step: number of steps of the training.
        """
        # A GPU does not resume bit for bit: a step that is kept now may have been removed before an interruption.
        files = {step: f"{STEPS}/{self.path(step).name}" for step in self.steps() if self.path(step).is_file()}
        files.pop(last_step, None)
        for step, name in files.items():
            with atomic_write(folder / name) as path:
                shutil.copyfile(self.path(step), path)
        files[last_step] = LAST_GENERATOR
        record = {
            "last": last_step,
            "best": self.best_step(),
            "best_by": BEST_BY,
            "files": {str(step): files[step] for step in sorted(files)},
            "validations": [{"step": step, **scores} for step, scores in self.validations],
        }
        with atomic_write(folder / CHECKPOINTS) as path:
            path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
