"""Ablation of lambda_ss and lambda_gen: tables, curves and restored faces of the experiments on this commit.

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
from psfr import portraits
from psfr.data import labels
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
FORMATS = dict.fromkeys(METRICS, "{:.3f}") | {"psnr": "{:.2f}", "frechet_alexnet": "{:.4f}", "frechet_vgg16": "{:,.0f}"}
NUM_CURVE_COLUMNS = 3
PER_IMAGE_METRICS = ("ssim", "st_lpips", "identity")  # means over images: runs can be compared image by image
N_RESAMPLES = 10_000
FACES = [("astronaut", 1), ("astronaut", 2), (3, 1), (8, 2)]  # (astronaut or index of a portrait, degradation strength)
SEED = 11  # of the portraits; no training uses it
GAP, TITLE_SIZE = 4, 15  # of the contact sheet, in pixels


def load_runs() -> pd.DataFrame:
    """Load the experiments that have metrics.

    Returns:
        A row for each (lambda_gen, lambda_ss): "rev" (revision), "evaluation" (the content of evaluation.json) and
        "images" (the per-image metrics of the model "ours").
    """
    weights = ["lambda_gen", "lambda_ss"]
    experiments = pd.DataFrame(dvc.api.exp_show(num=1))
    experiments = experiments[experiments["ours.psnr"].notna() & experiments.Experiment.notna()].sort_values(weights)
    runs = experiments[[*weights, "rev"]].drop_duplicates(weights).set_index(weights)
    runs["evaluation"] = [json.loads(dvc.api.read("metrics/evaluation.json", rev=revision)) for revision in runs.rev]
    runs["images"] = [_parse_per_image(dvc.api.read("metrics/per_image.csv", rev=revision)) for revision in runs.rev]
    return runs


def _parse_per_image(csv: str) -> pd.DataFrame:
    images = pd.read_csv(io.StringIO(csv), dtype={"name": str}).query("model == 'ours'")
    return images.set_index("name")[list(PER_IMAGE_METRICS)].sort_index()


def metrics_table(runs: pd.DataFrame) -> str:
    """Return the metrics of each run with their intervals as a Markdown table."""

    def row(title: str, evaluation: dict, variant: str) -> str:
        cells = []
        for metric in METRICS:
            low, high = evaluation["intervals"][variant][metric]
            spec = FORMATS[metric]
            cells.append(f"{spec} ({spec} to {spec})".format(evaluation[variant][metric], low, high))
        return f"| {title} | " + " | ".join(cells) + " |"

    lines = [f"| `lambda_gen`, `lambda_ss` | {' | '.join(METRICS.values())} |", "| --- " * (1 + len(METRICS)) + "|"]
    lines.append(row("degraded", runs.evaluation.iloc[0], "degraded"))
    lines += [row(f"{gen:g}, {ss:g}", run.evaluation, "ours") for (gen, ss), run in runs.iterrows()]
    return "\n".join(lines)


def differences_table(runs: pd.DataFrame) -> str:
    """Return the mean change of each per-image metric between runs that differ in one weight, as Markdown."""
    pairs = [((gen, 0), (gen, ss)) for gen, ss in runs.index if ss and (gen, 0) in runs.index]
    pairs += [((0, ss), (1, ss)) for gen, ss in runs.index if gen == 1 and (0, ss) in runs.index]
    lines = [
        f"| from | to | {' | '.join(METRICS[metric] for metric in PER_IMAGE_METRICS)} |",
        "| --- " * (2 + len(PER_IMAGE_METRICS)) + "|",
    ]
    resamples = bootstrap.resample_indices(SEED, len(runs.images.iloc[0]), N_RESAMPLES)
    for first, second in pairs:
        change = runs.images[second] - runs.images[first]
        cells = [f"{gen:g}, {ss:g}" for gen, ss in (first, second)]
        cells += [format_change(change[metric].to_numpy(), resamples) for metric in PER_IMAGE_METRICS]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def format_change(changes: np.ndarray, resamples: np.ndarray) -> str:
    """Format the mean of per-image changes (images,) with its interval, in bold if the interval excludes zero."""
    low, high = bootstrap.confidence_interval(resamples, lambda indices: changes[indices].mean())
    text = f"{changes.mean():+.3f} ({low:+.3f} to {high:+.3f})"
    return f"**{text}**" if low * high > 0 else text


def draw_curves(runs: pd.DataFrame, path: Path) -> None:
    """Plot each metric with its interval against lambda_ss, a line for each lambda_gen; degraded images are dashed."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    num_rows = -(-len(METRICS) // NUM_CURVE_COLUMNS)
    size = (4.2 * NUM_CURVE_COLUMNS, 3.2 * num_rows)
    figure, grid = plt.subplots(num_rows, NUM_CURVE_COLUMNS, figsize=size, layout="constrained")
    axes = grid.ravel()
    for axis, (metric, title) in zip(axes, METRICS.items(), strict=True):
        for i, (gen, group) in enumerate(runs.groupby(level=0)):
            values = np.array([evaluation["ours"][metric] for evaluation in group.evaluation])
            bounds = np.array([evaluation["intervals"]["ours"][metric] for evaluation in group.evaluation])
            x = group.index.get_level_values(1) + 1.5 * i  # shifted, so that the bars do not overlap
            axis.errorbar(x, values, np.abs(bounds.T - values), fmt="o-", capsize=3, label=f"lambda_gen {gen:g}")
        if not metric.startswith("frechet"):  # the value of the degraded images is far off the scale
            degraded_value = runs.evaluation.iloc[0]["degraded"][metric]
            axis.axhline(degraded_value, color="gray", linestyle="--", linewidth=1, label="degraded")
        axis.set(xlabel="lambda_ss", ylabel=title)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    figure.savefig(path, dpi=90)


def draw_faces(runs: pd.DataFrame, path: Path) -> None:
    """Write a contact sheet of the astronaut and portraits: degraded, restored by each model, true."""
    restorers = {weights: Restorer.from_pretrained(run.rev) for weights, run in runs.iterrows()}
    size = next(iter(restorers.values())).size
    photo = data.astronaut()
    frame = detection.find_faces(photo)[0]
    rows = []
    for source, strength in FACES:
        if source == "astronaut":
            hq = alignment.crop(photo, frame, size)
            lq = alignment.crop(degrade(photo, strength), frame, size)
        else:
            hq, _ = portraits.draw(SEED, source, size)
            lq = degrade_in_photo(hq, strength)
        restored = [restorer(lq) for restorer in restorers.values()]
        seg = restored[0][0]
        rows.append([lq, labels.PALETTE[seg], *(face for _, face in restored), hq])
    titles = ["degraded", "parsing map", *(f"gen {gen:g}, ss {ss:g}" for gen, ss in restorers), "true"]
    sheet = contact_sheet(rows, titles, gap=GAP, title_size=TITLE_SIZE)
    Image.fromarray(sheet).save(path, quality=93, subsampling=0)


def degrade_in_photo(face: np.ndarray, strength: int) -> np.ndarray:
    """Degrade a square face as part of a photo in which it is as large as the astronaut's face."""
    size, margin = len(face), round(0.92 * len(face))
    photo = np.pad(face, ((margin, margin), (margin, margin), (0, 0)), "reflect")
    return degrade(photo, strength)[margin : margin + size, margin : margin + size]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__.splitlines()[0])
    parser.add_argument("-o", dest="out", type=Path, default=Path("docs"), help="output folder of the images")
    out = parser.parse_args().out
    runs = load_runs()
    if runs.empty:
        raise errors.UserError(
            "no experiment with metrics on this commit: run one, such as `dvc exp run -S lambda_ss=10 -S lambda_gen=0`"
        )
    print(metrics_table(runs), differences_table(runs), sep="\n\n")
    draw_curves(runs, out / "ablation.png")
    draw_faces(runs, out / "ablation-faces.jpg")


if __name__ == "__main__":
    errors.run_main(main)
