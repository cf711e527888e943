"""Measure the images of a test set: metrics of single images, and features for metrics of the whole set."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from psfr.compute import parallel, processes
from psfr.compute.devices import deterministic_float32
from psfr.compute.parallel import Executor
from psfr.data import datasets, images
from psfr.metrics import arcface, fidelity, fixed_pattern, identity, iqa, landmarks, niqe, st_lpips
from psfr.metrics.mean_error import ErrorSum
from psfr.metrics.report import (
    NO_TRUE_IMAGES,
    PAIRED_METRICS,
    PATTERN_METRICS,
    PER_IMAGE_METRICS,
    SET_METRICS,
    Evaluation,
)
from psfr.metrics.testset import TRUE, TestSet
from psfr.metrics.unavailable import UnavailableError
from psfr.pretrained import metric_files

FEW_BLOCKS = (
    "{variant}: {num_images} images have fewer than two blocks of 96 x 96 pixels that are not flat, so the covariance "
    "of their features is undefined: images of 128 pixels have one block, of 256 pixels four"
)
NO_REFERENCE = "no reference set is named: set evaluate.reference"
NO_WEIGHTS = "its weights are not named: set evaluate.{metric}_weights"
FACE_NETWORKS = {"lmd": landmarks.Landmarks, "deg": arcface.ArcFace}


def evaluate(
    testset: TestSet,
    weights_dir: Path,
    batch_size: int,
    device: torch.device,
    executor: Executor,
    reference: Path | None = None,
    pyiqa: Sequence[str] = (),
    lmd_weights: Path | None = None,
    deg_weights: Path | None = None,
) -> Evaluation:
    """Compute every metric for every variant of the test images.

    Networks compute in IEEE float32. Metrics whose weights are missing are skipped, and `PAIRED_METRICS` if there are
    no true images. With several processes, each computes its share of the batches and only rank 0 gets the complete
    evaluation.

    Args:
        weights_dir: folder of the metrics' weights.
        executor: where the identity distances and NIQE are computed, see `parallel`.
        reference: the set of `fid_reference`, a folder of images or an .npz file of statistics.
        pyiqa: names of metrics of pyiqa.
        lmd_weights: file of `landmarks.Landmarks`.
        deg_weights: file of `arcface.ArcFace`.

    Raises:
        UserError: an image or the reference cannot be read, weights are damaged or another network's, those of
            ST-LPIPS or of the face embedding are missing, or pyiqa has no metric of a name.
    """
    evaluation = Evaluation(testset.names, {variant: {} for variant in testset.variants}, {}, pyiqa=tuple(pyiqa))
    with deterministic_float32():
        _add_inception_features(evaluation, testset, weights_dir, batch_size, device, reference)
        _add_pyiqa_values(evaluation, testset, batch_size, device)
        if testset.has_true:
            image_values = _perceptual_values(evaluation, testset, weights_dir, batch_size, device)
            files = {"lmd": lmd_weights, "deg": deg_weights}
            _add_face_network_values(evaluation, testset, files, batch_size, device)
    if processes.get_rank():
        return evaluation

    if testset.has_true:
        _add_paired_values(evaluation, image_values, testset, weights_dir, executor)
    else:
        evaluation.missing_reasons |= {metric: [NO_TRUE_IMAGES] for metric in PAIRED_METRICS}
    _add_niqe(evaluation, testset, executor)
    if len(testset.names) < 2:
        evaluation.features.clear()
        undefined = SET_METRICS if testset.has_true else ("fid_reference",)
        evaluation.missing_reasons |= {metric: ["defined for a set of at least two images"] for metric in undefined}
    return evaluation


def _add_paired_values(
    evaluation: Evaluation,
    image_values: dict[tuple[str, str], np.ndarray],
    testset: TestSet,
    weights_dir: Path,
    executor: Executor,
) -> None:
    """Add what `_perceptual_values` has computed, and the identity distances."""
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
        values = {
            metric: image_values[variant, metric] for metric in PER_IMAGE_METRICS if (variant, metric) in image_values
        }
        evaluation.values[variant] = values | evaluation.values[variant]


def _add_niqe(evaluation: Evaluation, testset: TestSet, executor: Executor) -> None:
    paths = [[testset.path(variant, name) for variant in testset.variants] for name in testset.names]
    scores = np.array(parallel.map(niqe.scores_from_files, paths, executor, "NIQE"))
    for variant, column in zip(testset.variants, scores.T, strict=True):
        if undefined := np.count_nonzero(np.isnan(column)):
            reason = FEW_BLOCKS.format(variant=variant, num_images=undefined)
            evaluation.missing_reasons.setdefault("niqe", []).append(reason)
        else:
            evaluation.values[variant]["niqe"] = column


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


def _add_inception_features(
    evaluation: Evaluation,
    testset: TestSet,
    weights_dir: Path,
    batch_size: int,
    device: torch.device,
    reference: Path | None,
) -> None:
    """Add the features of FID, KID and FID against the reference, and the statistics of the reference."""
    metrics = ["fid", "kid"] if testset.has_true else []
    if reference is None:
        evaluation.missing_reasons["fid_reference"] = [NO_REFERENCE]
    else:
        metrics.append("fid_reference")
    if reason := _missing_weights(weights_dir, metric_files.INCEPTION):
        evaluation.missing_reasons |= {metric: [reason] for metric in metrics}
    elif metrics:
        from psfr.metrics import pretrained_metrics
        from psfr.metrics import reference as reference_set

        network = pretrained_metrics.load_inception(weights_dir, device)
        if reference is not None:
            evaluation.reference = reference_set.load(reference, network, batch_size, device)
            evaluation.notes["fid_reference"] = [f"against {reference.as_posix()}"]
        features = {}
        batches = processes.shard(_split(testset.names, batch_size))
        for variant in (TRUE, *testset.variants) if testset.has_true else testset.variants:
            parts = []
            for names in tqdm(batches, f"FID features of {variant}", unit="batch", disable=processes.get_rank() > 0):
                paths = [testset.path(variant, name) for name in names]
                parts.append(pretrained_metrics.inception_features(network, paths, device))
            features[variant] = np.concatenate(processes.gather_in_order(parts))
        evaluation.features |= dict.fromkeys(metrics, features)


def _add_pyiqa_values(evaluation: Evaluation, testset: TestSet, batch_size: int, device: torch.device) -> None:
    metrics: dict[str, iqa.Metric] = {}
    for name in evaluation.pyiqa:
        try:
            metric = iqa.Metric(name, device)
        except UnavailableError as error:
            evaluation.missing_reasons[name] = [str(error)]
            continue
        if metric.needs_true and not testset.has_true:
            evaluation.missing_reasons[name] = [NO_TRUE_IMAGES]
            continue
        metrics[name] = metric
        evaluation.notes[name] = [metric.note]
    if not metrics:
        return
    batches: list[dict[tuple[str, str], Tensor]] = []
    with torch.inference_mode():
        for names in _local_batches(testset.names, batch_size):
            true = _read_batch(testset, TRUE, names, device) if testset.has_true else None
            values = {}
            for variant in testset.variants:
                restored = _read_batch(testset, variant, names, device)
                values |= {(variant, name): metric(restored, true).cpu() for name, metric in metrics.items()}
            batches.append(values)
    batches = processes.gather_in_order(batches)
    for variant, name in batches[0]:
        evaluation.values[variant][name] = torch.cat([values[variant, name] for values in batches]).double().numpy()


def _add_face_network_values(
    evaluation: Evaluation, testset: TestSet, files: dict[str, Path | None], batch_size: int, device: torch.device
) -> None:
    """Add the metrics of `FACE_NETWORKS`, which compare what a network finds in a restored and in its true face.

    Args:
        files: the weights of each metric.
    """
    networks: dict[str, landmarks.Landmarks | arcface.ArcFace] = {}
    for metric, path in files.items():
        try:
            if path is None:
                raise UnavailableError(NO_WEIGHTS.format(metric=metric))
            networks[metric] = FACE_NETWORKS[metric](path, device)
        except UnavailableError as error:
            evaluation.missing_reasons[metric] = [str(error)]
    if not networks:
        return
    batches: list[dict[tuple[str, str], list[float]]] = []
    for names in _local_batches(testset.names, batch_size):
        batch = {(variant, metric): [] for variant in testset.variants for metric in networks}
        for name in names:
            true = images.read(testset.path(TRUE, name))
            true_features = {metric: network.features(true) for metric, network in networks.items()}
            for variant in testset.variants:
                restored = images.read(testset.path(variant, name))
                for metric, network in networks.items():
                    distance = network.distance(network.features(restored), true_features[metric])
                    batch[variant, metric].append(distance)
        batches.append(batch)
    batches = processes.gather_in_order(batches)
    for variant, metric in batches[0]:
        evaluation.values[variant][metric] = np.concatenate([batch[variant, metric] for batch in batches])


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
