"""Make data/SET/hr of data/SET/raw: squares of image_size, with label maps where the set has them."""

import argparse
from pathlib import Path

from psfr import errors, params, resizing
from psfr.resume import resuming_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", choices=params.SETS)
    name = parser.parse_args().set
    given = params.read()
    resize = resizing.resize_labelled_folder if isinstance(getattr(given, name), params.LabelledSet) else resizing.resize_folder
    folder = Path("data", name)
    with resuming_folder(folder / "hr", f"resize@{name}", items=(f"data/{name}/raw",)) as hr:
        resize(folder / "raw", hr, given.image_size, given.compute.pool)


if __name__ == "__main__":
    errors.run(main)
