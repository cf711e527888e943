"""The ablation's report says what the experiments measured."""

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks import ablation
from psfr import portraits
from psfr.data import labels


def runs() -> pd.DataFrame:
    """Four runs in another order than that of the report; each value is its run's number and the metric's place."""
    found = []
    for number, (gen, ss) in enumerate([(0.0, 0.0), (0.0, 10.0), (1.0, 0.0), (1.0, 10.0)]):
        values = {metric: 0.1 + number + place / 100 for place, metric in enumerate(ablation.METRICS)}
        intervals = {metric: [value - 0.05, value + 0.07] for metric, value in values.items()}
        evaluation = {
            "ours": values,
            "degraded": dict.fromkeys(values, 9.0),
            "intervals": {"ours": intervals, "degraded": dict.fromkeys(values, [8.0, 10.0])},
        }
        images = pd.DataFrame(
            {metric: np.linspace(0, 1, 40) for metric in ablation.PER_IMAGE_METRICS}, index=[f"face{i}" for i in range(40)]
        )
        images["identity"] += number / 10
        images["ssim"] += number / 10 * np.linspace(-1, 1, 40)
        found.append({"lambda_gen": gen, "lambda_ss": ss, "evaluation": evaluation, "images": images})
    return pd.DataFrame(found).set_index(["lambda_gen", "lambda_ss"])


def test_table_has_each_run_with_its_intervals():
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in ablation.metrics_table(runs()).splitlines()]
    assert [row[0] for row in rows[2:]] == ["degraded", "0, 0", "0, 10", "1, 0", "1, 10"]
    assert rows[0][1:] == list(ablation.METRICS.values()) and {len(row) for row in rows} == {1 + len(ablation.METRICS)}
    assert rows[2][2] == "9.000 (8.000 to 10.000)"
    assert rows[4][1:4] == ["1.10 (1.05 to 1.17)", "1.110 (1.060 to 1.180)", "1.120 (1.070 to 1.190)"]


def test_differences_are_those_of_the_same_images():
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in ablation.differences_table(runs()).splitlines()]
    assert [tuple(row[:2]) for row in rows[2:]] == [
        ("0, 0", "0, 10"),
        ("1, 0", "1, 10"),
        ("0, 0", "1, 0"),
        ("0, 10", "1, 10"),
    ]
    assert [row[4] for row in rows[2:]] == ["**+0.100 (+0.100 to +0.100)**"] * 2 + ["**+0.200 (+0.200 to +0.200)**"] * 2
    assert all(row[3] == "+0.000 (+0.000 to +0.000)" for row in rows[2:])
    assert all(row[2].startswith(("+0.000 (-0.0", "-0.000 (-0.0")) for row in rows[2:]), "as far up as down: not bold"


def test_curves_are_drawn(tmp_path):
    ablation.draw_curves(runs(), tmp_path / "curves.png")
    drawn = np.asarray(Image.open(tmp_path / "curves.png").convert("RGB"))
    width = drawn.shape[1] // len(ablation.METRICS)
    for start in range(0, width * len(ablation.METRICS), width):
        colours = {tuple(pixel) for pixel in drawn[:, start : start + width].reshape(-1, 3)}
        assert {(31, 119, 180), (255, 127, 14)} <= colours, "a line for each lambda_gen"


def test_a_portrait_is_degraded_as_the_photograph_is():
    true, regions = portraits.draw(3, 1, 128)
    errors = []
    for strength in range(4):
        given = ablation.degrade_in_photo(true, strength)
        assert given.shape == true.shape
        errors.append(np.abs(given.astype(float) - true)[regions != labels.NAMES.index("background")].mean())
    assert 0 < errors[0] < errors[3] < 30
