"""Measure the degraded and the restored test images against the true ones."""

from pathlib import Path

from psfr.pretrained.loader import FOLDER

from psfr import params
from psfr.compute import devices, processes
from psfr.metrics import report, table, written
from psfr.metrics.testset import FacesUnderTest
from psfr.utils.files import cached

METRICS = Path("metrics")


def main() -> None:
    given = params.read()
    testset = FacesUnderTest(Path("data/testset"), list(given.models))
    pool = given.compute.scheduler or devices.workers(given.compute)
    measured = report.measure(
        testset, FOLDER / "metrics", given.compute.batch_size, devices.device(given.compute), pool
    )
    if processes.rank():
        return
    summary = report.summary(measured, given.seed, given.evaluate.resamples)
    written.write(METRICS, testset, measured, summary, given.evaluate.shown)
    cached("evaluate", METRICS / "evaluation.json", METRICS / "per_image.csv")
    print(table.markdown(summary))


if __name__ == "__main__":
    processes.run(main)
