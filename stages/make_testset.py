"""Choose the test images from data/celebahq/hr, degrade them, and record the degradations in degradations.csv."""

from pathlib import Path

from psfr.data import degradation, degradation_table, images
from psfr.data.duplicates import check_unseen
from psfr.data.subset import choose_subset
from psfr.params import read_params
from psfr.utils.errors import run_main
from psfr.utils.files import atomic_dir

RAW = Path("data/celebahq/raw")
SOURCE = Path("data/celebahq/hr")
TESTSET = Path("data/testset")


def main() -> None:
    params = read_params()
    names = [path.stem for path in images.list_images(SOURCE)]
    chosen = choose_subset(names, params.testset.count, 0, params.seed, "testset", str(SOURCE))
    _check_unseen(set(chosen))
    paths = [SOURCE / f"{name}.png" for name in chosen]
    degrade_params = params.degrade.model_copy(update={"gray": params.testset.gray})
    with atomic_dir(TESTSET / "hr") as hr, atomic_dir(TESTSET / "lr") as lr:
        rows = degradation.write_pairs(paths, hr, lr, degrade_params, params.seed, params.compute.executor)
        degradation_table.write_table(rows, TESTSET / "degradations.csv")


def _check_unseen(names: set[str]) -> None:
    """Raise a UserError if a test image is an image that the GAN or the face parsing network is trained on."""
    test_files = [path for path in images.list_images(RAW) if path.stem in names]
    hint = "choose count and skip of the sets in params.yaml so that they do not overlap, or remove the copies"
    check_unseen(test_files, str(RAW), hint)


if __name__ == "__main__":
    run_main(main, "degradation", "images")
