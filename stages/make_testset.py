"""Make data/testset: images drawn of data/celebahq/hr, their degraded copies, and degradations.csv, what was done to each."""

from pathlib import Path

from psfr import params
from psfr.data import degradation, degradation_table, images
from psfr.data.subset import chosen
from psfr.utils import errors
from psfr.utils.files import replacing_folder


def main() -> None:
    given = params.read()
    source = Path("data/celebahq/hr")
    names = chosen(
        [path.stem for path in images.listed(source)], given.testset.count, 0, given.seed, "testset", str(source)
    )
    paths = [source / f"{name}.png" for name in names]
    degrade = given.degrade.model_copy(update={"gray": given.testset.gray})
    testset = Path("data/testset")
    with replacing_folder(testset / "hr") as hr, replacing_folder(testset / "lr") as lr:
        rows = degradation.make_pairs(paths, hr, lr, degrade, given.seed, given.compute.pool)
        degradation_table.write_table(rows, testset / "degradations.csv")


if __name__ == "__main__":
    errors.run(main)
