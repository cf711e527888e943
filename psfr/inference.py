"""The trained networks on folders of images."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm

from psfr import images, labels
from psfr.datasets import loader, to_image, to_tensor, to_unit
from psfr.devices import autocast, device, precision, workers
from psfr.errors import InputError
from psfr.networks.blocks import fold
from psfr.networks.fpn import FaceParsingNetwork
from psfr.params import Compute


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
            raise InputError(f"{self.paths[index]}: {image.shape[1]}x{image.shape[0]} pixels, {self.size}x{self.size} are needed: resize it, or set image_size")
        return index, to_tensor(image)


def _batches(paths: list[Path], size: int, compute: Compute, description: str) -> Iterator[tuple[list[Path], Tensor]]:
    where = device(compute)
    with tqdm(total=len(paths), desc=description, unit="image") as progress:
        for places, batch in loader(ImageFiles(paths, size), compute.batch_size, range(len(paths)), workers(compute), drop_last=False):
            yield [paths[place] for place in places.tolist()], to_unit(batch.to(where))
            progress.update(len(places))


@torch.inference_mode()
def parse(fpn: FaceParsingNetwork, paths: list[Path], out: Path, size: int, compute: Compute, description: str) -> None:
    """Write the region map of every image as out/NAME.png."""
    where = device(compute)
    fpn = fold(fpn.to(where), precision(compute, where))
    with ThreadPoolExecutor(1) as writer:
        jobs = []
        for batch_paths, image in _batches(paths, size, compute, description):
            with autocast(compute, where):
                regions = fpn.regions(image).to(torch.uint8).cpu().numpy()
            jobs += [writer.submit(labels.write, out / f"{path.stem}.png", region) for path, region in zip(batch_paths, regions, strict=True)]
        for job in jobs:
            job.result()


@torch.inference_mode()
def restore(fpn: FaceParsingNetwork, generators: dict[str, nn.Module], paths: list[Path], out: Path, maps: Path, size: int, compute: Compute) -> None:
    """Restore every image with every generator, as out/MODEL/NAME.png; the region map that they saw goes to maps/NAME.png."""
    where = device(compute)
    fpn = fold(fpn.to(where), precision(compute, where))
    generators = {name: fold(network.to(where), precision(compute, where)) for name, network in generators.items()}
    with ThreadPoolExecutor(1) as writer:
        jobs = []
        for batch_paths, image in _batches(paths, size, compute, "infer"):
            with autocast(compute, where):
                regions = fpn.regions(image)
                restored = {name: network(image, regions) for name, network in generators.items()}
            for i, path in enumerate(batch_paths):
                file = f"{path.stem}.png"
                jobs.append(writer.submit(labels.write, maps / file, regions[i].to(torch.uint8).cpu().numpy()))
                jobs += [writer.submit(images.write, out / name / file, to_image(batch[i])) for name, batch in restored.items()]
        for job in jobs:
            job.result()
