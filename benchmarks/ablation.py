"""What lambda_ss and lambda_gen do, from the experiments that DVC has on this commit: tables, curves, and faces that each model restored.

python -m benchmarks.ablation -o docs, in the clone where the experiments were run; prints the tables.
"""

import argparse
import io
import json
from pathlib import Path

import dvc.api
import matplotlib
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from benchmarks.restoring import degraded
from psfr import portraits, restore
from psfr.data import labels
from psfr.metrics import bootstrap
from psfr.photos import alignment, detection
from psfr.photos.restorer import load_restorer
from psfr.utils import errors

METRICS = {
    "psnr": "PSNR (dB) ↑", "ssim": "SSIM ↑", "st_lpips": "ST-LPIPS ↓", "identity": "identity distance ↓", "frechet_vgg16": "Fréchet, VGG16 ↓",
}  # fmt: skip
OF_IMAGES = ("ssim", "st_lpips", "identity")  # metrics that are means over images: runs can be compared image by image
RESAMPLES = 10_000
FACES = [
    ("astronaut", 1),
    ("astronaut", 2),
    (3, 1),
    (8, 2),
]  # the astronaut, or the number of a portrait, and the strength of its degradation
SEED = 11  # of the portraits: no training draws with it
GAP, HEAD = 4, 24


def experiments() -> pd.DataFrame:
    """Runs with metrics, a row each: (lambda_gen, lambda_ss), revision, the content of evaluation.json, and each image's metrics."""
    found = pd.DataFrame(dvc.api.exp_show(num=1))
    found = found[found["ours.psnr"].notna() & found.Experiment.notna()].sort_values(["lambda_gen", "lambda_ss"])
    runs = (
        found[["lambda_gen", "lambda_ss", "rev"]]
        .drop_duplicates(["lambda_gen", "lambda_ss"])
        .set_index(["lambda_gen", "lambda_ss"])
    )
    runs["evaluation"] = [json.loads(dvc.api.read("metrics/evaluation.json", rev=revision)) for revision in runs.rev]
    runs["images"] = [_restored(dvc.api.read("metrics/per_image.csv", rev=revision)) for revision in runs.rev]
    return runs


def _restored(table: str) -> pd.DataFrame:
    return (
        pd.read_csv(io.StringIO(table), dtype={"name": str})
        .query("model == 'ours'")
        .set_index("name")[list(OF_IMAGES)]
        .sort_index()
    )


def table(runs: pd.DataFrame) -> str:
    """The metrics with their intervals, as Markdown."""

    def row(name: str, evaluation: dict, version: str) -> str:
        cells = []
        for metric in METRICS:
            low, high = evaluation["intervals"][version][metric]
            form = "{:,.0f}" if metric == "frechet_vgg16" else "{:.2f}" if metric == "psnr" else "{:.3f}"
            cells.append(f"{form} ({form} to {form})".format(evaluation[version][metric], low, high))
        return f"| {name} | " + " | ".join(cells) + " |"

    head = [f"| `lambda_gen`, `lambda_ss` | {' | '.join(METRICS.values())} |", "| --- " * (1 + len(METRICS)) + "|"]
    rows = [row(f"{gen:g}, {ss:g}", run.evaluation, "ours") for (gen, ss), run in runs.iterrows()]
    return "\n".join([*head, row("degraded", runs.evaluation.iloc[0], "degraded"), *rows])


def differences(runs: pd.DataFrame) -> str:
    """What each weight changes, image by image: the mean difference with its interval, as Markdown; bold where that has no zero in it."""
    pairs = [((gen, 0), (gen, ss)) for gen, ss in runs.index if ss and (gen, 0) in runs.index]
    pairs += [((0, ss), (1, ss)) for gen, ss in runs.index if gen == 1 and (0, ss) in runs.index]
    rows = [
        f"| from | to | {' | '.join(METRICS[metric] for metric in OF_IMAGES)} |",
        "| --- " * (2 + len(OF_IMAGES)) + "|",
    ]
    draws = bootstrap.resamples(SEED, len(runs.images.iloc[0]), RESAMPLES)
    for first, second in pairs:
        change = runs.images[second] - runs.images[first]
        cells = [said(change[metric].to_numpy(), draws) for metric in OF_IMAGES]
        rows.append("| " + " | ".join([*(f"{gen:g}, {ss:g}" for gen, ss in (first, second)), *cells]) + " |")
    return "\n".join(rows)


def said(changes: np.ndarray, draws: np.ndarray) -> str:
    """The mean of what changes in each image with its interval, bold where that has no zero in it."""
    low, high = bootstrap.interval(draws, lambda indices: changes[indices].mean())
    text = f"{changes.mean():+.3f} ({low:+.3f} to {high:+.3f})"
    return f"**{text}**" if low * high > 0 else text


def draw_curves(runs: pd.DataFrame, path: Path) -> None:
    """Each metric against lambda_ss, a line for each lambda_gen, with intervals; the degraded images' value is dashed."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(METRICS), figsize=(3.1 * len(METRICS), 3.2), layout="constrained")
    for axis, (metric, name) in zip(axes, METRICS.items(), strict=True):
        for number, (gen, group) in enumerate(runs.groupby(level=0)):
            values = np.array([evaluation["ours"][metric] for evaluation in group.evaluation])
            bounds = np.array([evaluation["intervals"]["ours"][metric] for evaluation in group.evaluation])
            places = group.index.get_level_values(1) + 1.5 * number  # beside each other
            axis.errorbar(places, values, np.abs(bounds.T - values), fmt="o-", capsize=3, label=f"lambda_gen {gen:g}")
        if metric != "frechet_vgg16":  # there the degraded images are far off the scale
            axis.axhline(
                runs.evaluation.iloc[0]["degraded"][metric], color="grey", linestyle="--", linewidth=1, label="degraded"
            )
        axis.set(xlabel="lambda_ss", ylabel=name)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    figure.savefig(path, dpi=90)


def draw_faces(runs: pd.DataFrame, path: Path) -> None:
    """The astronaut and portraits: degraded, restored by each model, true."""
    restorers = {pair: load_restorer(run.rev, restore.COMPUTE) for pair, run in runs.iterrows()}
    size = next(iter(restorers.values())).size
    photograph = data.astronaut()
    frame = detection.find(photograph)[0]
    rows = []
    for which, strength in FACES:
        if which == "astronaut":
            true, given = (
                alignment.crop(picture, frame, size) for picture in (photograph, degraded(photograph, strength))
            )
        else:
            true, _ = portraits.draw(SEED, which, size)
            given = in_photograph(true, strength)
        restored = [restorer(given) for restorer in restorers.values()]
        rows.append([given, labels.PALETTE[restored[0][0]], *(face for _, face in restored), true])
    titles = ["degraded", "region map", *(f"gen {gen:g}, ss {ss:g}" for gen, ss in restorers), "true"]
    sheet = Image.new("RGB", (len(titles) * (size + GAP) - GAP, HEAD + len(rows) * (size + GAP) - GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        pen.text(
            (column * (size + GAP) + size // 2, HEAD // 2), title, "black", ImageFont.load_default(15), anchor="mm"
        )
        for row, cells in enumerate(rows):
            sheet.paste(Image.fromarray(cells[column]), (column * (size + GAP), HEAD + row * (size + GAP)))
    sheet.save(path, quality=93, subsampling=0)


def in_photograph(face: np.ndarray, strength: int) -> np.ndarray:
    """A square face as a degraded photograph shows it in which it takes as much room as the astronaut's does."""
    size, margin = len(face), round(0.92 * len(face))
    return degraded(np.pad(face, ((margin, margin), (margin, margin), (0, 0)), "reflect"), strength)[margin:][
        :size, margin:
    ][:, :size]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__.splitlines()[0])
    parser.add_argument("-o", dest="out", type=Path, default=Path("docs"), help="folder of the pictures")
    out = parser.parse_args().out
    runs = experiments()
    if runs.empty:
        raise errors.InputError(
            "no experiment with metrics on this commit: `dvc exp run -S lambda_ss=10 -S lambda_gen=0`, for instance"
        )
    print(table(runs), differences(runs), sep="\n\n")
    draw_curves(runs, out / "ablation.png")
    draw_faces(runs, out / "ablation-faces.jpg")


if __name__ == "__main__":
    errors.run(main)
