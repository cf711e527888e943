"""Crop and resize data/SET/raw to squares of image_size in data/SET/hr, with the parsing maps of a labeled set."""

import argparse
from pathlib import Path

from psfr.data import resize
from psfr.params import SETS, LabeledSetParams, read_params
from psfr.utils.errors import run_main
from psfr.utils.resume import resumable_dir


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", choices=SETS)
    name = parser.parse_args().set
    params = read_params()
    is_labeled = isinstance(getattr(params, name), LabeledSetParams)
    resize_set = resize.resize_labeled_folder if is_labeled else resize.resize_folder
    folder = Path("data", name)
    with resumable_dir(folder / "hr", f"resize@{name}", per_file_deps=(f"data/{name}/raw",)) as hr:
        resize_set(folder / "raw", hr, params.image_size, params.compute.executor)


if __name__ == "__main__":
    run_main(main, "images")
