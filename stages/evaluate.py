"""Evaluate the degraded and the restored images of a test set, against the true ones if it has them."""

import json
import sys
from functools import partial
from pathlib import Path

from psfr.compute.devices import get_device, num_workers, report_compute
from psfr.compute.processes import Work, broadcast_from_rank_zero, get_rank, run_distributed
from psfr.data import images
from psfr.metrics import measure, output, report, table
from psfr.metrics.testset import TestSet
from psfr.params import TESTSET, Params, read_params, set_folder, test_images_folder
from psfr.pretrained.loader import WEIGHTS_DIR
from psfr.utils.files import mirror_to_cache
from psfr.utils.project import provide, workspace_path

METRICS = Path("metrics")


def main(set_name: str = TESTSET) -> None:
    """Run the stage.

    Args:
        set_name: the test set, or a name of testsets in params.yaml.
    """
    params = read_params()
    compute = params.compute.model_copy(update={"precision": "fp32"})  # the networks of the metrics always use it
    folder = set_folder(set_name)
    recorded = {
        "infer": json.loads((folder / "sr/compute.json").read_text(encoding="utf-8")),
        "evaluate": report_compute("evaluate", compute),
    }
    has_true = set_name == TESTSET or params.testsets[set_name].hr is not None
    testset = TestSet(folder, list(params.models), test_images_folder(set_name), has_true)
    executor = compute.scheduler or num_workers(compute)
    named = (params.evaluate.reference, params.evaluate.lmd_weights, params.evaluate.deg_weights)
    reference, lmd_weights, deg_weights = own_files = [workspace_path(path) if path else None for path in named]
    if get_rank() == 0:
        provide(filter(None, own_files))
    broadcast_from_rank_zero(None)  # the others wait for the files
    evaluation = measure.evaluate(
        testset,
        WEIGHTS_DIR / "metrics",
        compute.batch_size,
        get_device(compute),
        executor,
        reference,
        params.evaluate.pyiqa,
        lmd_weights,
        deg_weights,
    )
    if get_rank() > 0:
        return
    summary = report.summarize(evaluation, params.seed, params.evaluate.resamples) | {"compute": [recorded]}
    named_summary = {"testset": set_name, "images": len(testset.names)} | summary
    if set_name == TESTSET:
        output.write(METRICS, testset, evaluation, summary, params.evaluate.shown)
        mirror_to_cache("evaluate", METRICS / "evaluation.json", METRICS / "per_image.csv")
    else:
        out = METRICS / "testsets" / set_name
        output.write(out, testset, evaluation, named_summary, params.evaluate.shown)
        mirror_to_cache(f"evaluate_testset/{set_name}", out / "evaluation.json")
    print(table.to_markdown(named_summary))


def _work(params: Params, set_name: str = TESTSET) -> Work:
    return Work((2 + len(params.models)) * len(images.list_images(test_images_folder(set_name) / "lr")))


if __name__ == "__main__":
    run_distributed(
        partial(main, *sys.argv[1:]),
        "images",
        "metrics",
        "networks",
        "quality",
        work=lambda params: _work(params, *sys.argv[1:]),
    )
