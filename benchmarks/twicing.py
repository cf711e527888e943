"""Measure what `psfr.restore --twicing` changes on the test set of a run, and print it as Markdown.

Run `python -m benchmarks.twicing [--model models]` in the clone where `dvc repro` made the test set.
"""

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from benchmarks.ablation import METRICS, N_RESAMPLES, PER_IMAGE_METRICS, SEED, format_change
from psfr.compute import devices
from psfr.data import images
from psfr.metrics import bootstrap
from psfr.metrics.measure import evaluate
from psfr.metrics.testset import DEGRADED, TestSet
from psfr.photos import restoration
from psfr.photos.restorer import COMPUTE, Restorer
from psfr.pretrained import loader
from psfr.utils import errors

TESTSET = Path("data/testset")
COLUMNS = ("psnr", *PER_IMAGE_METRICS)
ONCE, TWICING, SHARPENED = "once", "twicing", "sharpened"


def sharpen(image: np.ndarray) -> np.ndarray:
    """Apply an unsharp mask, for comparison with twicing; uint8 (S, S, 3)."""
    return cv2.addWeighted(image, 1.5, cv2.GaussianBlur(image, (0, 0), 1), -0.5, 0)


def restore_testset(folder: Path, restorer: Restorer) -> TestSet:
    """Restore the test set into `folder`: once, with twicing, and once with sharpening."""
    for name in ("hr", "lr", "parse"):
        (folder / name).symlink_to((TESTSET / name).resolve())
    for path in tqdm(images.list_images(TESTSET / "lr"), "restore", unit="image"):
        once = restorer(images.read(path)).restored
        variants = {ONCE: once, TWICING: restoration.apply_twicing(restorer, once), SHARPENED: sharpen(once)}
        for variant, image in variants.items():
            images.write(folder / "sr" / variant / path.name, image)
    return TestSet(folder, [ONCE, TWICING, SHARPENED])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.twicing", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="models", help="as in psfr.restore")
    restorer = Restorer.from_pretrained(parser.parse_args().model)
    device = devices.get_device(COMPUTE)
    with tempfile.TemporaryDirectory() as folder:
        testset = restore_testset(Path(folder), restorer)
        evaluation = evaluate(testset, loader.WEIGHTS_DIR / "metrics", 8, device, 1)
    all_indices = np.arange(len(testset.names))
    print(f"| | {' | '.join(METRICS[metric] for metric in COLUMNS)} |")
    print("| --- " * (1 + len(COLUMNS)) + "|")
    for variant in (DEGRADED, ONCE, TWICING, SHARPENED):
        cells = []
        for metric in COLUMNS:
            value = evaluation.statistic(variant, metric)(all_indices)
            cells.append(f"{value:.2f}" if metric == "psnr" else f"{value:.3f}")
        print(f"| {variant} | {' | '.join(cells)} |")
    resamples = bootstrap.resample_indices(SEED, len(all_indices), N_RESAMPLES)
    for variant in (TWICING, SHARPENED):
        cells = []
        for metric in PER_IMAGE_METRICS:
            change = evaluation.values[variant][metric] - evaluation.values[ONCE][metric]
            cells.append(format_change(change, resamples))
        print(f"| {variant} minus {ONCE} | | {' | '.join(cells)} |")


if __name__ == "__main__":
    errors.run_main(main)
