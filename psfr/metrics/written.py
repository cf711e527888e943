"""The files that evaluate leaves: evaluation.json, per_image.csv and the plots."""

import json
from pathlib import Path

from psfr.metrics import picture, table
from psfr.metrics.report import DIGITS, Measured
from psfr.metrics.testset import FacesUnderTest
from psfr.utils.files import replacing, replacing_folder


def write(folder: Path, testset: FacesUnderTest, measured: Measured, summary: dict, shown: int) -> None:
    """Write evaluation.json, per_image.csv, plots/results.png and plots/table.md into `folder`."""
    with replacing_folder(folder / "plots") as plots:
        picture.draw(plots / "results.png", testset, measured, shown)
        (plots / "table.md").write_text(table.markdown(summary), encoding="utf-8")
    with replacing(folder / "per_image.csv") as temporary:
        measured.table().to_csv(temporary, index=False, float_format=f"%.{DIGITS}g", lineterminator="\n")
    with replacing(folder / "evaluation.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf-8")
