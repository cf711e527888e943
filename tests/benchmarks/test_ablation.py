"""The ablation report agrees with the experiments."""

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks import ablation
from psfr import portraits
from psfr.data import labels


def make_runs() -> pd.DataFrame:
    """Make four runs whose values are computed from the index of the run and of the metric."""
    runs = []
    for run, (gen, ss) in enumerate([(0.0, 0.0), (0.0, 10.0), (1.0, 0.0), (1.0, 10.0)]):
        values = {metric: 0.1 + run + index / 100 for index, metric in enumerate(ablation.METRICS)}
        intervals = {metric: [value - 0.05, value + 0.07] for metric, value in values.items()}
        evaluation = {
            "ours": values,
            "degraded": dict.fromkeys(values, 9.0),
            "intervals": {"ours": intervals, "degraded": {metric: [8.0, 10.0] for metric in values}},
        }
        images = pd.DataFrame(
            {metric: np.linspace(0, 1, 40) for metric in ablation.PER_IMAGE_METRICS},
            index=[f"face{i}" for i in range(40)],
        )
        images["identity"] += run / 10
        images["ssim"] += run / 10 * np.linspace(-1, 1, 40)
        runs.append({"lambda_gen": gen, "lambda_ss": ss, "evaluation": evaluation, "images": images})
    return pd.DataFrame(runs).set_index(["lambda_gen", "lambda_ss"])


def table_cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]


def test_metrics_table_has_each_run_with_intervals():
    rows = table_cells(ablation.metrics_table(make_runs()))
    assert [row[0] for row in rows[2:]] == ["degraded", "0, 0", "0, 10", "1, 0", "1, 10"]
    assert rows[0][1:] == list(ablation.METRICS.values()) and {len(row) for row in rows} == {1 + len(ablation.METRICS)}
    assert rows[2][2] == "9.000 (8.000 to 10.000)"
    assert rows[4][1:4] == ["1.10 (1.05 to 1.17)", "1.110 (1.060 to 1.180)", "1.120 (1.070 to 1.190)"]


def test_differences_are_computed_image_by_image():
    rows = table_cells(ablation.differences_table(make_runs()))
    assert [tuple(row[:2]) for row in rows[2:]] == [
        ("0, 0", "0, 10"),
        ("1, 0", "1, 10"),
        ("0, 0", "1, 0"),
        ("0, 10", "1, 10"),
    ]
    assert [row[4] for row in rows[2:]] == ["**+0.100 (+0.100 to +0.100)**"] * 2 + ["**+0.200 (+0.200 to +0.200)**"] * 2
    assert all(row[3] == "+0.000 (+0.000 to +0.000)" for row in rows[2:])
    assert all(row[2].startswith(("+0.000 (-0.0", "-0.000 (-0.0")) for row in rows[2:]), (
        "interval contains zero, not bold"
    )


def test_curves_have_a_line_for_each_lambda_gen(tmp_path):
    ablation.draw_curves(make_runs(), tmp_path / "curves.png")
    plot = np.asarray(Image.open(tmp_path / "curves.png").convert("RGB"))
    num_columns = ablation.NUM_CURVE_COLUMNS
    num_rows = -(-len(ablation.METRICS) // num_columns)
    panels = [panel for row in np.array_split(plot, num_rows) for panel in np.array_split(row, num_columns, axis=1)]
    for panel in panels[: len(ablation.METRICS)]:
        assert all((panel == color).all(2).any() for color in ((31, 119, 180), (255, 127, 14)))


def test_portrait_is_degraded_in_a_photo():
    hq, seg = portraits.draw(3, 1, 128)
    errors = []
    for strength in range(4):
        lq = ablation.degrade_in_photo(hq, strength)
        assert lq.shape == hq.shape
        errors.append(np.abs(lq.astype(float) - hq)[seg != labels.NAMES.index("background")].mean())
    assert 0 < errors[0] < errors[3] < 30
