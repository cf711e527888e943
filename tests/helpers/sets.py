"""What the tests of the sources share: sets of images, and the stages' scripts as they are called."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from psfr import params
from psfr.data import labels
from psfr.utils import strict_yaml

REPOSITORY = Path(__file__).parents[2]
DEFAULT = yaml.load((REPOSITORY / "params.yaml").read_text(), strict_yaml.StrictLoader)
DEFAULT["compute"]["workers"] = 0
SIZE = 64


def settings(**sets: dict) -> dict:
    """The default parameters, small, with changed sets."""
    values = copy.deepcopy(DEFAULT) | {"image_size": SIZE}
    values["discriminator"] |= {"scales": 1}
    for name, changes in sets.items():
        values[name] |= changes
    return values


def given_params(folder: Path, **sets: dict) -> params.Params:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(settings(**sets)))
    return params.read_params(folder / "params.yaml")


def stage(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run a stage's script in a folder as `dvc repro` does."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


def refused(done: subprocess.CompletedProcess, *words: str) -> None:
    """One line, each word in it, exit status 1. The progress bars before it end in carriage returns or line ends."""
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    *before, last = done.stderr.replace("\r", "\n").strip().splitlines()
    assert last.startswith("error: ")
    assert not [
        line
        for line in before
        if line.strip() and not any(rate in line for rate in ("image/s", "?image", "file/s", "?file", "B/s"))
    ]
    for word in words:
        assert word in last


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def own(tmp_path) -> Path:
    """Twelve images of the user's own with masks, 40x30, of several formats."""
    rng = np.random.default_rng(0)
    (tmp_path / "own" / "faces" / "more").mkdir(parents=True)
    for number in range(12):
        suffix = (".png", ".jpg", ".webp")[number % 3]
        name = ("more/" if number > 8 else "") + f"face {number}#{suffix}"
        Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).save(tmp_path / "own" / "faces" / name)
        labels.write(tmp_path / "own" / "masks" / f"face {number}#.png", rng.integers(0, 19, (30, 40), np.uint8))
    return tmp_path / "own"


def folder_set(own: Path, **more) -> dict:
    return {"source": "folder", "images": str(own / "faces"), "count": None} | more
