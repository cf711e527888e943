"""Helpers of the tests of image sets: parameters, images of a user, and running of stages."""

import copy
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from psfr.data import labels
from psfr.params import Params, read_params
from psfr.utils import strict_yaml

ROOT = Path(__file__).parents[2]
DEFAULT = yaml.load((ROOT / "params.yaml").read_text(), strict_yaml.StrictLoader)
DEFAULT["compute"]["workers"] = 0
SIZE = 64
# The rate at the end of a progress bar, which is inverted while it is slow.
_PROGRESS = re.compile(r"(image|file|B)/s|s/(image|file|B)|\?(image|file)")


def small_params(**sets: dict) -> dict:
    """Return the default parameters with a small image size and changed groups."""
    params = copy.deepcopy(DEFAULT) | {"image_size": SIZE}
    params["discriminator"] |= {"scales": 1}
    for name, changes in sets.items():
        params[name] |= changes
    return params


def write_params(folder: Path, **sets: dict) -> Params:
    """Write small parameters with changed groups to `folder/params.yaml` and read them."""
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(small_params(**sets)))
    return read_params(folder / "params.yaml")


def assert_fails(done: subprocess.CompletedProcess, *words: str) -> None:
    """Assert exit status 1 and a one-line error that contains each of the words, after nothing but progress bars."""
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    *before, last = done.stderr.replace("\r", "\n").strip().splitlines()
    assert last.startswith("error: ")
    assert not [line for line in before if line.strip() and not _PROGRESS.search(line)]
    for word in words:
        assert word in last


def read_tree(folder: Path) -> dict[str, bytes]:
    """Return the content of each file in a folder by its relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def user_images(tmp_path) -> Path:
    """A folder with 12 images of a user, 40x30 in several formats, in `faces`, and their masks in `masks`."""
    rng = np.random.default_rng(0)
    (tmp_path / "user" / "faces" / "more").mkdir(parents=True)
    for number in range(12):
        suffix = (".png", ".jpg", ".webp")[number % 3]
        name = ("more/" if number > 8 else "") + f"face {number}#{suffix}"
        Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).save(tmp_path / "user" / "faces" / name)
        labels.write(tmp_path / "user" / "masks" / f"face {number}#.png", rng.integers(0, 19, (30, 40), np.uint8))
    return tmp_path / "user"


def folder_set(user_images: Path, **more) -> dict:
    return {"source": "folder", "images": str(user_images / "faces"), "count": None} | more
