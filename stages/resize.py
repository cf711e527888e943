"""Make data/SET/hr of data/SET/raw: squares of image_size, with label maps where the set has them."""

import argparse
from pathlib import Path

from psfr import params
from psfr.data import resize
from psfr.utils import errors
from psfr.utils.resume import resuming_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", choices=params.SETS)
    name = parser.parse_args().set
    given = params.read()
    resize_set = (
        resize.resize_labelled_folder if isinstance(getattr(given, name), params.LabelledSet) else resize.resize_folder
    )
    folder = Path("data", name)
    with resuming_folder(folder / "hr", f"resize@{name}", items=(f"data/{name}/raw",)) as hr:
        resize_set(folder / "raw", hr, given.image_size, given.compute.pool)


if __name__ == "__main__":
    errors.run(main)
