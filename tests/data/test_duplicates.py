"""Test images that are training images are found by the content of their files."""

import re
from pathlib import Path

import numpy as np
import pytest

from psfr.data import duplicates, images
from psfr.data.duplicates import check_unseen, find_equal_files
from psfr.utils.errors import UserError
from stages import make_testset
from tests.helpers.sets import write_params


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


def test_the_message_names_some_pairs(tmp_path):
    test = write_files(tmp_path / "test", **{f"{i}.png": bytes([i]) for i in range(25)})
    message = rf"test: 25 test images .*\({test[0]} = {test[0]}, .* and 5 more\): remove them"
    with pytest.raises(UserError, match=message):
        check_unseen(test, test, "test", "remove them")


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
