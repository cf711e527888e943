"""Evaluation of a test set: per-image metrics, metrics of the whole set, and confidence intervals."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from psfr.compute import parallel, processes
from psfr.compute.devices import deterministic_float32
from psfr.compute.parallel import Executor
from psfr.data import datasets, images
from psfr.metrics import bootstrap, fidelity, fixed_pattern, frechet, identity, st_lpips
from psfr.metrics.mean_error import ErrorSum
from psfr.metrics.testset import TRUE, TestSet
from psfr.pretrained import metric_files

if TYPE_CHECKING:
    import pandas as pd

PER_IMAGE_METRICS = ("psnr", "ssim", "lpips", "st_lpips", "identity", "tint")
PATTERN_METRICS = ("fixed_pattern_horizontal", "fixed_pattern_vertical")
FRECHET_METRICS = ("fid", "frechet_vgg16", "frechet_alexnet")
SET_METRICS = (*PATTERN_METRICS, *FRECHET_METRICS)  # defined for a set of images only
PAIRED_METRICS = (*PER_IMAGE_METRICS, *SET_METRICS)  # defined only where each image has a true one
METRICS = (  # in the order of the report
    "psnr",
    "ssim",
    "lpips",
    "fid",
    "st_lpips",
    "identity",
    *PATTERN_METRICS,
    "tint",
    "frechet_alexnet",
    "frechet_vgg16",
)

DIGITS = 6  # significant digits in the result files

LOSSLESS = (
    "between folders of lossless PNGs; the reimplementation's folders held JPEGs of Pillow's default quality, "
    "so its figures are not quite comparable"
)
TRAINED_ON = (
    "the style loss of the default (weights.source: packages) trains on this network, so the distance favors models "
    "trained with it"
)
# A covariance matrix has full rank only with more images than features.
FEW_IMAGES = (
    "{num_images} images are too few for the covariance of {num_features} features, so the distance is biased: compare "
    "it only between models on the same images"
)
NO_TRUE_IMAGES = "defined only with true images, which this set does not have"
SINGLE_IMAGE = "no interval: all resamples of a single test image are equal"


@dataclass
class Evaluation:
    """Metrics of every variant of the test images.

    Attributes:
        names: the test images, without suffix.
        values: values[variant][metric], float64 (images,).
        features: features[metric][variant], (images, dimensions), for the metrics of a set: profiles of stripes, or
            a network's features, which the true images (TRUE) have too.
        mean_errors: mean_errors[variant], the mean of restored - true over the images in levels of 255,
            float64 (H, W, 3).
        missing_reasons: missing_reasons[metric], why a metric has no value.
    """

    names: list[str]
    values: dict[str, dict[str, np.ndarray]]
    features: dict[str, dict[str, np.ndarray]]
    mean_errors: dict[str, np.ndarray] = field(default_factory=dict)
    missing_reasons: dict[str, list[str]] = field(default_factory=dict)

    def statistic(self, variant: str, metric: str) -> Callable[[np.ndarray], float]:
        """Return a function of indices that computes the metric over the images at these indices."""
        if metric in PATTERN_METRICS:
            return partial(fixed_pattern.amplitude, self.features[metric][variant])
        if metric in FRECHET_METRICS:
            restored, true = self.features[metric][variant], self.features[metric][TRUE]
            return lambda indices: frechet.distance(restored[indices], true[indices])
        values = self.values[variant][metric]
        if metric == "psnr":
            return lambda indices: fidelity.pooled_psnr(values[indices])
        if metric == "tint":
            return lambda indices: fidelity.pooled_tint(values[indices])
        return lambda indices: float(values[indices].mean())

    def table(self) -> "pd.DataFrame":
        """Return the per-image metrics, one row for each image and variant."""
        import pandas as pd  # imported here because only rank 0 writes the table

        frames = [
            pd.DataFrame({"name": self.names, "model": variant, **values}) for variant, values in self.values.items()
        ]
        return pd.concat(frames, ignore_index=True).sort_values(["name", "model"], kind="stable", ignore_index=True)


def evaluate(
    testset: TestSet, weights_dir: Path, batch_size: int, device: torch.device, executor: Executor
) -> Evaluation:
    """Compute every metric for every variant of the test images.

    Networks compute in IEEE float32. LPIPS and FID are skipped if their weights are missing, `PAIRED_METRICS` if there
    are no true images. With several processes,
    each computes its share of the batches and only rank 0 gets the complete evaluation.

    Args:
        weights_dir: folder of the metrics' weights.
        executor: where the identity distances are computed, see `parallel`.

    Raises:
        UserError: an image cannot be read, weights are damaged, or those of ST-LPIPS or of the face embedding are
            missing.
    """
    evaluation = Evaluation(testset.names, {variant: {} for variant in testset.variants}, {})
    if testset.has_true:
        _compare_with_true(evaluation, testset, weights_dir, batch_size, device, executor)
    else:
        evaluation.missing_reasons |= {metric: [NO_TRUE_IMAGES] for metric in PAIRED_METRICS}
    return evaluation


def _compare_with_true(
    evaluation: Evaluation,
    testset: TestSet,
    weights_dir: Path,
    batch_size: int,
    device: torch.device,
    executor: Executor,
) -> None:
    """Compute `PAIRED_METRICS`; the arguments are those of `evaluate`."""
    with deterministic_float32():
        image_values = _perceptual_values(evaluation, testset, weights_dir, batch_size, device)
        _add_fid_features(evaluation, testset, weights_dir, batch_size, device)
    if processes.get_rank():
        return

    variants = (TRUE, *testset.variants)
    for metric in ("frechet_vgg16", "frechet_alexnet", *PATTERN_METRICS):
        evaluation.features[metric] = {
            variant: image_values[variant, metric] for variant in variants if (variant, metric) in image_values
        }
    paths = [[testset.path(variant, name) for variant in variants] for name in testset.names]
    distances = parallel.map(
        partial(identity.embedding_distances_from_files, folder=weights_dir), paths, executor, "identity"
    )
    for variant, column in zip(testset.variants, np.array(distances).T, strict=True):
        image_values[variant, "identity"] = column
        evaluation.values[variant] = {
            metric: image_values[variant, metric] for metric in PER_IMAGE_METRICS if (variant, metric) in image_values
        }
    if len(testset.names) < 2:
        evaluation.features.clear()
        reason = "defined for a set of at least two images"
        evaluation.missing_reasons |= {metric: [reason] for metric in SET_METRICS}


def _perceptual_values(
    evaluation: Evaluation, testset: TestSet, weights_dir: Path, batch_size: int, device: torch.device
) -> dict[tuple[str, str], np.ndarray]:
    """Compute the metrics of each image but identity, the features of the metrics of a set, and the mean errors.

    Returns:
        {(variant, metric): float64 (images, ...)}.
    """
    alexnet = st_lpips.load_network(weights_dir, "alex").to(device)
    vgg = st_lpips.load_network(weights_dir, "vgg").to(device)
    distance_fns = {"psnr": fidelity.psnr, "ssim": fidelity.ssim, "tint": fidelity.tint, "st_lpips": alexnet}
    if reason := _missing_weights(weights_dir, metric_files.VGG16):
        evaluation.missing_reasons["lpips"] = [reason]
    else:
        from psfr.metrics import pretrained_metrics  # slow to import and not needed by most runs

        distance_fns["lpips"] = pretrained_metrics.Lpips(weights_dir, device)
    backbones = {"frechet_vgg16": vgg, "frechet_alexnet": alexnet}
    error_sums = {variant: ErrorSum() for variant in testset.variants}

    with torch.inference_mode():
        batches: list[dict[tuple[str, str], Tensor]] = []
        for names in _local_batches(testset.names, batch_size):
            true = _read_batch(testset, TRUE, names, device)
            values = {(TRUE, metric): st_lpips.deepest_features(net, true).cpu() for metric, net in backbones.items()}
            for variant in testset.variants:
                restored = _read_batch(testset, variant, names, device)
                error_sums[variant].add(restored, true)
                for metric, net in backbones.items():
                    values[variant, metric] = st_lpips.deepest_features(net, restored).cpu()
                profiles = fixed_pattern.stripe_profiles(restored, true)
                values |= {(variant, metric): part for metric, part in zip(PATTERN_METRICS, profiles, strict=True)}
                for metric, distance_fn in distance_fns.items():
                    values[variant, metric] = distance_fn(restored, true).reshape(-1).cpu()
            batches.append(values)
        batches = processes.gather_in_order(batches)
        evaluation.mean_errors = {variant: error_sum.mean() for variant, error_sum in error_sums.items()}
        return {key: torch.cat([values[key] for values in batches]).double().numpy() for key in batches[0]}


def _add_fid_features(
    evaluation: Evaluation, testset: TestSet, weights_dir: Path, batch_size: int, device: torch.device
) -> None:
    if reason := _missing_weights(weights_dir, metric_files.INCEPTION):
        evaluation.missing_reasons["fid"] = [reason]
        return
    from psfr.metrics import pretrained_metrics

    network = pretrained_metrics.load_inception(weights_dir, device)
    evaluation.features["fid"] = {}
    batches = processes.shard(_split(testset.names, batch_size))
    for variant in (TRUE, *testset.variants):
        features = []
        for names in tqdm(batches, f"FID features of {variant}", unit="batch", disable=processes.get_rank() > 0):
            paths = [testset.path(variant, name) for name in names]
            features.append(pretrained_metrics.inception_features(network, paths, device))
        evaluation.features["fid"][variant] = np.concatenate(processes.gather_in_order(features))


def _missing_weights(weights_dir: Path, name: str) -> str | None:
    if (weights_dir / name).is_file():
        return None
    return f"{weights_dir / name} is not there: set weights.source to download, no other weights stand in for it"


def _split(names: list[str], size: int) -> list[list[str]]:
    return [names[start : start + size] for start in range(0, len(names), size)]


def _local_batches(names: list[str], size: int) -> Iterator[list[str]]:
    """Yield this process's share of the batches."""
    batches = processes.shard(_split(names, size))
    with tqdm(total=sum(map(len, batches)), desc="metrics", unit="image", disable=processes.get_rank() > 0) as bar:
        for batch in batches:
            yield batch
            bar.update(len(batch))


def _read_batch(testset: TestSet, variant: str, names: list[str], device: torch.device) -> Tensor:
    batch = torch.stack([datasets.to_tensor(images.read(testset.path(variant, name))) for name in names])
    return datasets.normalize(batch.to(device))


def summarize(evaluation: Evaluation, seed: int, n_resamples: int) -> dict:
    """Return the content of evaluation.json.

    Returns:
        For "degraded" and each model, the value of each metric, a number or None.
        "intervals": for the same, the 95 % bootstrap interval [low, high] of each metric; None for a single image.
        "reasons": for each metric, why it or its interval is None.
        "notes": for each metric, remarks on how it was computed.
    """
    all_indices = np.arange(len(evaluation.names))
    resamples = bootstrap.resample_indices(seed, len(all_indices), n_resamples)
    values: dict[str, dict] = {}
    intervals: dict[str, dict] = {}
    reasons = {metric: list(lines) for metric, lines in evaluation.missing_reasons.items()}
    for variant, image_values in evaluation.values.items():
        values[variant], intervals[variant] = dict.fromkeys(METRICS), {}
        computed = [metric for metric in METRICS if metric in image_values or metric in evaluation.features]
        for metric in tqdm(computed, f"intervals of {variant}", unit="metric"):
            statistic = evaluation.statistic(variant, metric)
            value = statistic(all_indices)
            if not np.isfinite(value):
                reasons.setdefault(metric, []).append(f"{variant}: infinite, all its images equal the true ones")
                continue
            values[variant][metric] = _round(value)
            dim = min(evaluation.features[metric][variant].shape) if metric in FRECHET_METRICS else 0
            if dim > frechet.MAX_BOOTSTRAP_DIM:
                reason = f"{variant}: no interval, resamples of {dim} images or features take hours"
                reasons.setdefault(metric, []).append(reason)
                continue
            if len(all_indices) < 2:
                intervals[variant][metric] = None
                continue
            interval = bootstrap.confidence_interval(resamples, statistic, value if metric in FRECHET_METRICS else None)
            intervals[variant][metric] = [_round(bound) for bound in interval]
    if len(all_indices) < 2:
        for metric in dict.fromkeys(metric for bounds in intervals.values() for metric in bounds):
            reasons.setdefault(metric, []).append(SINGLE_IMAGE)
    notes = _notes(evaluation)
    return values | {"intervals": intervals, "reasons": reasons, "notes": notes}


def _notes(evaluation: Evaluation) -> dict[str, list[str]]:
    notes = {"fid": [LOSSLESS], "frechet_vgg16": [TRAINED_ON]}
    notes = {metric: remarks for metric, remarks in notes.items() if metric in evaluation.features}
    for metric in FRECHET_METRICS:
        if metric in evaluation.features:
            num_images, num_features = evaluation.features[metric][TRUE].shape
            if num_images <= num_features:
                remark = FEW_IMAGES.format(num_images=num_images, num_features=num_features)
                notes.setdefault(metric, []).append(remark)
    return notes


def _round(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None
