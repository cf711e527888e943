"""Test images that are training images are found by the content of their files."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from psfr import sources
from psfr.data import duplicates, images, resize
from psfr.data.duplicates import check_unseen, find_equal_files
from psfr.utils.errors import UserError
from stages import make_testset
from tests.helpers.sets import SIZE, folder_set, user_images, write_params  # noqa: F401 - user_images is a fixture


def write_files(folder: Path, **contents: bytes) -> list[Path]:
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return sorted(folder.iterdir())


def test_equal_files_are_found_under_any_name(tmp_path):
    test = write_files(tmp_path / "test", a=b"12", b=b"34", c=b"123", d=b"12")
    training = write_files(tmp_path / "training", u=b"12", v=b"12", w=b"56", x=b"1234")
    assert find_equal_files(test, training) == [(test[0], training[0]), (test[3], training[0])]
    assert find_equal_files(test[1:3], training) == []


def test_only_files_of_equal_size_are_read(tmp_path, monkeypatch):
    test = write_files(tmp_path / "test", a=b"1")
    training = write_files(tmp_path / "training", a=b"12", b=b"123")
    monkeypatch.setattr(duplicates, "_hash", lambda path: pytest.fail(f"{path} was read"))
    assert find_equal_files(test, training) == []


def test_the_message_names_some_pairs(tmp_path, monkeypatch):
    test = write_files(tmp_path / "test", **{f"{i}.png": bytes([i]) for i in range(25)})
    monkeypatch.setattr(duplicates, "TRAINING_DIRS", (tmp_path / "test",))
    message = rf"test: 25 test images .*\({test[0]} = {test[0]}, .* and 5 more\): remove them"
    with pytest.raises(UserError, match=message):
        check_unseen(test, "test", "remove them")


@pytest.mark.parametrize("source", ["folder", pytest.param("rclone", marks=pytest.mark.process)])
@pytest.mark.parametrize("name", ["ffhq", "celebamask"])
def test_one_image_from_two_sources_is_named(tmp_path, user_images, monkeypatch, source, name):
    """The training set is a copy of the folder of test images under other names, or the folder as a remote."""
    monkeypatch.chdir(tmp_path)
    copies = tmp_path / "copies"
    for folder in ("faces", "masks"):
        (copies / folder).mkdir(parents=True)
    for number, path in enumerate(images.list_images(user_images / "faces")):
        shutil.copy(path, copies / f"faces/{number}{path.suffix}")
        shutil.copy(user_images / f"masks/{path.stem}.png", copies / f"masks/{number}.png")
    folder = copies if source == "folder" else user_images
    training = {"source": source, "images": str(folder / "faces"), "count": None}
    if name == "celebamask":
        training["masks"] = str(folder / "masks")
    sets = {"ffhq": {"count": 1}, "celebamask": {"count": 1}} | {name: training}
    params = write_params(tmp_path, celebahq=folder_set(user_images, count=2), testset={"count": 2}, **sets)
    for set_name in ("ffhq", "celebahq", "celebamask"):
        raw = Path("data", set_name, "raw")
        raw.mkdir(parents=True)
        sources.download_set(raw, set_name, params)
    resize.resize_folder(Path("data/celebahq/raw"), Path("data/celebahq/hr"), SIZE, 0)
    with pytest.raises(UserError, match=rf"celebahq/raw: 2 test images are also .*= data/{name}/raw/"):
        make_testset.main()


def write_image(path: Path, level: int) -> None:
    images.write(path, np.full((64, 64, 3), level, np.uint8))


@pytest.mark.parametrize("training_set", ["ffhq/raw", "celebamask/raw/images"])
def test_stage_rejects_test_images_that_are_trained_on(tmp_path, monkeypatch, training_set):
    """Copies of images that are not chosen for the test set are allowed."""
    write_params(tmp_path, testset={"count": 2})
    monkeypatch.chdir(tmp_path)
    for number in range(4):
        for folder in ("raw", "hr"):
            write_image(Path(f"data/celebahq/{folder}/{number}.png"), number)
    for folder in ("ffhq/raw", "celebamask/raw/images"):
        write_image(Path("data", folder, "other.png"), 200)
    make_testset.main()
    chosen = {path.stem for path in images.list_images(Path("data/testset/hr"))}
    assert len(chosen) == 2
    for number in {"0", "1", "2", "3"} - chosen:
        write_image(Path("data", training_set, f"copy {number}.png"), int(number))
    make_testset.main()
    name = min(chosen)
    write_image(Path("data", training_set, "trained on.png"), int(name))
    pair = f"data/celebahq/raw/{name}.png = data/{training_set}/trained on.png"
    with pytest.raises(UserError, match=re.escape(pair) + r"\): choose count and skip"):
        make_testset.main()
