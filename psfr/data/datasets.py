"""Pictures on disk as samples for a network."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from psfr.data import images, labels
from psfr.utils.errors import InputError
from psfr.utils.seeds import generator


def to_tensor(array: np.ndarray) -> Tensor:
    """Levels or labels as they are, uint8 (H, W, 3) or (H, W); `to_unit` makes images of the levels, on the device."""
    return torch.from_numpy(np.ascontiguousarray(array))


def to_unit(levels: Tensor) -> Tensor:
    """uint8 (B, H, W, 3) to images, float32 (B, 3, H, W) in [-1, 1], in channels-last layout."""
    return levels.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_image(image: Tensor) -> np.ndarray:
    """One picture, float (3, H, W) in [-1, 1] (what lies outside is clipped), to uint8 (H, W, 3)."""
    levels = ((image.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return levels.permute(1, 2, 0).cpu().numpy()


class ShuffledVariants(Sampler[list[tuple[int, int]]]):
    """Batches of pairs (index, epoch) in an order that belongs to (seed, epoch) alone; each epoch takes the next variant of every image.

    What is left over for a last batch is left out. Each process takes its share of every batch.

    Args:
        length: images; if they are fewer than a batch, they are the batch.
        batch_size: images of a batch, over all processes.
        rank, processes: which share of each batch this process takes.

    Raises:
        InputError: a batch cannot be shared evenly.
    """

    def __init__(self, length: int, batch_size: int, seed: int, rank: int = 0, processes: int = 1):
        self.length, self.seed = length, seed
        self.batch_size = min(batch_size, length)
        if self.batch_size % processes:
            raise InputError(
                f"compute.devices: {processes} processes cannot share batches of {self.batch_size} images evenly: choose a divisor of it"
            )
        share = self.batch_size // processes
        self.mine = slice(rank * share, (rank + 1) * share)
        self.epoch = 0
        self.start = 0  # batches of the epoch that are passed over

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self.length // self.batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return iter([self.batch(self.epoch, place) for place in range(self.start, len(self))])

    def batch(self, epoch: int, place: int) -> list[tuple[int, int]]:
        """This process's share of one batch of an epoch."""
        indices = _order(self.length, self.seed, epoch)[place * self.batch_size : (place + 1) * self.batch_size][
            self.mine
        ]
        return [(index, epoch) for index in indices.tolist()]


@lru_cache(maxsize=1)
def _order(length: int, seed: int, epoch: int) -> np.ndarray:
    return generator(seed, "order", epoch).permutation(length)


class Quartets(Dataset):
    """The training samples of the GAN: high-quality and degraded image, and the region map of each.

    Args:
        hr: folder of high-quality images.
        lr: folder with a folder of degraded images for each variant, 0, 1, ...
        parse: folder of region maps, laid out as hr and lr together: parse/hr and parse/lr.
        gray: names and variants of the images that were made grey before they were degraded: their target is grey too.

    Raises:
        InputError: an image without its degraded copies or maps; every missing file is counted, the first is named.
    """

    def __init__(self, hr: Path, lr: Path, parse: Path, gray: set[tuple[str, int]]):
        self.hr, self.lr, self.parse, self.gray = hr, lr, parse, gray
        self.names = [path.stem for path in images.listed(hr)]
        self.variants = len([folder for folder in lr.iterdir() if folder.name.isdigit()])
        folders = [
            hr,
            parse / "hr",
            *(folder / str(variant) for variant in range(self.variants) for folder in (lr, parse / "lr")),
        ]
        missing = [
            folder / f"{name}.png"
            for folder in folders
            for there in [images.there(folder)]
            for name in self.names
            if f"{name}.png" not in there
        ]
        if missing or not self.variants:
            raise InputError(
                f"{missing[0] if missing else lr / '0'}: missing, and {max(len(missing) - 1, 0)} more: make them with `dvc repro parse`"
            )

    def paths(self, name: str, variant: int) -> tuple[Path, Path, Path, Path]:
        """The files of a sample: high-quality and degraded image, and the map of each."""
        file, folder = f"{name}.png", str(variant)
        return self.hr / file, self.lr / folder / file, self.parse / "hr" / file, self.parse / "lr" / folder / file

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """For (index, epoch): high and degraded image, uint8 (H, W, 3), and the labels of each, uint8 (H, W)."""
        index, epoch = key
        name, variant = self.names[index], epoch % self.variants
        hr, lr, hr_map, lr_map = self.paths(name, variant)
        high = images.read(hr)
        if (name, variant) in self.gray:
            high = images.gray(high)
        return (
            to_tensor(high),
            to_tensor(images.read(lr)),
            to_tensor(labels.read(hr_map)),
            to_tensor(labels.read(lr_map)),
        )


def loader(dataset: Dataset, batches: Iterable[list], workers: int) -> DataLoader:
    """The batches of keys that `batches` gives, prepared beside the computation by `workers` processes (0: none)."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # its own: the state of torch's is the training's
    )
