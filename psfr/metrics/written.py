"""The files that evaluate leaves: evaluation.json, per_image.csv and the plots."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from psfr.files import replacing, replacing_folder
from psfr.metrics import picture, table
from psfr.metrics.report import DIGITS, OF_IMAGES, Measured
from psfr.metrics.testset import FacesUnderTest


def write(folder: Path, testset: FacesUnderTest, measured: Measured, summary: dict, shown: int) -> None:
    """Write evaluation.json, per_image.csv, plots/results.png, plots/table.md and plots/sorted_METRIC.csv into `folder`."""
    with replacing_folder(folder / "plots") as plots:
        picture.draw(plots / "results.png", testset, measured, shown)
        (plots / "table.md").write_text(table.markdown(summary), encoding="utf-8")
        for metric in OF_IMAGES:
            if metric in measured.values[testset.versions[0]]:
                _csv(plots / f"sorted_{metric}.csv", _sorted(measured, metric))
    _csv(folder / "per_image.csv", measured.table())
    with replacing(folder / "evaluation.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _sorted(measured: Measured, metric: str) -> pd.DataFrame:
    """The distribution of a metric: for each share of the images the value that they do not exceed, a column for each version."""
    share = np.arange(1, len(measured.names) + 1) / len(measured.names)
    return pd.DataFrame({"share": share} | {version: np.sort(values[metric]) for version, values in measured.values.items()})


def _csv(path: Path, rows: pd.DataFrame) -> None:
    with replacing(path) as temporary:
        rows.to_csv(temporary, index=False, float_format=f"%.{DIGITS}g", lineterminator="\n")
