"""Datasets of image files, and data loading."""

import multiprocessing
import signal
from collections.abc import Iterable, Iterator, Sized
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from psfr.data import images, labels
from psfr.utils.errors import UserError
from psfr.utils.seeds import rng_for


def to_tensor(array: np.ndarray) -> Tensor:
    """Convert an image or a parsing map, uint8 (H, W, 3) or (H, W), to a tensor of the same shape and values.

    Call `normalize` on the device to convert images to what networks take.
    """
    return torch.from_numpy(np.ascontiguousarray(array))


def normalize(pixels: Tensor) -> Tensor:
    """Convert images from uint8 (B, H, W, 3) to float32 (B, 3, H, W) in [-1, 1], in channels-last memory format."""
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_image(tensor: Tensor) -> np.ndarray:
    """Convert images from float (..., 3, H, W) in [-1, 1] to uint8 (..., H, W, 3); other values are clipped."""
    pixels = ((tensor.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pixels.movedim(-3, -1).cpu().numpy()


class VariantBatchSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (index, epoch), in an order that depends on the seed and the epoch only.

    The dataset selects by the epoch which degraded variant of an image it loads. An incomplete last batch is dropped.
    Each process gets its part of every batch.

    Set `epoch` and `start_batch`, the number of batches to skip, before an iteration.

    Args:
        num_images: number of images; if they are fewer than `batch_size`, a batch consists of all of them.
        batch_size: images per batch, over all processes.
        seed: seed of the order.
        rank: rank of this process.
        world_size: number of processes.

    Raises:
        UserError: if `world_size` does not divide the batch.
    """

    def __init__(self, num_images: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1):
        self.num_images, self.seed = num_images, seed
        self.batch_size = min(batch_size, num_images)
        if self.batch_size % world_size:
            raise UserError(
                f"compute.devices: {world_size} processes cannot share batches of {self.batch_size} images evenly: "
                "choose a divisor of it"
            )
        local_batch_size = self.batch_size // world_size
        self.local_slice = slice(rank * local_batch_size, (rank + 1) * local_batch_size)
        self.epoch = 0
        self.start_batch = 0

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return self.num_images // self.batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return iter([self.batch(self.epoch, index) for index in range(self.start_batch, len(self))])

    def batch(self, epoch: int, index: int) -> list[tuple[int, int]]:
        """Return this process's part of a batch, by its index in the epoch."""
        order = _order(self.num_images, self.seed, epoch)
        batch = order[index * self.batch_size : (index + 1) * self.batch_size]
        return [(image, epoch) for image in batch[self.local_slice].tolist()]


@lru_cache(maxsize=1)
def _order(num_images: int, seed: int, epoch: int) -> np.ndarray:
    return rng_for(seed, "order", epoch).permutation(num_images)


class PairedFaceDataset(Dataset):
    """Training set of the GAN: pairs of high-quality and degraded images, with the parsing map of each.

    A sample is addressed by (index, epoch) and consists of `hq`, `lq`, both uint8 (H, W, 3), `hq_seg` and `lq_seg`,
    both uint8 (H, W). Each epoch loads the next degraded variant of an image.

    Args:
        hr: the folder of high-quality images, hr/NAME.png.
        lr: the folder of degraded images, lr/VARIANT/NAME.png with variants 0, 1, ...
        parse: the folder of parsing maps, parse/hr/NAME.png and parse/lr/VARIANT/NAME.png.
        gray: (name, variant) of the images that were converted to gray before their degradation; their target is
            gray, too.
        names: the images of the set, all of `hr` by default.
        flip: probability with which a sample is flipped horizontally, with the labels of left and right exchanged.
        seed: seed of the flips.

    Raises:
        UserError: if files are missing; it names the first and says how many there are.
    """

    def __init__(
        self,
        hr: Path,
        lr: Path,
        parse: Path,
        gray: set[tuple[str, int]],
        names: list[str] | None = None,
        flip: float = 0,
        seed: int = 0,
    ):
        self.hr, self.lr, self.parse, self.gray = hr, lr, parse, gray
        self.flip, self.seed = flip, seed
        self.names = [path.stem for path in images.list_images(hr)] if names is None else names
        self.num_variants = len([folder for folder in lr.iterdir() if folder.name.isdigit()])
        missing = self._missing_files()
        if missing:
            raise UserError(f"{missing[0]}: missing, and {len(missing) - 1} more: make them with `dvc repro parse`")

    def _missing_files(self) -> list[Path]:
        folders = [self.hr, self.parse / "hr"]
        for variant in range(self.num_variants):
            folders += [self.lr / str(variant), self.parse / "lr" / str(variant)]
        missing = []
        for folder in folders:
            existing = images.existing_names(folder)
            missing += [folder / f"{name}.png" for name in self.names if f"{name}.png" not in existing]
        if not missing and not self.num_variants:
            missing.append(self.lr / "0")
        return missing

    def paths(self, name: str, variant: int) -> tuple[Path, Path, Path, Path]:
        """Return the files of a sample, in its order."""
        file, folder = f"{name}.png", str(variant)
        return self.hr / file, self.lr / folder / file, self.parse / "hr" / file, self.parse / "lr" / folder / file

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        index, epoch = key
        name, variant = self.names[index], epoch % self.num_variants
        hq_path, lq_path, hq_seg_path, lq_seg_path = self.paths(name, variant)
        hq = images.read(hq_path)
        if (name, variant) in self.gray:
            hq = images.gray(hq)
        lq, hq_seg, lq_seg = images.read(lq_path), labels.read(hq_seg_path), labels.read(lq_seg_path)
        if self.flip and rng_for(self.seed, "flip", name, epoch).random() < self.flip:
            hq, lq = hq[:, ::-1], lq[:, ::-1]
            hq_seg, lq_seg = labels.FLIP_MAP[hq_seg[:, ::-1]], labels.FLIP_MAP[lq_seg[:, ::-1]]
        return to_tensor(hq), to_tensor(lq), to_tensor(hq_seg), to_tensor(lq_seg)


def make_dataloader(dataset: Dataset, batches: Iterable[list], num_workers: int, device: torch.device) -> DataLoader:
    """Create a loader of the given batches of keys.

    Args:
        dataset: maps a key to a sample.
        batches: the keys of each batch.
        num_workers: data loading processes, each with one thread; 0 loads in this process, as a single batch does.
        device: where the batches are used; the loader leaves them on the CPU, in pinned memory for a GPU.
    """
    if isinstance(batches, Sized) and len(batches) == 1:
        num_workers = 0
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=num_workers,
        # A process that is not forked takes seconds to start, so it also serves the following epochs.
        persistent_workers=num_workers > 0 and multiprocessing.get_start_method() != "fork",
        pin_memory=device.type == "cuda",  # pinning opens a CUDA context
        worker_init_fn=_init_worker,
        generator=torch.Generator(),  # its own, because the state of torch's default generator belongs to the training
    )


def _init_worker(_: int) -> None:
    """Prepare a data loading process, which may have been forked or not.

    It leaves Ctrl-C, which reaches all processes, to the one that started it, and ends with that one. OpenCV is limited
    to the thread of the process, as torch does with its own: each core has a process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)  # 1 would hang: it joins OpenCV's threads, which a forked process does not have
