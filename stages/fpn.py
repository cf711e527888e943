"""Train the face parsing network on the labeled set, or take the published one; evaluate it on the validation set."""

import csv
import json
from pathlib import Path

from psfr.compute.devices import get_device, report_compute
from psfr.compute.processes import Work, get_rank, on_rank_zero, run_distributed
from psfr.metrics.segmentation import compute_scores
from psfr.networks import serialization
from psfr.networks.fpn import FaceParsingNetwork
from psfr.params import Params, read_params
from psfr.pretrained import loader, network_files
from psfr.training import fpn
from psfr.training.checkpoint import CheckpointManager
from psfr.utils.files import atomic_write, mirror_to_cache
from psfr.utils.resume import training_state_dir

LABELED = Path("data/celebamask/hr")
MODEL = Path("models/fpn.safetensors")
METRICS = Path("metrics/fpn")
PUBLISHED = loader.WEIGHTS_DIR / "published" / network_files.PUBLISHED_FPN


def main() -> None:
    params = read_params()
    compute = report_compute("fpn", params.compute)
    train_names, val_names = fpn.train_val_split(LABELED, params)
    if params.fpn.source == "train":
        network, history = _train(train_names, params)
        config, trained_on = fpn.network_config(params), compute
    else:
        network = serialization.from_published("fpn", loader.load(PUBLISHED))
        assert isinstance(network, FaceParsingNetwork)
        history, config, trained_on = [], {}, None
    network.to(get_device(params.compute))
    degraded = compute_scores(fpn.evaluate(network, LABELED, val_names, params, degraded=True))
    high_quality = compute_scores(fpn.evaluate(network, LABELED, val_names, params, degraded=False))
    if get_rank() > 0:
        return
    serialization.save(MODEL, network, trained_on, **config)
    _write_metrics(degraded, high_quality, history, compute)
    mirror_to_cache("fpn", METRICS / "metrics.json", METRICS / "iou.csv", METRICS / "history.csv")


def _train(names: list[str], params: Params) -> tuple[FaceParsingNetwork, list[dict[str, float]]]:
    with on_rank_zero(training_state_dir(MODEL.parent, "fpn")) as state_dir:
        checkpoints = CheckpointManager(state_dir, params.compute.checkpoint_seconds)
        return fpn.train(LABELED, names, params, checkpoints)


def _write_metrics(degraded: dict, high_quality: dict, history: list[dict[str, float]], compute: dict) -> None:
    # What DVC would show as metrics is kept small: the labels' IoUs are a plot, and `compute` is in a list.
    means = [{name: scores[name] for name in ("mean_iou", "pixel_accuracy")} for scores in (degraded, high_quality)]
    metrics = {**means[0], "high_quality": means[1], "compute": [compute]}
    with atomic_write(METRICS / "metrics.json") as path:
        path.write_text(json.dumps(metrics, indent=2) + "\n")
    with atomic_write(METRICS / "iou.csv") as path, path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["label", "quality", "iou"])
        for quality, scores in (("degraded", degraded), ("high_quality", high_quality)):
            writer.writerows([label, quality, iou] for label, iou in scores["iou"].items() if iou is not None)
    with atomic_write(METRICS / "history.csv") as path, path.open("w", newline="") as file:
        writer = csv.DictWriter(file, history[0] if history else ["epoch", "cross_entropy", "l1"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)


def _work(params: Params) -> Work:
    train_names, val_names = fpn.train_val_split(LABELED, params)
    if params.fpn.source == "train":
        return Work(params.fpn.epochs * len(train_names), params.fpn.batch_size)
    return Work(2 * len(val_names))


if __name__ == "__main__":
    run_distributed(main, "degradation", "images", "networks", work=_work)
