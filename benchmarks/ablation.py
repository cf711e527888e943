"""Ablation of the losses: tables, curves and restored faces of the experiments on this commit.

Run `python -m benchmarks.ablation -o docs` in the clone where the experiments were run. It prints the tables.
"""

import argparse
import io
import json
from pathlib import Path

import dvc.api
import matplotlib
import numpy as np
import pandas as pd
from PIL import Image
from skimage import data

from benchmarks.restoring import degrade
from psfr.data.contact_sheet import contact_sheet
from psfr.metrics import bootstrap
from psfr.photos import alignment, detection
from psfr.photos.restorer import Restorer
from psfr.utils import errors

METRICS = {
    "psnr": "PSNR (dB) ↑",
    "ssim": "SSIM ↑",
    "st_lpips": "ST-LPIPS ↓",
    "identity": "identity distance ↓",
    "fixed_pattern_horizontal": "horizontal pattern ↓",
    "fixed_pattern_vertical": "vertical pattern ↓",
    "tint": "tint ↓",
    "frechet_alexnet": "Fréchet, AlexNet ↓",
    "frechet_vgg16": "Fréchet, VGG16 ↓",
}
FORMATS = dict.fromkeys(METRICS, ".3f") | {"psnr": ".2f", "frechet_alexnet": ".4f", "frechet_vgg16": ",.0f"}
TABLE_METRICS = ("psnr", "ssim", "st_lpips", "identity", "frechet_alexnet", "frechet_vgg16")  # the others are curves
NUM_CURVE_COLUMNS = 3
PER_IMAGE_METRICS = ("ssim", "st_lpips", "identity")  # means over images: runs can be compared image by image
N_RESAMPLES = 10_000

WEIGHTS = {"lambda_gen": "gen", "lambda_ss": "ss", "lambda_pcp": "pcp", "lambda_r1": "r1", "flip": "flip"}
NUM_GRID = 2  # the first weights, which are varied together; each of the others is varied alone

SEED = 11  # of the bootstrap
STRENGTHS = (1, 2, 3)  # of the degradation of the faces in the pictures
GAP, TITLE_SIZE = 4, 15  # of the contact sheets, in pixels

Setting = tuple[float, ...]  # the values of WEIGHTS


def load_runs() -> pd.DataFrame:
    """Load the experiments that have metrics.

    Returns:
        A row for each setting (the values of `WEIGHTS`) and seed: "rev" (revision), "evaluation" (the content of
        evaluation.json) and "images" (the per-image metrics of the model "ours").
    """
    index = [*WEIGHTS, "seed"]
    experiments = pd.DataFrame(dvc.api.exp_show(num=1))
    is_finished = experiments["ours.psnr"].notna() & experiments.Experiment.notna() & (experiments.rev != "workspace")
    experiments = experiments[is_finished].sort_values(index)
    runs = experiments[[*index, "rev"]].drop_duplicates(index).set_index(index)
    runs["evaluation"] = [json.loads(dvc.api.read("metrics/evaluation.json", rev=revision)) for revision in runs.rev]
    runs["images"] = [_parse_per_image(dvc.api.read("metrics/per_image.csv", rev=revision)) for revision in runs.rev]
    return runs


def _parse_per_image(csv: str) -> pd.DataFrame:
    images = pd.read_csv(io.StringIO(csv), dtype={"name": str}).query("model == 'ours'")
    return images.set_index("name")[list(PER_IMAGE_METRICS)].sort_index()


def first_seed(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs of the lowest seed, by setting."""
    return runs.xs(runs.index.get_level_values("seed").min(), level="seed")


def describe(setting: Setting) -> str:
    """Return the weights of a setting: those of the grid, and the others that are not 0."""
    named = list(zip(WEIGHTS.values(), setting, strict=True))
    return ", ".join(f"{name} {value:g}" for i, (name, value) in enumerate(named) if i < NUM_GRID or value)


def find_pairs(settings: list[Setting]) -> list[tuple[Setting, Setting]]:
    """Return the pairs of settings that differ in one weight, which is 0 in the first of them."""
    pairs = []
    for second in settings:
        for weight, value in enumerate(second):
            first = (*second[:weight], 0.0, *second[weight + 1 :])
            if value and first in settings:
                pairs.append((weight, first, second))
    # by the weight that differs: first the second one of the grid, which has the most values
    return [(first, second) for _, first, second in sorted(pairs, key=lambda pair: (pair[0] == 0, pair[0] > 1, pair))]


def metrics_table(runs: pd.DataFrame) -> str:
    """Return the metrics of each setting with their intervals as a Markdown table, of the first seed."""

    def row(title: str, evaluation: dict, variant: str) -> str:
        cells = []
        for metric in TABLE_METRICS:
            spec = FORMATS[metric]
            low, high = evaluation["intervals"][variant][metric]
            cells.append(f"{evaluation[variant][metric]:{spec}} ({low:{spec}} to {high:{spec}})")
        return f"| {title} | " + " | ".join(cells) + " |"

    lines = _table_head()
    lines.append(row("degraded", runs.evaluation.iloc[0], "degraded"))
    lines += [row(describe(setting), run.evaluation, "ours") for setting, run in first_seed(runs).iterrows()]
    return "\n".join(lines)


def _table_head() -> list[str]:
    titles = [METRICS[metric] for metric in TABLE_METRICS]
    return [f"| weights | {' | '.join(titles)} |", "| --- " * (1 + len(titles)) + "|"]


def differences_table(runs: pd.DataFrame) -> str:
    """Return the mean change of each per-image metric between settings that differ in one weight, as Markdown."""
    images = first_seed(runs).images
    lines = [
        f"| from | to | {' | '.join(METRICS[metric] for metric in PER_IMAGE_METRICS)} |",
        "| --- " * (2 + len(PER_IMAGE_METRICS)) + "|",
    ]
    resamples = bootstrap.resample_indices(SEED, len(images.iloc[0]), N_RESAMPLES)
    for first, second in find_pairs(list(images.index)):
        change = images[second] - images[first]
        cells = [format_change(change[metric].to_numpy(), resamples) for metric in PER_IMAGE_METRICS]
        lines.append(f"| {describe(first)} | {describe(second)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def format_change(changes: np.ndarray, resamples: np.ndarray, spec: str = ".3f") -> str:
    """Format the mean of per-image changes (images,) with its interval, in bold if the interval excludes zero."""
    low, high = bootstrap.confidence_interval(resamples, lambda indices: changes[indices].mean())
    text = f"{changes.mean():+{spec}} ({low:+{spec}} to {high:+{spec}})"
    return f"**{text}**" if low * high > 0 else text


def seeds_table(runs: pd.DataFrame) -> str:
    """Return the metrics of the settings with several seeds, and what one weight changes, as a Markdown table.

    A change is in bold if it has the same sign with every seed.
    """
    by_setting = runs.evaluation.groupby(level=list(WEIGHTS)).agg(list)
    by_setting = by_setting[by_setting.map(len) > 1]
    values = {
        setting: {metric: np.array([evaluation["ours"][metric] for evaluation in evaluations]) for metric in METRICS}
        for setting, evaluations in by_setting.items()
    }
    lines = _table_head()
    for setting, metrics in values.items():
        cells = [", ".join(f"{value:{FORMATS[metric]}}" for value in metrics[metric]) for metric in TABLE_METRICS]
        lines.append(f"| {describe(setting)} | {' | '.join(cells)} |")
    for first, second in find_pairs(list(values)):
        cells = []
        for metric in TABLE_METRICS:
            changes = values[second][metric] - values[first][metric]
            text = ", ".join(f"{change:+{FORMATS[metric]}}" for change in changes)
            cells.append(f"**{text}**" if abs(np.sign(changes).sum()) == len(changes) else text)
        lines.append(f"| {describe(first)} → {describe(second)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw_curves(runs: pd.DataFrame, path: Path) -> None:
    """Plot each metric against lambda_ss, a line for each lambda_gen; degraded images are dashed.

    The line and its intervals are of the first seed; other seeds are circles.
    """
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    grid = _grid(runs)
    ss_values = sorted(grid.index.unique("lambda_ss"))
    num_rows = -(-len(METRICS) // NUM_CURVE_COLUMNS)
    size = (4.2 * NUM_CURVE_COLUMNS, 3.2 * num_rows)
    figure, axes = plt.subplots(num_rows, NUM_CURVE_COLUMNS, figsize=size, layout="constrained", squeeze=False)
    for axis, (metric, title) in zip(axes.ravel(), METRICS.items(), strict=True):
        for i, (gen, group) in enumerate(grid.groupby(level="lambda_gen")):

            def positions(rows: pd.DataFrame, shift: float = 0.06 * i) -> list[float]:  # the bars do not overlap
                return [ss_values.index(ss) + shift for ss in rows.index.get_level_values("lambda_ss")]

            line = first_seed(group)
            values = np.array([evaluation["ours"][metric] for evaluation in line.evaluation])
            bounds = np.array([evaluation["intervals"]["ours"][metric] for evaluation in line.evaluation])
            color = f"C{i}"
            label = f"lambda_gen {gen:g}"
            axis.errorbar(
                positions(line), values, np.abs(bounds.T - values), fmt="o-", color=color, capsize=3, label=label
            )
            others = group.drop(group.index.get_level_values("seed").min(), level="seed")
            if len(others):
                values = [evaluation["ours"][metric] for evaluation in others.evaluation]
                axis.plot(positions(others), values, "o", color=color, fillstyle="none", label=f"{label}, other seeds")
        if not metric.startswith("frechet"):  # the value of the degraded images is far off the scale
            degraded_value = runs.evaluation.iloc[0]["degraded"][metric]
            axis.axhline(degraded_value, color="gray", linestyle="--", linewidth=1, label="degraded")
        axis.set(xlabel="lambda_ss", ylabel=title)
        axis.set_xticks(range(len(ss_values)), [f"{ss:g}" for ss in ss_values])
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    figure.savefig(path, dpi=90)


def _grid(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs in which only the weights of the grid are varied, by these and the seed."""
    others = list(WEIGHTS)[NUM_GRID:]
    return runs.loc[
        [not any(setting) for setting in runs.index.droplevel([*list(WEIGHTS)[:NUM_GRID], "seed"])]
    ].droplevel(others)


def draw_faces(runs: pd.DataFrame, path: Path) -> None:
    """Write a contact sheet of the grid's models: a row for each face and lambda_gen, a column for each lambda_ss."""
    grid = first_seed(_grid(runs))
    gens, ss_values = (sorted(grid.index.unique(name)) for name in list(WEIGHTS)[:NUM_GRID])
    ss_values = [ss for ss in ss_values if all((gen, ss) in grid.index for gen in gens)]
    restorers = {weights: Restorer.from_pretrained(run.rev) for weights, run in grid.iterrows()}
    rows, captions = [], []
    for lq, hq in _faces(next(iter(restorers.values())).size):
        for gen in gens:
            rows.append([lq, *(restorers[gen, ss](lq)[1] for ss in ss_values), hq])
            captions.append(["", *[f"lambda_gen {gen:g}"] * len(ss_values), ""])
    titles = ["degraded", *(f"lambda_ss {ss:g}" for ss in ss_values), "true"]
    _write_sheet(rows, titles, captions, path)


def draw_switches(runs: pd.DataFrame, path: Path) -> None:
    """Write a contact sheet of the models with a further loss or flips, beside the one without."""
    settings = first_seed(runs)
    varied = [setting for setting in settings.index if any(setting[NUM_GRID:])]
    if not varied:
        return
    settings = settings.loc[[(*varied[0][:NUM_GRID], *[0.0] * (len(WEIGHTS) - NUM_GRID)), *varied]]
    restorers = [Restorer.from_pretrained(revision) for revision in settings.rev]
    rows = [[lq, *(restorer(lq).restored for restorer in restorers), hq] for lq, hq in _faces(restorers[0].size)]
    names = [describe(setting).split(", ") for setting in settings.index]
    added = [", ".join(name[NUM_GRID:] or name) for name in names]
    _write_sheet(rows, ["degraded", *added, "true"], [], path)


def _faces(size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the astronaut's face as degraded and as true image, uint8 RGB (size, size, 3), for each of `STRENGTHS`."""
    photo = data.astronaut()
    frame = detection.find_faces(photo)[0]
    hq = alignment.crop(photo, frame, size)
    return [(alignment.crop(degrade(photo, strength), frame, size), hq) for strength in STRENGTHS]


def _write_sheet(rows: list, titles: list[str], captions: list, path: Path) -> None:
    sheet = contact_sheet(rows, titles, captions, gap=GAP, title_size=TITLE_SIZE)
    Image.fromarray(sheet).save(path, quality=93, subsampling=0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__.splitlines()[0])
    parser.add_argument("-o", dest="out", type=Path, default=Path("docs"), help="output folder of the images")
    out = parser.parse_args().out
    runs = load_runs()
    if runs.empty:
        raise errors.UserError(
            "no experiment with metrics on this commit: run one, such as `dvc exp run -S lambda_ss=10 -S lambda_gen=0`"
        )
    print(metrics_table(runs), differences_table(runs), seeds_table(runs), sep="\n\n")
    draw_curves(runs, out / "ablation.png")
    draw_faces(runs, out / "ablation-faces.jpg")
    draw_switches(runs, out / "ablation-switches.jpg")


if __name__ == "__main__":
    errors.run_main(main)
