"""Crop and resize a named test set to squares of image_size, in data/testsets/NAME/images; refuse training images."""

import argparse

from psfr.data import images, resize
from psfr.data.duplicates import TRAINING_DIRS, check_unseen
from psfr.params import read_params, set_folder, stage_name
from psfr.utils.errors import run_main
from psfr.utils.resume import resumable_dir


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", help="a name of testsets in params.yaml")
    name = parser.parse_args().set
    params = read_params()
    raw, out = set_folder(name) / "raw", set_folder(name) / "images"
    files = [path for part in sorted(raw.iterdir()) for path in images.list_images(part)]
    check_unseen(files, f"testsets.{name}", "remove them from the test set or from the training set")
    ignored_deps = tuple(map(str, TRAINING_DIRS))
    with resumable_dir(out, stage_name("resize", name), (str(raw),), ignored_deps) as folder:
        resize.resize_testset(raw, folder, params.image_size, params.compute.executor)


if __name__ == "__main__":
    run_main(main, "images")
