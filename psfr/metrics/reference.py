"""Reference set of `fid_reference`: mean and covariance of its Inception features, from a file or of images."""

import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from psfr.compute import processes
from psfr.data import images
from psfr.metrics import pretrained_metrics
from psfr.utils.errors import UserError


class Reference(NamedTuple):
    """Normal distribution of Inception features: mean (2048,) and covariance (2048, 2048), float64."""

    mean: np.ndarray
    covariance: np.ndarray


def load(path: Path, network: nn.Module, batch_size: int, device: torch.device) -> Reference:
    """Return the statistics in an .npz file, or those of the images in a folder.

    Several processes share the images.

    Args:
        network: pytorch-fid's Inception network.

    Raises:
        UserError: the file holds no statistics as pytorch-fid writes them, or the folder fewer than two images or
            images of different sizes.
    """
    if path.suffix == ".npz":
        return _read(path)
    paths = images.list_images(path)
    if len(paths) < 2:
        raise UserError(f"{path}: a single image, which has no covariance: add more")
    if len({images.read_size(image) for image in paths}) > 1:
        raise UserError(f"{path}: images of different sizes: resize them to one size")
    return _measure(paths, network, batch_size, device)


def _read(path: Path) -> Reference:
    hint = "write it with `python -m pytorch_fid --save-stats FOLDER FILE.npz`"
    if not path.is_file():
        raise UserError(f"{path}: no such file: {hint}")
    try:
        with np.load(path) as arrays:
            reference = Reference(np.asarray(arrays["mu"], np.float64), np.asarray(arrays["sigma"], np.float64))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise UserError(f"{path}: holds no arrays mu and sigma: {hint}") from None
    dim = pretrained_metrics.FID_DIMENSIONS
    if [array.shape for array in reference] != [(dim,), (dim, dim)]:
        raise UserError(f"{path}: not statistics of {dim} features: {hint}")
    if not all(np.isfinite(array).all() for array in reference):
        raise UserError(f"{path}: has values that are not finite: {hint}")
    return reference


def _measure(paths: list[Path], network: nn.Module, batch_size: int, device: torch.device) -> Reference:
    """Return the statistics of images; the memory does not grow with their number."""
    batches = processes.shard([paths[start : start + batch_size] for start in range(0, len(paths), batch_size)])
    dim = pretrained_metrics.FID_DIMENSIONS
    total, products = np.zeros(dim), np.zeros((dim, dim))
    for batch in tqdm(batches, "FID features of the reference", unit="batch", disable=processes.get_rank() > 0):
        features = pretrained_metrics.inception_features(network, batch, device)
        total += features.sum(0)
        products += features.T @ features
    gathered = processes.all_gather_object((total, products))
    mean = np.sum([part for part, _ in gathered], axis=0) / len(paths)
    products = np.sum([part for _, part in gathered], axis=0)
    return Reference(mean, (products - len(paths) * np.outer(mean, mean)) / (len(paths) - 1))
