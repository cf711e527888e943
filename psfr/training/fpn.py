"""Multi-task training of the face parsing network (article, section Face Parsing Network)."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from psfr.compute import processes
from psfr.compute.devices import autocast, device, precision, workers
from psfr.data import images, labels
from psfr.data.datasets import loader, to_tensor, to_unit
from psfr.data.degradation import degraded_copy
from psfr.metrics.segmentation import confusion
from psfr.networks.blocks import kernels
from psfr.networks.fpn import FaceParsingNetwork
from psfr.params import Fpn, Params
from psfr.training import loop
from psfr.training.checkpoint import Snapshots
from psfr.training.loop import Course
from psfr.utils.errors import InputError, raise_together
from psfr.utils.seeds import generator, seed_of


class LabelledFaces(Dataset):
    """Faces with region maps, degraded anew for each epoch.

    Args:
        folder: holds images/NAME.png and labels/NAME.png.
        names: the faces to take.
        degraded: share of the inputs that are degraded, in each epoch.
        mirrored: whether half of the samples are mirrored, left and right regions exchanged.
    """

    def __init__(
        self, folder: Path, names: list[str], params: Params, degraded: Callable[[int], float], mirrored: bool
    ):
        self.folder, self.names, self.params, self.degraded, self.mirrored = folder, names, params, degraded, mirrored

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """For (index, epoch): input and restored target, uint8 (H, W, 3), and labels, uint8 (H, W)."""
        index, epoch = key
        name, params = self.names[index], self.params
        rng = generator(params.seed, "fpn", name, epoch)
        high = images.read(self.folder / "images" / f"{name}.png")
        regions = labels.read(self.folder / "labels" / f"{name}.png")
        low = high
        if rng.random() < self.degraded(epoch):
            low, high, _ = degraded_copy(high, name, f"fpn {epoch}", params.seed, params.degrade)
        if self.mirrored and rng.random() < 0.5:
            low, high, regions = low[:, ::-1], high[:, ::-1], labels.MIRRORED[regions[:, ::-1]]
        return to_tensor(low), to_tensor(high), to_tensor(regions)


def split(folder: Path, params: Params) -> tuple[list[str], list[str]]:
    """The labelled faces' names, for training and held out, by the seed.

    Raises:
        InputError: images without labels, or too few faces to train on.
    """
    names = [path.stem for path in images.listed(folder / "images")]
    raise_together(
        [
            f"{folder / 'labels' / name}.png: missing"
            for name in names
            if not (folder / "labels" / f"{name}.png").is_file()
        ],
        "make it with `dvc repro`",
    )
    order = [names[i] for i in generator(params.seed, "fpn split").permutation(len(names))]
    kept = max(1, round(len(names) * params.fpn.held_out))
    if params.fpn.source == "train" and len(names) - kept < params.fpn.batch_size:
        raise InputError(
            f"{folder}: {len(names)} labelled faces are too few for batches of {params.fpn.batch_size}: raise celebamask.count or lower fpn.batch_size"
        )
    return sorted(order[kept:]), sorted(order[:kept])


def sizes(params: Params) -> dict[str, int]:
    """The network's arguments as params give them."""
    names = ("base_channels", "min_channels", "max_channels", "min_feature_size", "body_blocks")
    return {"image_size": params.image_size, **{name: getattr(params.fpn, name) for name in names}}


def label_weights(folder: Path, names: list[str], power: float) -> Tensor:
    """Weights of the 19 labels in the cross entropy, float32 (19,), by their share of the pixels; their mean over the pixels is 1."""
    counts = sum(
        np.bincount(labels.read(folder / "labels" / f"{name}.png").ravel(), minlength=labels.COUNT) for name in names
    )
    share = counts / counts.sum()
    weights = (share + 1e-4) ** -power
    return torch.from_numpy(weights / (weights * share).sum()).float()


def _share_degraded(fpn: Fpn, epoch: int) -> float:
    """Whole faces first: what a region looks like is learnt faster on them, and the degraded ones build on it."""
    return fpn.degraded * min(1, 2 * epoch / fpn.epochs)


def _weight_in_batch(balance: Tensor, regions: Tensor) -> Tensor | float:
    """What the cross entropy of this process's part counts in the mean over the processes, so that it is that of the whole batch."""
    if processes.count() == 1:
        return 1.0
    own = balance[regions].sum()
    mean = own.clone()
    processes.mean_([mean])
    return own / mean


def train(
    folder: Path, names: list[str], params: Params, kept: Snapshots
) -> tuple[FaceParsingNetwork, list[dict[str, float]]]:
    """Train a network on labelled faces, from the newest snapshot if there is one: cross entropy of the map, and L1 of the restored image.

    Returns:
        The network in evaluation mode, and each epoch's mean losses: epoch, cross_entropy, l1.

    Raises:
        InputError, KeyboardInterrupt: as `loop.run`.
    """
    torch.manual_seed(seed_of(params.seed, "fpn"))
    where = device(params.compute)
    network = FaceParsingNetwork(**sizes(params)).to(where)
    faces = LabelledFaces(folder, names, params, partial(_share_degraded, params.fpn), mirrored=True)
    balance = label_weights(folder, names, params.fpn.balance).to(where)
    optimizer = torch.optim.Adam(network.parameters(), params.fpn.learning_rate, fused=True)
    steps = params.fpn.epochs * (len(faces) // params.fpn.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, params.fpn.learning_rate, total_steps=steps + 1)

    def step(batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        low, high, regions = (tensor.to(where, non_blocking=True) for tensor in batch)
        low, high, regions = to_unit(low), to_unit(high), regions.long()
        optimizer.zero_grad(set_to_none=True)
        with kernels(network, precision(params.compute, where)):
            with autocast(params.compute, where):
                logits, restored = network(low)
            cross_entropy, l1 = F.cross_entropy(logits.float(), regions, balance), F.l1_loss(restored.float(), high)
            cross_entropy = cross_entropy * _weight_in_batch(balance, regions)
            (cross_entropy + params.fpn.lambda_image * l1).backward()
        processes.mean_(parameter.grad for parameter in network.parameters())
        optimizer.step()
        schedule.step()
        return {"cross_entropy": cross_entropy.detach(), "l1": l1.detach()}

    state = {"network": network, "optimizer": optimizer, "schedule": schedule}
    history = loop.run(Course("fpn", faces, names, params.fpn.batch_size, params.fpn.epochs, state, step), params, kept)
    return network.eval(), [{"epoch": epoch, **means} for epoch, means in enumerate(history, 1)]


@torch.inference_mode()
def evaluate(network: FaceParsingNetwork, folder: Path, names: list[str], params: Params, degraded: bool) -> np.ndarray:
    """The confusion matrix (19, 19), true label by predicted label, of the network on faces as they are or degraded."""
    where = device(params.compute)
    faces = LabelledFaces(folder, names, params, lambda epoch: float(degraded), mirrored=False)
    # Epochs count from 0: the degradation of epoch -1 is one that training never saw.
    keys = [(index, -1) for index in range(len(names))]
    batches = [keys[start : start + params.fpn.batch_size] for start in range(0, len(keys), params.fpn.batch_size)]
    matrix = np.zeros((labels.COUNT, labels.COUNT), np.int64)
    for low, _, regions in loader(faces, processes.share(batches), workers(params.compute)):
        with autocast(params.compute, where):
            logits, _ = network(to_unit(low.to(where)))
        matrix += confusion(logits.argmax(1).cpu().numpy(), regions.numpy())
    return sum(processes.gathered(matrix))
