"""The ablation report agrees with the experiments."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmarks import ablation

RUNS = [
    (0.0, 0.0, 0.0, 1),
    (0.0, 10.0, 0.0, 1),
    (1.0, 0.0, 0.0, 1),
    (1.0, 10.0, 0.0, 1),
    (1.0, 10.0, 2.0, 1),
    (1.0, 0.0, 0.0, 2),
    (1.0, 10.0, 0.0, 2),
]  # lambda_gen, lambda_ss, lambda_r1 and seed


def make_runs() -> pd.DataFrame:
    """Make runs whose values are computed from the index of the run and of the metric; seed 2 reverses ssim."""
    runs = []
    for run, (gen, ss, r1, seed) in enumerate(RUNS):
        values = {metric: 0.1 + run + index / 100 for index, metric in enumerate(ablation.METRICS)}
        if seed == 2:
            values["ssim"] = -run
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
        weights = {"lambda_gen": gen, "lambda_ss": ss, "lambda_pcp": 0.0, "lambda_r1": r1, "flip": 0.0}
        runs.append({**weights, "seed": seed, "evaluation": evaluation, "images": images})
    return pd.DataFrame(runs).set_index([*ablation.WEIGHTS, "seed"])


def table_cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]


def test_metrics_table_has_each_setting_with_intervals():
    rows = table_cells(ablation.metrics_table(make_runs()))
    settings = ["gen 0, ss 0", "gen 0, ss 10", "gen 1, ss 0", "gen 1, ss 10", "gen 1, ss 10, r1 2"]
    assert [row[0] for row in rows[2:]] == ["degraded", *settings]
    assert rows[0][1:] == [ablation.METRICS[metric] for metric in ablation.TABLE_METRICS]
    assert {len(row) for row in rows} == {1 + len(ablation.TABLE_METRICS)}
    assert rows[2][2] == "9.000 (8.000 to 10.000)"
    assert rows[4][1:4] == ["1.10 (1.05 to 1.17)", "1.110 (1.060 to 1.180)", "1.120 (1.070 to 1.190)"]


@pytest.mark.heavy
def test_differences_are_computed_image_by_image():
    rows = table_cells(ablation.differences_table(make_runs()))
    assert [tuple(row[:2]) for row in rows[2:]] == [
        ("gen 0, ss 0", "gen 0, ss 10"),
        ("gen 1, ss 0", "gen 1, ss 10"),
        ("gen 1, ss 10", "gen 1, ss 10, r1 2"),
        ("gen 0, ss 0", "gen 1, ss 0"),
        ("gen 0, ss 10", "gen 1, ss 10"),
    ]
    by_0_1, by_0_2 = (f"**+{change:.3f} (+{change:.3f} to +{change:.3f})**" for change in (0.1, 0.2))
    assert [row[4] for row in rows[2:]] == [by_0_1] * 3 + [by_0_2] * 2
    assert all(row[3] == "+0.000 (+0.000 to +0.000)" for row in rows[2:])
    assert all(row[2].startswith(("+0.000 (-0.0", "-0.000 (-0.0")) for row in rows[2:]), (
        "interval contains zero, not bold"
    )


def test_seeds_table_shows_which_changes_depend_on_the_seed():
    rows = table_cells(ablation.seeds_table(make_runs()))
    assert [row[0] for row in rows[2:]] == ["gen 1, ss 0", "gen 1, ss 10", "gen 1, ss 0 → gen 1, ss 10"]
    assert rows[2][1:3] == ["2.10, 5.10", "2.110, -5.000"]
    assert rows[4][1:3] == ["**+1.00, +1.00**", "+1.000, -1.000"]


@pytest.mark.heavy
def test_curves_have_a_line_for_each_lambda_gen(tmp_path):
    ablation.draw_curves(make_runs(), tmp_path / "curves.png")
    plot = np.asarray(Image.open(tmp_path / "curves.png").convert("RGB"))
    num_columns = ablation.NUM_CURVE_COLUMNS
    num_rows = -(-len(ablation.METRICS) // num_columns)
    panels = [panel for row in np.array_split(plot, num_rows) for panel in np.array_split(row, num_columns, axis=1)]
    for panel in panels[: len(ablation.METRICS)]:
        assert all((panel == color).all(2).any() for color in ((31, 119, 180), (255, 127, 14)))
