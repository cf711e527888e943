"""Evaluation of a test set: values of the metrics, confidence intervals, and reasons where a value is missing."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from psfr.metrics import bootstrap, fidelity, fixed_pattern, frechet, kid
from psfr.metrics.testset import TRUE

if TYPE_CHECKING:
    import pandas as pd

    from psfr.metrics.reference import Reference

PER_IMAGE_METRICS = ("psnr", "ssim", "lpips", "st_lpips", "identity", "tint")
PATTERN_METRICS = ("fixed_pattern_horizontal", "fixed_pattern_vertical")
FRECHET_METRICS = ("fid", "frechet_vgg16", "frechet_alexnet", "fid_reference")
FEATURE_METRICS = (*FRECHET_METRICS, "kid")  # distances between two sets of a network's features
SET_METRICS = (*PATTERN_METRICS, *FEATURE_METRICS)  # defined for a set of images only
UNPAIRED_METRICS = ("fid_reference", "niqe")  # need no true images
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
    "fid_reference",
    "kid",
    "niqe",
    "lmd",
    "deg",
)  # followed by those of evaluate.pyiqa
PAIRED_METRICS = tuple(metric for metric in METRICS if metric not in UNPAIRED_METRICS)

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
        notes: notes[metric], remarks on how it was computed.
        reference: what `fid_reference` compares with.
        pyiqa: the metrics of pyiqa that were asked for.
    """

    names: list[str]
    values: dict[str, dict[str, np.ndarray]]
    features: dict[str, dict[str, np.ndarray]]
    mean_errors: dict[str, np.ndarray] = field(default_factory=dict)
    missing_reasons: dict[str, list[str]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    reference: "Reference | None" = None
    pyiqa: tuple[str, ...] = ()

    def statistic(self, variant: str, metric: str) -> Callable[[np.ndarray], float]:
        """Return a function of indices that computes the metric over the images at these indices."""
        if metric in PATTERN_METRICS:
            return partial(fixed_pattern.amplitude, self.features[metric][variant])
        if metric == "fid_reference":
            assert self.reference is not None
            return frechet.distance_to(*self.reference, self.features[metric][variant])
        if metric in FEATURE_METRICS:
            restored, true = self.features[metric][variant], self.features[metric][TRUE]
            if metric == "kid":
                return kid.distance_between(restored, true)
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
    metrics = (*METRICS, *evaluation.pyiqa)
    for variant, image_values in evaluation.values.items():
        values[variant], intervals[variant] = dict.fromkeys(metrics), {}
        computed = [metric for metric in metrics if metric in image_values or metric in evaluation.features]
        for metric in tqdm(computed, f"intervals of {variant}", unit="metric"):
            statistic = evaluation.statistic(variant, metric)
            value = statistic(all_indices)
            if not np.isfinite(value):
                reasons.setdefault(metric, []).append(f"{variant}: infinite, all its images equal the true ones")
                continue
            values[variant][metric] = _round(value)
            dim = min(evaluation.features[metric][variant].shape) if metric in FEATURE_METRICS else 0
            if dim > frechet.MAX_BOOTSTRAP_DIM:
                reason = f"{variant}: no interval, resamples of {dim} images or features take hours"
                reasons.setdefault(metric, []).append(reason)
                continue
            if len(all_indices) < 2:
                intervals[variant][metric] = None
                continue
            interval = bootstrap.confidence_interval(resamples, statistic, value if metric in FEATURE_METRICS else None)
            intervals[variant][metric] = [_round(bound) for bound in interval]
    if len(all_indices) < 2:
        for metric in dict.fromkeys(metric for bounds in intervals.values() for metric in bounds):
            reasons.setdefault(metric, []).append(SINGLE_IMAGE)
    notes = _notes(evaluation)
    return values | {"intervals": intervals, "reasons": reasons, "notes": notes}


def _notes(evaluation: Evaluation) -> dict[str, list[str]]:
    notes = {"fid": [LOSSLESS], "frechet_vgg16": [TRAINED_ON]}
    notes = {metric: remarks for metric, remarks in notes.items() if metric in evaluation.features} | evaluation.notes
    for metric in FRECHET_METRICS:
        if metric in evaluation.features:
            num_images, num_features = next(iter(evaluation.features[metric].values())).shape
            if num_images <= num_features:
                remark = FEW_IMAGES.format(num_images=num_images, num_features=num_features)
                notes[metric] = [*notes.get(metric, []), remark]
    return notes


def _round(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None
