"""The trained networks on folders of images."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm

from psfr.compute import processes
from psfr.compute.devices import device, precision, workers
from psfr.data import images, labels
from psfr.data.datasets import loader, to_image, to_tensor, to_unit
from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.inference.fusion import fold
from psfr.params import Compute
from psfr.utils.errors import InputError


class ImageFiles(Dataset):
    """Square images of one size, with their place in the list.

    Raises:
        InputError: from an item: not readable, or of another size.
    """

    def __init__(self, paths: list[Path], size: int):
        self.paths, self.size = paths, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, Tensor]:
        """Its place, and the image, uint8 (size, size, 3)."""
        image = images.read(self.paths[index])
        if image.shape[:2] != (self.size, self.size):
            raise InputError(
                f"{self.paths[index]}: {image.shape[1]}x{image.shape[0]} pixels, {self.size}x{self.size} are needed: resize it, or set image_size"
            )
        return index, to_tensor(image)


def _batches(
    paths: list[Path], done: Callable[[Path], bool], size: int, compute: Compute, description: str
) -> Iterator[tuple[list[Path], Tensor]]:
    """This process's share of the batches of which not all is done.

    What a batch holds never depends on what is done, nor on the number of processes: rounding may differ between batches.
    """
    where = device(compute)
    whole = [
        range(start, min(start + compute.batch_size, len(paths))) for start in range(0, len(paths), compute.batch_size)
    ]
    # As the first process sees it: another one may come when files have been written since, and would cut other shares.
    open_ones = processes.share(
        processes.of_first([list(places) for places in whole if not all(done(paths[place]) for place in places)])
    )
    first = processes.rank() == 0
    with tqdm(total=sum(map(len, open_ones)), desc=description, unit="image", disable=not first) as progress:
        for places, batch in loader(ImageFiles(paths, size), open_ones, workers(compute)):
            yield [paths[place] for place in places.tolist()], to_unit(batch.to(where))
            progress.update(len(places))


@torch.inference_mode()
def parse(fpn: FaceParsingNetwork, paths: list[Path], out: Path, size: int, compute: Compute, description: str) -> None:
    """Write the region map of every image as out/NAME.png; maps that are there are kept."""
    where = device(compute)
    fpn = fold(fpn.to(where), precision(compute, where))
    made = images.there(out)
    with Writer() as writer:
        for batch_paths, image in _batches(paths, lambda path: f"{path.stem}.png" in made, size, compute, description):
            regions = fpn.regions(image).to(torch.uint8).cpu().numpy()
            for path, region in zip(batch_paths, regions, strict=True):
                writer.submit(labels.write, out / f"{path.stem}.png", region)


@torch.inference_mode()
def restore(
    fpn: FaceParsingNetwork,
    generators: dict[str, nn.Module],
    paths: list[Path],
    out: Path,
    maps: Path,
    size: int,
    compute: Compute,
) -> None:
    """Restore every image with every generator, as out/MODEL/NAME.png; the region map that they saw goes to maps/NAME.png. What is there is kept."""
    where = device(compute)
    fpn = fold(fpn.to(where), precision(compute, where))
    generators = {name: fold(network.to(where), precision(compute, where)) for name, network in generators.items()}
    made = set.intersection(*(images.there(folder) for folder in (maps, *(out / name for name in generators))))
    with Writer() as writer:
        for batch_paths, image in _batches(paths, lambda path: f"{path.stem}.png" in made, size, compute, "infer"):
            regions = fpn.regions(image)
            restored = {name: network(image, regions) for name, network in generators.items()}
            for i, path in enumerate(batch_paths):
                file = f"{path.stem}.png"
                writer.submit(labels.write, maps / file, regions[i].to(torch.uint8).cpu().numpy())
                for name, batch in restored.items():
                    writer.submit(images.write, out / name / file, to_image(batch[i]))


WAITING = 64  # files that may be waiting for the disk


class Writer:
    """Writes files beside the computation; an error of writing ends it when the next file is handed over, or at the end of the block."""

    def __enter__(self) -> "Writer":
        self.pool = ThreadPoolExecutor(1)
        self.jobs: deque[Future] = deque()
        return self

    def submit(self, write: Callable[..., None], *arguments: object) -> None:
        self.jobs.append(self.pool.submit(write, *arguments))
        while self.jobs and (self.jobs[0].done() or len(self.jobs) > WAITING):
            self.jobs.popleft().result()

    def __exit__(self, kind: type | None, *_) -> None:
        self.pool.shutdown(cancel_futures=kind is not None)
        while kind is None and self.jobs:
            self.jobs.popleft().result()
