"""Inference over folders of images: face parsing and restoration."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from psfr.compute import processes
from psfr.compute.devices import get_device, num_workers
from psfr.data import images, labels
from psfr.data.datasets import make_dataloader, normalize, to_image, to_tensor
from psfr.networks.inference.fpn import FusedParsingNetwork
from psfr.params import ComputeParams
from psfr.utils.errors import UserError

MAX_PENDING = 64  # files that wait to be written, in memory


@torch.inference_mode()
def parse(
    face_parser: FusedParsingNetwork,
    paths: list[Path],
    seg_dir: Path,
    size: int,
    compute: ComputeParams,
    description: str,
) -> None:
    """Predict the parsing map of every image and write it to seg_dir/NAME.png.

    Existing maps are kept. Distributed processes share the work.

    Args:
        face_parser: on the device that `compute` selects.
        paths: square images of side `size`.
        seg_dir: where the maps are written; each is a PNG of labels with `size` x `size` pixels.
        size: side length of the images in pixels.
        compute: device, batch size and data loading processes.
        description: label of the progress bar.

    Raises:
        UserError: an image is unreadable or of another size, or a file cannot be written.
    """
    existing = images.existing_names(seg_dir)
    with AsyncWriter() as writer:
        for batch_paths, batch in _pending_batches(paths, existing, size, compute, description):
            segs = face_parser.predict_seg(batch).to(torch.uint8).cpu().numpy()
            for path, seg in zip(batch_paths, segs, strict=True):
                writer.submit(labels.write, seg_dir / f"{path.stem}.png", seg)


@torch.inference_mode()
def restore(
    face_parser: FusedParsingNetwork,
    generators: Mapping[str, Callable[[Tensor, Tensor], Tensor]],
    paths: list[Path],
    out: Path,
    seg_dir: Path,
    size: int,
    compute: ComputeParams,
) -> None:
    """Restore every image with every generator and write the results to out/MODEL/NAME.png.

    The parsing map, which is the same for all generators, is written to seg_dir/NAME.png. An image whose files all
    exist is skipped. Distributed processes share the work.

    Args:
        face_parser: on the device that `compute` selects, as are the generators.
        generators: by the name of the model; called with images and parsing maps, as `Generator.forward`.
        paths: degraded square images of side `size`.
        out: folder of the restored images, RGB PNGs with `size` x `size` pixels.
        seg_dir: folder of the parsing maps.
        size: side length of the images in pixels.
        compute: device, batch size and data loading processes.

    Raises:
        UserError: an image is unreadable or of another size, or a file cannot be written.
    """
    existing = images.existing_names(seg_dir)
    for name in generators:
        existing &= images.existing_names(out / name)
    with AsyncWriter() as writer:
        for batch_paths, lq in _pending_batches(paths, existing, size, compute, "infer"):
            seg = face_parser.predict_seg(lq)
            restored = {name: to_image(generator(lq, seg)) for name, generator in generators.items()}
            segs = seg.to(torch.uint8).cpu().numpy()
            for i, path in enumerate(batch_paths):
                file = f"{path.stem}.png"
                writer.submit(labels.write, seg_dir / file, segs[i])
                for name, batch in restored.items():
                    writer.submit(images.write, out / name / file, batch[i])


def _pending_batches(
    paths: list[Path], existing: set[str], size: int, compute: ComputeParams, description: str
) -> Iterator[tuple[list[Path], Tensor]]:
    """Yield this process's share of the batches that have images without a file of their name in `existing`.

    The composition of a batch depends neither on the existing files nor on the number of processes, because rounding
    may differ between batches.

    Yields:
        The paths of the batch, and its images, float32 (B, 3, size, size) in [-1, 1] on the device.
    """
    device = get_device(compute)
    pending = []
    for start in range(0, len(paths), compute.batch_size):
        indices = list(range(start, min(start + compute.batch_size, len(paths))))
        if not all(f"{paths[index].stem}.png" in existing for index in indices):
            pending.append(indices)
    # All processes take rank 0's list: one that starts later sees more files, and would compute other shards.
    pending = processes.shard(processes.broadcast_from_rank_zero(pending))
    num_images = sum(len(indices) for indices in pending)
    with tqdm(total=num_images, desc=description, unit="image", disable=processes.get_rank() > 0) as progress:
        for indices, levels in make_dataloader(ImageFiles(paths, size), pending, num_workers(compute), device):
            yield [paths[index] for index in indices.tolist()], normalize(levels.to(device, non_blocking=True))
            progress.update(len(indices))


class ImageFiles(Dataset):
    """Dataset of square image files of one size.

    Args:
        paths: the image files.
        size: their side length in pixels.
    """

    def __init__(self, paths: list[Path], size: int):
        self.paths = paths
        self.size = size

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, Tensor]:
        """Return the index and the image, uint8 (size, size, 3).

        Raises:
            UserError: the image is unreadable or of another size.
        """
        path = self.paths[index]
        image = images.read(path)
        height, width = image.shape[:2]
        if (height, width) != (self.size, self.size):
            raise UserError(
                f"{path}: {width}x{height} pixels, expected {self.size}x{self.size}: resize it, or change image_size"
            )
        return index, to_tensor(image)


class AsyncWriter:
    """Context manager that writes files in a thread while the next batch is computed.

    An error of a write is raised by a later `submit`, or at the end of the block.
    """

    def __enter__(self) -> "AsyncWriter":
        self.executor = ThreadPoolExecutor(1)
        self.pending: deque[Future] = deque()
        return self

    def submit(self, write: Callable[..., None], *args: object) -> None:
        """Schedule `write(*args)`; block while more than `MAX_PENDING` writes are pending."""
        self.pending.append(self.executor.submit(write, *args))
        while self.pending and (self.pending[0].done() or len(self.pending) > MAX_PENDING):
            self.pending.popleft().result()

    def __exit__(self, error_type: type[BaseException] | None, *_) -> None:
        self.executor.shutdown(cancel_futures=error_type is not None)
        while error_type is None and self.pending:
            self.pending.popleft().result()
