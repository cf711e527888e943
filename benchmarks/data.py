"""Seconds an image of the data stages and of the loader, on portraits drawn at 1024 pixels and brought to 512, or on a folder of images.

python -m benchmarks.data --count 32
"""

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.machine import FULL
from psfr import params
from psfr.compute.devices import num_workers
from psfr.data import degradation, images, labels, resize
from psfr.data.datasets import PairedFaceDataset, VariantBatchSampler, make_dataloader
from psfr.sources import sample


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=32, help="portraits to draw")
    parser.add_argument("--size", type=int, default=512, help="pixels a side of the training images")
    parser.add_argument("--images", type=Path, help="a folder of images to take instead of portraits")
    options = parser.parse_args()
    values = params.read_params(FULL)
    given = values.celebamask.model_copy(update={"count": options.count})
    processes = num_workers(values.compute)
    result = {"size": options.size, "processes": processes}
    with TemporaryDirectory() as folder:
        root = Path(folder)
        if options.images:
            raw = options.images
        else:
            raw = root / "raw/images"
            result["draw"] = timed(
                lambda: sample.render_set(root / "raw", "benchmark", given, 2 * options.size, values.seed, None),
                options.count,
            )
        count = len(images.list_images(raw))
        result["resize"] = timed(lambda: resize.resize_folder(raw, root / "hr", options.size, None), count)
        paths = images.list_images(root / "hr")
        degrade = values.degrade.model_copy(update={"variants": 1})
        result["degrade"] = timed(
            lambda: list(degradation.write_variants(paths, root / "lr", degrade, options.size, values.seed, None)), count
        )
        for path in paths:
            # Any map will do: the cost of reading one is that of its size.
            mask = root / "raw/masks" / path.name
            regions = (
                resize.resize_labels(labels.read(mask), options.size)
                if mask.is_file()
                else resize.resize_image(images.read(path), options.size)[:, :, 0] // 32
            )
            labels.write(root / "parse/hr" / path.name, regions)
            labels.write(root / "parse/lr/0" / path.name, regions)
        quartets = PairedFaceDataset(root / "hr", root / "lr", root / "parse", set())
        result["training_sample"] = min(
            timed(lambda: [quartets[index, 0] for index in range(count)], count) for _ in range(3)
        )
        batches = make_dataloader(quartets, VariantBatchSampler(count, 4, values.seed), processes)
        result["training_sample_from_loader"] = min(timed(lambda: sum(1 for _ in batches), count) for _ in range(3))
        result["megabytes_a_sample"] = round(
            sum(path.stat().st_size for path in quartets.paths(quartets.names[0], 0)) / 2**20, 2
        )
    print(json.dumps(result))


def timed(call, count: int) -> float:
    """Seconds an image, all processes together."""
    began = time.perf_counter()
    call()
    return round((time.perf_counter() - began) / count, 5)


if __name__ == "__main__":
    main()
