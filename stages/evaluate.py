"""Compare the degraded and the restored test images with the high-quality ones."""

import json
from pathlib import Path

from psfr.compute.devices import get_device, num_workers, report_compute
from psfr.compute.processes import Work, get_rank, run_distributed
from psfr.data import images
from psfr.metrics import output, report, table
from psfr.metrics.testset import TestSet
from psfr.params import Params, read_params
from psfr.pretrained.loader import WEIGHTS_DIR
from psfr.utils.files import mirror_to_cache

METRICS = Path("metrics")
TESTSET = Path("data/testset")


def main() -> None:
    params = read_params()
    compute = params.compute.model_copy(update={"precision": "fp32"})  # the networks of the metrics always use it
    recorded = {
        "infer": json.loads((TESTSET / "sr/compute.json").read_text(encoding="utf-8")),
        "evaluate": report_compute("evaluate", compute),
    }
    testset = TestSet(TESTSET, list(params.models))
    executor = compute.scheduler or num_workers(compute)
    evaluation = report.evaluate(testset, WEIGHTS_DIR / "metrics", compute.batch_size, get_device(compute), executor)
    if get_rank() > 0:
        return
    summary = report.summarize(evaluation, params.seed, params.evaluate.resamples) | {"compute": recorded}
    output.write(METRICS, testset, evaluation, summary, params.evaluate.shown)
    mirror_to_cache("evaluate", METRICS / "evaluation.json", METRICS / "per_image.csv")
    print(table.to_markdown(summary))


def _work(params: Params) -> Work:
    return Work((2 + len(params.models)) * len(images.list_images(TESTSET / "hr")))


if __name__ == "__main__":
    run_distributed(main, "images", "metrics", "networks", work=_work)
