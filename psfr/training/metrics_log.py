"""Log of a training for `dvc plots` and `dvc metrics`, in the format of DVCLive, which takes a second to import."""

import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from psfr.utils.files import atomic_write


class MetricsLog:
    """Metrics and a picture of each epoch. What an earlier training logged is removed.

    Args:
        folder: gets metrics.json, the metrics of the last epoch; plots/metrics/GROUP/NAME.tsv, those of all epochs,
            counted from 0; and plots/images.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.num_epochs = 0
        self.latest: dict[str, dict[str, float]] = {}
        shutil.rmtree(folder / "plots", ignore_errors=True)
        (folder / "metrics.json").unlink(missing_ok=True)

    def log_epoch(
        self, metrics: dict[str, dict[str, float]], image_name: str, image: np.ndarray, **facts: object
    ) -> None:
        """Add an epoch.

        Args:
            metrics: {group: {name: value}}; metrics.json keeps the last value of those that an epoch does not have.
            image_name: name of the picture's file.
            image: uint8 RGB (H, W, 3).
            facts: further entries of metrics.json.
        """
        for group, values in metrics.items():
            self.latest.setdefault(group, {}).update(values)
            for name, value in values.items():
                path = self.folder / "plots/metrics" / group / f"{name}.tsv"
                path.parent.mkdir(parents=True, exist_ok=True)
                is_new = not path.exists()
                with path.open("a", encoding="utf-8") as file:
                    file.write(f"step\t{name}\n" if is_new else "")
                    file.write(f"{self.num_epochs}\t{value}\n")
        with atomic_write(self.folder / "plots/images" / image_name) as path:
            Image.fromarray(image).save(path, "PNG")
        with atomic_write(self.folder / "metrics.json") as path:
            content = {**self.latest, **facts, "step": self.num_epochs}
            path.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")
        self.num_epochs += 1
