"""The log of a training has the files that DVC's plots and metrics read."""

import json

import numpy as np
from PIL import Image

from psfr.training.metrics_log import MetricsLog

SHEET = np.full((4, 6, 3), 9, np.uint8)


def test_log_of_a_training(tmp_path):
    MetricsLog(tmp_path).log_epoch({"old": {"x": 0.0}}, "epoch_001.png", SHEET)
    log = MetricsLog(tmp_path)
    log.log_epoch({"loss": {"pix": 0.5}}, "epoch_001.png", SHEET, compute={"precision": "fp32"})
    log.log_epoch({"loss": {"ss": 1e-7}, "grad": {"ss": 2.0}}, "epoch_002.png", SHEET, compute={"precision": "bf16"})
    plots = tmp_path / "plots"
    files = {str(path.relative_to(plots)): path for path in plots.rglob("*.*")}
    assert sorted(files) == [
        "images/epoch_001.png",
        "images/epoch_002.png",
        "metrics/grad/ss.tsv",
        "metrics/loss/pix.tsv",
        "metrics/loss/ss.tsv",
    ]
    assert files["metrics/loss/pix.tsv"].read_text() == "step\tpix\n0\t0.5\n"
    assert files["metrics/loss/ss.tsv"].read_text() == "step\tss\n1\t1e-07\n"
    assert np.array_equal(Image.open(files["images/epoch_002.png"]), SHEET)
    assert json.loads((tmp_path / "metrics.json").read_text()) == {
        "loss": {"pix": 0.5, "ss": 1e-7},
        "grad": {"ss": 2.0},
        "compute": {"precision": "bf16"},
        "step": 1,
    }
