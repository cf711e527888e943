"""Parsing maps on disk."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from psfr.data import labels
from psfr.utils.errors import UserError


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20)), elements=st.integers(0, 18)))
def test_write_and_read_are_inverse(tmp_path_factory, seg):
    path = tmp_path_factory.mktemp("labels") / "face.png"
    labels.write(path, seg)
    assert (labels.read(path) == seg).all()


def test_palette(tmp_path):
    """Opened as a color image, the file has the colors of PALETTE."""
    seg = np.arange(19, dtype=np.uint8)[None]
    labels.write(tmp_path / "face.png", seg)
    assert (np.asarray(Image.open(tmp_path / "face.png").convert("RGB")) == labels.PALETTE[seg]).all()
    assert len(np.unique(labels.PALETTE, axis=0)) == 19


def test_grayscale_files_are_read(tmp_path):
    seg = np.arange(18, dtype=np.uint8).reshape(3, 6)
    Image.fromarray(seg).save(tmp_path / "face.png")
    assert (labels.read(tmp_path / "face.png") == seg).all()


def test_label_over_18_is_refused(tmp_path):
    Image.fromarray(np.full((4, 4), 19, np.uint8)).save(tmp_path / "face.png")
    with pytest.raises(UserError, match=r"face\.png: label 19 is over 18"):
        labels.read(tmp_path / "face.png")


def test_color_images_are_refused(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "face.png")
    with pytest.raises(UserError, match=r"face\.png.*not colors"):
        labels.read(tmp_path / "face.png")


@pytest.mark.parametrize("content", [None, b"", b"text"])
def test_damaged_and_missing_files_are_named(tmp_path, content):
    if content is not None:
        (tmp_path / "face.png").write_bytes(content)
    with pytest.raises(UserError, match=r"face\.png"):
        labels.read(tmp_path / "face.png")


def test_write_refuses_other_dtypes(tmp_path):
    with pytest.raises(TypeError):
        labels.write(tmp_path / "face.png", np.zeros((4, 4), np.int64))
    assert not list(tmp_path.iterdir())


def test_flip_map_swaps_left_and_right():
    for name, other in [
        ("left_eye", "right_eye"),
        ("left_brow", "right_brow"),
        ("left_ear", "right_ear"),
        ("nose", "nose"),
    ]:
        assert labels.NAMES[labels.FLIP_MAP[labels.NAMES.index(name)]] == other
    assert (labels.FLIP_MAP[labels.FLIP_MAP] == np.arange(19)).all()
