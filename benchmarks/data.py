"""Measure the seconds per image of resizing, degrading and loading images, of rendered portraits or of a folder.

python -m benchmarks.data --count 32
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.machine import PUBLISHED_PARAMS
from psfr.compute.devices import num_workers
from psfr.data import degradation, images, labels, resize
from psfr.data.datasets import PairedFaceDataset, VariantBatchSampler, make_dataloader
from psfr.params import read_params
from psfr.sources import sample

BATCH_SIZE = 4
NUM_REPEATS = 3


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=32, help="number of portraits to render")
    parser.add_argument("--size", type=int, default=512, help="side of the training images, in pixels")
    parser.add_argument("--images", type=Path, help="use a folder of images instead of portraits")
    options = parser.parse_args()
    params = read_params(PUBLISHED_PARAMS)
    workers = num_workers(params.compute)
    result = {"size": options.size, "processes": workers}
    with TemporaryDirectory() as folder:
        root = Path(folder)
        if options.images:
            raw = options.images
        else:
            raw = root / "raw/images"
            portraits = params.celebamask.model_copy(update={"count": options.count})
            result["draw"] = seconds_per_image(
                lambda: sample.render_set(root / "raw", "benchmark", portraits, 2 * options.size, params.seed, None),
                options.count,
            )
        count = len(images.list_images(raw))
        result["resize"] = seconds_per_image(lambda: resize.resize_folder(raw, root / "hr", options.size, None), count)
        paths = images.list_images(root / "hr")
        degrade = params.degrade.model_copy(update={"variants": 1})
        result["degrade"] = seconds_per_image(
            lambda: list(degradation.write_variants(paths, root / "lr", degrade, options.size, params.seed, None)),
            count,
        )
        write_parsing_maps(root, paths, options.size)

        dataset = PairedFaceDataset(root / "hr", root / "lr", root / "parse", set())
        result["training_sample"] = min(
            seconds_per_image(lambda: [dataset[index, 0] for index in range(count)], count) for _ in range(NUM_REPEATS)
        )
        batches = make_dataloader(
            dataset, VariantBatchSampler(count, BATCH_SIZE, params.seed), workers, torch.device("cpu")
        )
        result["training_sample_from_loader"] = min(
            seconds_per_image(lambda: sum(1 for _ in batches), count) for _ in range(NUM_REPEATS)
        )
        sample_bytes = sum(path.stat().st_size for path in dataset.paths(dataset.names[0], 0))
        result["megabytes_per_sample"] = round(sample_bytes / 2**20, 2)
    print(json.dumps(result))


def write_parsing_maps(root: Path, paths: list[Path], size: int) -> None:
    """Write parsing maps, derived from the images if there are none: the time to load a map depends on its size."""
    for path in paths:
        mask = root / "raw/masks" / path.name
        if mask.is_file():
            seg = resize.resize_labels(labels.read(mask), size)
        else:
            seg = resize.resize_image(images.read(path), size)[:, :, 0] // 32
        labels.write(root / "parse/hr" / path.name, seg)
        labels.write(root / "parse/lr/0" / path.name, seg)


def seconds_per_image(function: Callable[[], object], count: int) -> float:
    """Return the seconds of a call per image, with all processes together."""
    start = time.perf_counter()
    function()
    return round((time.perf_counter() - start) / count, 5)


if __name__ == "__main__":
    main()
