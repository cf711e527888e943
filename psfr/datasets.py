"""Pictures on disk as samples for a network."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from psfr import images, labels
from psfr.errors import InputError
from psfr.seeds import generator


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


class ShuffledVariants(Sampler[tuple[int, int]]):
    """Pairs (index, epoch) in an order that belongs to (seed, epoch) alone; each epoch takes the next variant of every image."""

    def __init__(self, length: int, seed: int):
        self.length = length
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = generator(self.seed, "order", self.epoch).permutation(self.length)
        return iter([(int(index), self.epoch) for index in order])


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
        missing = [path for name in self.names for variant in range(self.variants) for path in self.paths(name, variant) if not path.is_file()]
        if missing or not self.variants:
            raise InputError(f"{missing[0] if missing else lr / '0'}: missing, and {max(len(missing) - 1, 0)} more: make them with `dvc repro parse`")

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
        return to_tensor(high), to_tensor(images.read(lr)), to_tensor(labels.read(hr_map)), to_tensor(labels.read(lr_map))


def loader(dataset: Dataset, batch_size: int, sampler: Sampler, workers: int, drop_last: bool) -> DataLoader:
    """Batches, prepared beside the computation by `workers` processes (0: none)."""
    return DataLoader(
        dataset,
        batch_size,
        sampler=sampler,
        num_workers=workers,
        drop_last=drop_last,
        persistent_workers=False,
        pin_memory=torch.cuda.is_available(),
    )
