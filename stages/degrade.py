"""Make data/ffhq/lr/0, 1, ..., degraded copies of data/ffhq/hr, and degradations.csv, what was done to each."""

from pathlib import Path

from psfr import params
from psfr.data import degradation, degradation_table, images
from psfr.utils import errors
from psfr.utils.resume import resuming_folder


def main() -> None:
    given = params.read()
    folder = Path("data/ffhq")
    with resuming_folder(folder / "lr", "degrade", items=("data/ffhq/hr",)) as lr:
        rows = degradation.make_copies(
            images.listed(folder / "hr"), lr, given.degrade, given.image_size, given.seed, given.compute.pool
        )
        degradation_table.write_table(rows, folder / "degradations.csv")


if __name__ == "__main__":
    errors.run(main)
