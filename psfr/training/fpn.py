"""Multi-task training of the face parsing network (the reimplementation, section Face Parsing Network)."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from psfr.compute import processes
from psfr.compute.devices import autocast, compute_dtype, get_device, num_workers
from psfr.data import images, labels
from psfr.data.datasets import make_dataloader, normalize, to_tensor
from psfr.data.degradation import degrade
from psfr.metrics.segmentation import confusion_matrix
from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.kernels import cache_kernels
from psfr.params import FaceParserParams, Params
from psfr.training.checkpoint import CheckpointManager
from psfr.training.initial import load_initial
from psfr.training.loop import all_reduce_gradients, training_loop
from psfr.training.scaling import LossScaler
from psfr.utils.errors import UserError, raise_all
from psfr.utils.seeds import derive_seed, rng_for

Batch = tuple[Tensor, Tensor, Tensor]  # lq, hq, seg


class LabeledFaceDataset(Dataset):
    """Faces with parsing maps, degraded anew in each epoch.

    A sample is addressed by (index, epoch) and consists of the network's input, the target of the restored image,
    both uint8 (H, W, 3), and the parsing map, uint8 (H, W). If the input is not degraded, it equals the target.

    Args:
        folder: the folder with images/NAME.png and labels/NAME.png.
        names: the faces to use.
        params: the experiment's parameters.
        degraded_fraction: maps an epoch to the fraction of its inputs that are degraded.
        flip: whether half of the samples are flipped horizontally, with the labels of left and right exchanged.
    """

    def __init__(
        self, folder: Path, names: list[str], params: Params, degraded_fraction: Callable[[int], float], flip: bool
    ):
        self.folder, self.names, self.params = folder, names, params
        self.degraded_fraction, self.flip = degraded_fraction, flip

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        index, epoch = key
        name, params = self.names[index], self.params
        rng = rng_for(params.seed, "fpn", name, epoch)
        hq = images.read(self.folder / "images" / f"{name}.png")
        seg = labels.read(self.folder / "labels" / f"{name}.png")
        lq = hq
        if rng.random() < self.degraded_fraction(epoch):
            lq, hq, _ = degrade(hq, name, f"fpn {epoch}", params.seed, params.degrade)
        if self.flip and rng.random() < 0.5:
            lq, hq, seg = lq[:, ::-1], hq[:, ::-1], labels.FLIP_MAP[seg[:, ::-1]]
        return to_tensor(lq), to_tensor(hq), to_tensor(seg)


def train_val_split(folder: Path, params: Params) -> tuple[list[str], list[str]]:
    """Split the names of the labeled faces at random, by the seed, into a training and a validation set.

    Raises:
        UserError: if images have no labels, or if there are too few faces for a batch.
    """
    names = [path.stem for path in images.list_images(folder / "images")]
    label_paths = [folder / "labels" / f"{name}.png" for name in names]
    raise_all([f"{path}: missing" for path in label_paths if not path.is_file()], "make it with `dvc repro`")
    shuffled = [names[i] for i in rng_for(params.seed, "fpn split").permutation(len(names))]
    num_val = max(1, round(len(names) * params.fpn.held_out))
    if params.fpn.source == "train" and len(names) - num_val < params.fpn.batch_size:
        raise UserError(
            f"{folder}: {len(names)} labeled faces are too few for batches of {params.fpn.batch_size}: raise "
            "celebamask.count or lower fpn.batch_size"
        )
    return sorted(shuffled[num_val:]), sorted(shuffled[:num_val])


def network_config(params: Params) -> dict[str, int]:
    """Return the arguments of `FaceParsingNetwork`."""
    names = ("base_channels", "min_channels", "max_channels", "min_feature_size", "body_blocks")
    return {"image_size": params.image_size, **{name: getattr(params.fpn, name) for name in names}}


def class_weights(folder: Path, names: list[str], power: float) -> Tensor:
    """Return the weights of the 19 labels in the cross entropy, float32 (19,).

    A weight is the label's share of all pixels to the power of `-power`, scaled to a mean weight of 1 over the pixels.
    """
    counts = np.zeros(labels.NUM_CLASSES, np.int64)
    for name in names:
        seg = labels.read(folder / "labels" / f"{name}.png")
        counts += np.bincount(seg.ravel(), minlength=labels.NUM_CLASSES)
    share = counts / counts.sum()
    weights = (share + 1e-4) ** -power
    return torch.from_numpy(weights / (weights * share).sum()).float()


def _constant_fraction(fraction: float, _epoch: int) -> float:
    """Return the fraction, for every epoch. A data loading process may be given functions of modules only."""
    return fraction


def _degraded_fraction(fpn: FaceParserParams, epoch: int) -> float:
    """Return the fraction of degraded inputs, which grows linearly to its final value over the first half."""
    # The network learns the regions faster on undegraded faces.
    return fpn.degraded * min(1, 2 * epoch / fpn.epochs)


def _batch_loss_scale(weights: Tensor, seg: Tensor) -> Tensor | float:
    """Return the factor by which this process's cross entropy contributes to the mean over the processes.

    The cross entropy is divided by the sum of the pixels' weights, which differs between the processes.
    """
    if processes.get_world_size() == 1:
        return 1.0
    weight_sum = weights[seg].sum()
    mean = weight_sum.clone()
    processes.all_reduce_mean_([mean])
    return weight_sum / mean


def train(
    folder: Path, names: list[str], params: Params, checkpoints: CheckpointManager
) -> tuple[FaceParsingNetwork, list[dict[str, float]]]:
    """Train the network on labeled faces, starting from the latest checkpoint if there is one.

    The loss is the cross entropy of the parsing map plus `fpn.lambda_image` times the L1 distance of the restored
    image.

    Args:
        folder: the folder with images/NAME.png and labels/NAME.png.
        names: the faces of the training set.
        params: the experiment's parameters.
        checkpoints: where the state of the training is saved.

    Returns:
        The network in evaluation mode, and for each epoch its number (epoch) and the means that `train_step` returns.

    Raises:
        UserError: see `training_loop`.
        KeyboardInterrupt: see `training_loop`.
    """
    torch.manual_seed(derive_seed(params.seed, "fpn"))
    device = get_device(params.compute)
    network = load_initial("fpn", FaceParsingNetwork, params.fpn.init, network_config(params))
    network = (network or FaceParsingNetwork(**network_config(params))).to(device).train()
    dataset = LabeledFaceDataset(folder, names, params, partial(_degraded_fraction, params.fpn), flip=True)
    weights = class_weights(folder, names, params.fpn.balance).to(device)
    optimizer = torch.optim.Adam(network.parameters(), params.fpn.learning_rate, fused=True)
    total_steps = params.fpn.epochs * (len(dataset) // params.fpn.batch_size)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, params.fpn.learning_rate, total_steps=total_steps + 1)

    scaler = LossScaler(device, compute_dtype(params.compute, device))
    modules: dict[str, Any] = {"network": network, "optimizer": optimizer, "scheduler": scheduler}
    if scaler.is_enabled():
        modules["scaler"] = scaler

    def step_fn(batch: Batch, _: int) -> dict[str, Tensor]:
        lq, hq, seg = (tensor.to(device, non_blocking=True) for tensor in batch)
        losses = train_step(network, optimizer, (normalize(lq), normalize(hq), seg.long()), weights, params, scaler)
        scheduler.step()
        return losses

    history = training_loop(
        name="fpn",
        dataset=dataset,
        sample_names=names,
        modules=modules,
        step_fn=step_fn,
        batch_size=params.fpn.batch_size,
        epochs=params.fpn.epochs,
        seed=params.seed,
        num_workers=num_workers(params.compute),
        device=device,
        checkpoints=checkpoints,
    )
    return network.eval(), [{"epoch": epoch, **means} for epoch, means in enumerate(history, 1)]


def train_step(
    network: FaceParsingNetwork,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    weights: Tensor,
    params: Params,
    scaler: LossScaler | None = None,
) -> dict[str, Tensor]:
    """Train on this process's part of a batch.

    Args:
        network: the network in training mode, changed in place.
        optimizer: the optimizer of the network, changed in place.
        batch: input and target images, float (B, 3, H, W) in [-1, 1], and parsing maps, int64 (B, H, W).
        weights: the result of `class_weights`, on the device of the network.
        params: the experiment's parameters.
        scaler: the scaler of the loss, changed in place; needed with float16 only.

    Returns:
        The losses, detached, by name (cross_entropy, l1). With float16 also skipped, which is 1 if the network was not
        updated because its gradients overflowed, else 0.
    """
    lq, hq, seg = batch
    dtype = compute_dtype(params.compute, lq.device)
    scaler = scaler or LossScaler(lq.device, dtype)
    optimizer.zero_grad(set_to_none=True)
    with cache_kernels(network, dtype):
        with autocast(params.compute, lq.device):
            logits, restored = network(lq)
        cross_entropy, l1 = F.cross_entropy(logits.float(), seg, weights), F.l1_loss(restored.float(), hq)
        cross_entropy = cross_entropy * _batch_loss_scale(weights, seg)
        scaler.scale(cross_entropy + params.fpn.lambda_image * l1).backward()
    all_reduce_gradients(network)
    scaler.step(optimizer)
    losses = {"cross_entropy": cross_entropy.detach(), "l1": l1.detach()}
    if scaler.is_enabled():
        losses["skipped"] = scaler.skipped(optimizer)
    scaler.update()
    return losses


@torch.inference_mode()
def evaluate(network: FaceParsingNetwork, folder: Path, names: list[str], params: Params, degraded: bool) -> np.ndarray:
    """Return the confusion matrix of the network, int64 (19, 19), true label by predicted label.

    Args:
        network: the network in evaluation mode.
        folder: the folder with images/NAME.png and labels/NAME.png.
        names: the faces to evaluate.
        params: the experiment's parameters.
        degraded: whether the faces are degraded first.
    """
    device = get_device(params.compute)
    dataset = LabeledFaceDataset(folder, names, params, partial(_constant_fraction, float(degraded)), flip=False)
    # The training's epochs count from 0, so it never sees the degradation of epoch -1.
    keys = [(index, -1) for index in range(len(names))]
    batches = [keys[start : start + params.fpn.batch_size] for start in range(0, len(keys), params.fpn.batch_size)]
    matrix = np.zeros((labels.NUM_CLASSES, labels.NUM_CLASSES), np.int64)
    loader = make_dataloader(dataset, processes.shard(batches), num_workers(params.compute), device)
    for lq, _, seg in loader:
        with autocast(params.compute, device):
            logits, _ = network(normalize(lq.to(device, non_blocking=True)))
        matrix += confusion_matrix(logits.argmax(1).cpu().numpy(), seg.numpy())
    return np.sum(processes.all_gather_object(matrix), axis=0)
