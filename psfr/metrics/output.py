"""Output files of the evaluate stage: evaluation.json, per_image.csv and plots."""

import json
from pathlib import Path

from psfr.metrics import mean_error, results_sheet, table
from psfr.metrics.report import DIGITS, Evaluation
from psfr.metrics.testset import TestSet
from psfr.utils.files import atomic_dir, atomic_write


def write(folder: Path, testset: TestSet, evaluation: Evaluation, summary: dict, num_rows: int) -> None:
    """Write evaluation.json, per_image.csv, plots/results.png, plots/table.md and, of errors, plots/mean_error.png.

    Args:
        folder: the output folder.
        summary: the result of `report.summarize`.
        num_rows: rows of plots/results.png.
    """
    with atomic_dir(folder / "plots") as plots:
        results_sheet.write(plots / "results.png", testset, evaluation, num_rows)
        if evaluation.mean_errors:
            mean_error.write(plots / "mean_error.png", evaluation.mean_errors, summary)
        (plots / "table.md").write_text(table.to_markdown(summary), encoding="utf-8")
    with atomic_write(folder / "per_image.csv") as path:
        evaluation.table().to_csv(path, index=False, float_format=f"%.{DIGITS}g", lineterminator="\n")
    with atomic_write(folder / "evaluation.json") as path:
        path.write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf-8")
