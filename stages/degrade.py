"""Write degraded variants of data/ffhq/hr to data/ffhq/lr/0, 1, ..., and their parameters to degradations.csv."""

from pathlib import Path

from psfr.data import degradation, degradation_table, images
from psfr.params import read_params
from psfr.utils.errors import run_main
from psfr.utils.resume import resumable_dir

FFHQ = Path("data/ffhq")


def main() -> None:
    params = read_params()
    lr_dir = resumable_dir(FFHQ / "lr", "degrade", per_file_deps=("data/ffhq/hr",), ignored_deps=("degrade.variants",))
    with lr_dir as lr:
        paths = images.list_images(FFHQ / "hr")
        rows = degradation.write_variants(
            paths, lr, params.degrade, params.image_size, params.seed, params.compute.executor
        )
        degradation_table.write_table(rows, FFHQ / "degradations.csv")


if __name__ == "__main__":
    run_main(main, "degradation", "images")
