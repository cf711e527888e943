"""The face parsing network: trained on the labelled set, or the published one."""

import csv
import json
from pathlib import Path

from psfr import params
from psfr.compute import devices, processes
from psfr.compute.processes import by_first, run
from psfr.metrics.segmentation import summary
from psfr.networks import serialization
from psfr.pretrained import loader, network_files
from psfr.training import fpn
from psfr.training.checkpoint import Snapshots
from psfr.utils.files import cached, replacing
from psfr.utils.resume import unfinished

LABELLED = Path("data/celebamask/hr")
MODEL = Path("models/fpn.safetensors")
METRICS = Path("metrics/fpn")
PUBLISHED = loader.FOLDER / "published" / network_files.PUBLISHED_FPN


def main() -> None:
    values = params.read()
    training, held_out = fpn.split(LABELLED, values)
    if values.fpn.source == "train":
        with by_first(unfinished(MODEL.parent, "fpn")) as folder:
            network, history = fpn.train(
                LABELLED, training, values, Snapshots(folder, values.compute.checkpoint_seconds)
            )
        sizes = fpn.sizes(values)
    else:
        sizes = {}
        network, history = serialization.from_published("fpn", loader.load(PUBLISHED)), []
    network.to(devices.device(values.compute))
    scores = {
        quality: summary(fpn.evaluate(network, LABELLED, held_out, values, quality == "degraded"))
        for quality in ("degraded", "high_quality")
    }
    if processes.rank():
        return
    serialization.save(MODEL, network, **sizes)
    _write_metrics(METRICS, scores, history)
    cached("fpn", *(METRICS / name for name in ("metrics.json", "iou.csv", "history.csv")))


def _write_metrics(folder: Path, scores: dict[str, dict], history: list[dict]) -> None:
    with replacing(folder / "metrics.json") as path:
        path.write_text(json.dumps({**scores["degraded"], "high_quality": scores["high_quality"]}, indent=2) + "\n")
    with replacing(folder / "iou.csv") as path, path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["label", "quality", "iou"])
        writer.writerows(
            [name, quality, iou]
            for quality, score in scores.items()
            for name, iou in score["iou"].items()
            if iou is not None
        )
    with replacing(folder / "history.csv") as path, path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["epoch", "cross_entropy", "l1"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)


if __name__ == "__main__":
    run(main)
