"""Make data/testset: images drawn of data/celebahq/hr, their degraded copies, and degradations.csv, what was done to each."""

from pathlib import Path

from psfr import degradation, errors, images, params
from psfr.choice import chosen
from psfr.files import replacing_folder


def main() -> None:
    given = params.read()
    source = Path("data/celebahq/hr")
    names = chosen([path.stem for path in images.listed(source)], given.testset.count, 0, given.seed, "testset", str(source))
    paths = [source / f"{name}.png" for name in names]
    degrade = given.degrade.model_copy(update={"gray": given.testset.gray})
    testset = Path("data/testset")
    with replacing_folder(testset / "hr") as hr, replacing_folder(testset / "lr") as lr:
        rows = degradation.make_pairs(paths, hr, lr, degrade, given.seed, given.compute.pool)
        degradation.write_table(rows, testset / "degradations.csv")


if __name__ == "__main__":
    errors.run(main)
