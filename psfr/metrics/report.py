"""What the metrics say of each version of the test images: for each image, for the whole set, and how sure that is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from psfr.compute import parallel, processes
from psfr.compute.parallel import Pool
from psfr.data import datasets, images
from psfr.metrics import bootstrap, fidelity, frechet, identity, st_lpips
from psfr.metrics.testset import TRUE, FacesUnderTest
from psfr.pretrained import metric_files

# In the order of the report. The first group has a value for each image, the second only for a set of images.
OF_IMAGES = ("psnr", "ssim", "lpips", "st_lpips", "identity")
OF_SETS = ("fid", "frechet_vgg16")
METRICS = ("psnr", "ssim", "lpips", "fid", "st_lpips", "identity", "frechet_vgg16")

DIGITS = 6  # that are written

LOSSLESS = "between folders of lossless PNGs; the article's folders held JPEGs of Pillow's default quality, so its figures are not quite comparable"


@dataclass
class Measured:
    """values[version][metric]: (images,); features[metric][version, or TRUE]: (images, dimensions); reasons[metric]: why it has no value."""

    names: list[str]
    values: dict[str, dict[str, np.ndarray]]
    features: dict[str, dict[str, np.ndarray]]
    reasons: dict[str, list[str]] = field(default_factory=dict)

    def statistic(self, version: str, metric: str) -> Callable[[np.ndarray], float]:
        """The metric of the set that the images of some indices make up."""
        if metric in OF_SETS:
            restored, true = self.features[metric][version], self.features[metric][TRUE]
            return lambda indices: frechet.distance(restored[indices], true[indices])
        values = self.values[version][metric]
        if metric == "psnr":
            return lambda indices: fidelity.psnr_of_set(values[indices])
        return lambda indices: float(values[indices].mean())

    def table(self) -> pd.DataFrame:
        """One row for each image and version."""
        frames = [
            pd.DataFrame({"name": self.names, "model": version, **values}) for version, values in self.values.items()
        ]
        return pd.concat(frames, ignore_index=True).sort_values(["name", "model"], kind="stable", ignore_index=True)


def measure(testset: FacesUnderTest, folder: Path, batch_size: int, device: torch.device, pool: Pool) -> Measured:
    """Compute every metric whose weights are in `folder`, for every version of the test images; the first process gets them all.

    Raises:
        InputError: an image cannot be read, or weights are damaged, or those of ST-LPIPS or of the faces' identity are missing.
    """
    measured = Measured(testset.names, {version: {} for version in testset.versions}, {})
    distance = {
        "psnr": fidelity.psnr,
        "ssim": fidelity.ssim,
        "st_lpips": st_lpips.network(folder, "alex").to(device),
    }
    if reason := _absent(folder, metric_files.VGG16):
        measured.reasons["lpips"] = [reason]
    else:
        from psfr.metrics import offline  # here, as it takes long to import and most runs have no use for it

        distance["lpips"] = offline.Lpips(folder, device)
    vgg = st_lpips.network(folder, "vgg").to(device)

    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        rows: list[dict[tuple[str, str], Tensor]] = []
        for batch in _batches(testset.names, batch_size):
            true = _read(testset, TRUE, batch, device)
            row = {(TRUE, "frechet_vgg16"): st_lpips.deepest_features(vgg, true).cpu()}
            for version in testset.versions:
                restored = _read(testset, version, batch, device)
                row[version, "frechet_vgg16"] = st_lpips.deepest_features(vgg, restored).cpu()
                row |= {
                    (version, metric): function(restored, true).reshape(-1).cpu()
                    for metric, function in distance.items()
                }
            rows.append(row)
        rows = processes.unshared(rows)
        joined = {key: torch.cat([row[key] for row in rows]).double().numpy() for key in rows[0]}

    _measure_fid(measured, testset, folder, batch_size, device)
    if processes.rank():
        return measured
    measured.features["frechet_vgg16"] = {
        version: joined[version, "frechet_vgg16"] for version in (TRUE, *testset.versions)
    }
    versions = [[testset.path(version, name) for version in (TRUE, *testset.versions)] for name in testset.names]
    persons = np.array(parallel.each(partial(identity.distances, folder=folder), versions, pool, "identity"))
    for index, version in enumerate(testset.versions):
        joined[version, "identity"] = persons[:, index]
        measured.values[version] = {
            metric: joined[version, metric] for metric in OF_IMAGES if (version, metric) in joined
        }
    if len(testset.names) < 2:
        measured.features.clear()
        measured.reasons |= {
            metric: ["a distance between sets needs at least two images: raise testset.count"] for metric in OF_SETS
        }
    return measured


def _measure_fid(
    measured: Measured, testset: FacesUnderTest, folder: Path, batch_size: int, device: torch.device
) -> None:
    if reason := _absent(folder, metric_files.INCEPTION):
        measured.reasons["fid"] = [reason]
        return
    from psfr.metrics import offline

    network = offline.inception(folder, device)
    batches = _cut(testset.names, batch_size)
    for version in (TRUE, *testset.versions):
        paths = [[testset.path(version, name) for name in batch] for batch in processes.share(batches)]
        features = [
            offline.inception_features(network, batch, device)
            for batch in tqdm(paths, f"FID features of {version}", unit="batch", disable=processes.rank() > 0)
        ]
        measured.features.setdefault("fid", {})[version] = np.concatenate(processes.unshared(features))


def _absent(folder: Path, name: str) -> str | None:
    if (folder / name).is_file():
        return None
    return f"{folder / name} is not there: set weights.source to download, no other weights stand in for it"


def _cut(names: list[str], size: int) -> list[list[str]]:
    return [names[start : start + size] for start in range(0, len(names), size)]


def _batches(names: list[str], size: int) -> Iterator[list[str]]:
    """This process's share of the batches."""
    mine = processes.share(_cut(names, size))
    with tqdm(total=sum(map(len, mine)), desc="metrics", unit="image", disable=processes.rank() > 0) as bar:
        for batch in mine:
            yield batch
            bar.update(len(batch))


def _read(testset: FacesUnderTest, version: str, names: list[str], device: torch.device) -> Tensor:
    batch = torch.stack([datasets.to_tensor(images.read(testset.path(version, name))) for name in names])
    return datasets.to_unit(batch.to(device))


def summary(measured: Measured, seed: int, resamples: int) -> dict:
    """The content of evaluation.json.

    Returns:
        for "degraded" and each model the value of each metric, a number or None; "intervals": for the same, [low, high] of 95 % of the
        resampled test sets; "reasons": metric to the lines that say why it, or its interval, is None; "notes": what to know of a metric.
    """
    everyone = np.arange(len(measured.names))
    draws = bootstrap.resamples(seed, len(everyone), resamples)
    values: dict[str, dict] = {}
    intervals: dict[str, dict] = {}
    reasons = {metric: list(lines) for metric, lines in measured.reasons.items()}
    for version, of_images in measured.values.items():
        values[version], intervals[version] = dict.fromkeys(METRICS), {}
        there = [metric for metric in METRICS if metric in of_images or metric in measured.features]
        for metric in tqdm(there, f"intervals of {version}", unit="metric"):
            statistic = measured.statistic(version, metric)
            value = statistic(everyone)
            if not np.isfinite(value):
                reasons.setdefault(metric, []).append(f"{version}: infinite, all its images equal the true ones")
                continue
            values[version][metric] = _rounded(value)
            if metric in OF_SETS and (side := min(measured.features[metric][version].shape)) > frechet.RESAMPLED_SIDE:
                reasons.setdefault(metric, []).append(
                    f"{version}: no interval, resamples of {side} images or features take hours"
                )
                continue
            bounds = bootstrap.interval(draws, statistic, value if metric in OF_SETS else None)
            intervals[version][metric] = [_rounded(bound) for bound in bounds]
    notes = {"fid": [LOSSLESS]} if "fid" in measured.features else {}
    return values | {"intervals": intervals, "reasons": reasons, "notes": notes}


def _rounded(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None
