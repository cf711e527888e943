"""Download of named test sets: pairs by name, from a folder and from a remote, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from psfr import sources
from psfr.data import images
from psfr.params import read_params
from psfr.utils.errors import UserError
from tests.helpers.running import run_module
from tests.helpers.sets import assert_fails, read_tree, write_params


@pytest.fixture
def photos(tmp_path) -> Path:
    """Five low-quality images `lr/N.png`, and six true images `hr/N.png` of twice their size."""
    rng = np.random.default_rng(0)
    for number in range(6):
        image = rng.integers(0, 256, (40, 48, 3), np.uint8)
        images.write(tmp_path / f"photos/hr/{number}.png", image)
        if number < 5:
            images.write(tmp_path / f"photos/lr/{number}.png", image[::2, ::2])
    return tmp_path / "photos"


def pairs_of(photos: Path, **changes: object) -> dict:
    return {"source": "folder", "lr": f"{photos}/lr", "hr": f"{photos}/hr", "count": None, "skip": 0} | changes


def download(tmp_path: Path, **values: object) -> dict[str, bytes]:
    raw = tmp_path / "raw"
    raw.mkdir(exist_ok=True)
    sources.download_set(raw, "mine", write_params(tmp_path, testsets={"mine": values}))
    return read_tree(raw)


@pytest.mark.parametrize("source", ["folder", pytest.param("rclone", marks=pytest.mark.process)])
def test_true_images_are_those_of_the_chosen_names(tmp_path, photos, source):
    files = download(tmp_path, **pairs_of(photos, source=source))
    assert set(files) == {f"{part}/{number}.png" for part in ("lr", "hr") for number in range(5)}
    assert files == {name: (photos / name).read_bytes() for name in files}
    fewer = download(tmp_path, **pairs_of(photos, source=source, count=2, skip=1))
    assert len(fewer) == 4 and fewer.items() < files.items()
    assert {name.removeprefix("lr/") for name in fewer if name.startswith("lr/")} == {
        name.removeprefix("hr/") for name in fewer if name.startswith("hr/")
    }


def test_low_quality_images_alone(tmp_path, photos):
    assert set(download(tmp_path, **pairs_of(photos, hr=None))) == {f"lr/{number}.png" for number in range(5)}


def test_what_cannot_be_used_is_refused_in_one_line(tmp_path, photos):
    (tmp_path / "empty").mkdir()
    for changes, problem in (
        ({"lr": f"{photos}/hr", "hr": f"{photos}/lr"}, r"lr: 1 of 6 low-quality images have no true image \(5\): name"),
        ({"lr": f"{tmp_path}/empty"}, "empty: no images in it"),
        ({"hr": f"{tmp_path}/none"}, "none: no such folder"),
        ({"lr": f"{photos}/lr/0.png"}, "lr/0.png: not a folder: name a folder"),
        ({"hr": f"{photos}/hr/0.png"}, "hr/0.png: not a folder: name a folder"),
        ({"count": 6}, "lr: 5 images, testsets.mine takes 6: lower testsets.mine.count"),
    ):
        with pytest.raises(UserError, match=problem):
            download(tmp_path, **pairs_of(photos, **changes))
    (photos / "lr/0.bmp").write_bytes((photos / "lr/0.png").read_bytes())
    with pytest.raises(UserError, match="lr: 0.png has the same name as 0.bmp: rename one"):
        download(tmp_path, **pairs_of(photos))


def test_training_images_and_other_shapes_are_refused(tmp_path, photos, monkeypatch):
    """Both by `resize_testset`: copies of training images under other names, as true or as low-quality images."""
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, testsets={"mine": pairs_of(photos)})
    raw = Path("data/testsets/mine/raw")
    raw.mkdir(parents=True)
    sources.download_set(raw, "mine", read_params())
    for folder in ("ffhq/raw", "celebamask/raw/images"):
        images.write(Path("data", folder, "other.png"), np.full((64, 64, 3), 200, np.uint8))
    assert run_module(tmp_path, "stages.resize_testset", "mine").returncode == 0
    resized = [images.read(Path(f"data/testsets/mine/images/{part}/3.png")) for part in ("lr", "hr")]
    assert resized[0].shape == resized[1].shape == (64, 64, 3)
    for part, folder in (("hr", "ffhq/raw"), ("lr", "celebamask/raw/images")):
        copy = Path("data", folder, "copy.png")
        copy.write_bytes((photos / part / "3.png").read_bytes())
        words = "testsets.mine: 1 test images are also training images", f"raw/{part}/3.png = {copy}"
        assert_fails(run_module(tmp_path, "stages.resize_testset", "mine"), *words)
        copy.unlink()
    images.write(raw / "hr/3.png", np.zeros((40, 40, 3), np.uint8))
    words = "raw/lr/3.png is 24x20, its true image 40x40: crop both alike"
    assert_fails(run_module(tmp_path, "stages.resize_testset", "mine"), words)
    assert_fails(run_module(tmp_path, "stages.download", "other"), "'other': no such set in params.yaml: choose one of")
