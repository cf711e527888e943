"""What `psfr.restore --twice` changes on the test images of a run, as Markdown: metrics, and differences image by image with their intervals.

python -m benchmarks.twice [--model models], in the clone where `dvc repro` made the test set.
"""

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from benchmarks.ablation import METRICS, OF_IMAGES, RESAMPLES, SEED, said
from psfr import restore
from psfr.compute import devices
from psfr.data import images
from psfr.metrics import bootstrap, report
from psfr.metrics.testset import DEGRADED, FacesUnderTest
from psfr.photos.restorer import Restorer, load_restorer
from psfr.pretrained import loader
from psfr.utils import errors

TESTSET = Path("data/testset")
SHOWN = ("psnr", *OF_IMAGES)


def sharpened(image: np.ndarray) -> np.ndarray:
    """What `--twice` might be mistaken for: an unsharp mask, uint8 (S, S, 3)."""
    return cv2.addWeighted(image, 1.5, cv2.GaussianBlur(image, (0, 0), 1), -0.5, 0)


def restore_all(folder: Path, restorer: Restorer) -> FacesUnderTest:
    """The test set in another folder, restored once, twice, and once and sharpened."""
    for name in ("hr", "lr", "parse"):
        (folder / name).symlink_to((TESTSET / name).resolve())
    for path in tqdm(images.listed(TESTSET / "lr"), "restore", unit="image"):
        once = restorer(images.read(path))[1]
        for version, image in (
            ("once", once),
            ("twice", restore.twiced(restorer, once)),
            ("sharpened", sharpened(once)),
        ):
            images.write(folder / "sr" / version / path.name, image)
    return FacesUnderTest(folder, ["once", "twice", "sharpened"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.twice", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="models", help="as psfr.restore takes it")
    restorer = load_restorer(parser.parse_args().model, restore.COMPUTE)
    with tempfile.TemporaryDirectory() as folder:
        testset = restore_all(Path(folder), restorer)
        measured = report.measure(testset, loader.FOLDER / "metrics", 8, devices.device(restore.COMPUTE), 1)
    everyone = np.arange(len(testset.names))
    print(f"| | {' | '.join(METRICS[metric] for metric in SHOWN)} |\n" + "| --- " * (1 + len(SHOWN)) + "|")
    for version in (DEGRADED, "once", "twice", "sharpened"):
        figures = {metric: measured.statistic(version, metric)(everyone) for metric in SHOWN}
        print(
            f"| {version} | {figures['psnr']:.2f} | "
            + " | ".join(f"{figures[metric]:.3f}" for metric in OF_IMAGES)
            + " |"
        )
    draws = bootstrap.resamples(SEED, len(everyone), RESAMPLES)
    for version in ("twice", "sharpened"):
        changes = [measured.values[version][metric] - measured.values["once"][metric] for metric in OF_IMAGES]
        print(f"| {version}, less once | | " + " | ".join(said(change, draws) for change in changes) + " |")


if __name__ == "__main__":
    errors.run(main)
