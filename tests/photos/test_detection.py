"""Faces are found where they are, however they are turned and degraded, and nowhere else."""

import cv2
import numpy as np
import pytest
from skimage import data

from psfr.photos import alignment, detection
from psfr.utils.errors import InputError
from tests.helpers import photos


def off(found: alignment.Frame, true: alignment.Frame) -> float:
    """Mean distance of the corners, in pixels of a frame of 512."""
    corners = np.array([0, 1, 1j, 1 + 1j])
    return float(np.abs(found.places(corners) - true.places(corners)).mean() / true.size * 512)


@pytest.mark.parametrize("degrees", [0, 15, 30, 45, -60, 90, 180])
def test_a_turned_face_is_found_in_its_place(degrees):
    picture, true = photos.turned(degrees)
    found = detection.find(picture)
    assert len(found) == 1
    assert off(found[0], true) < 12


def test_many_tiny_and_cut_faces_are_found_the_largest_first():
    """One cut by the left border, one at the lower one, and one of 35 pixels."""
    picture = np.full((420, 700, 3), 120, np.uint8)
    head = photos.astronaut()
    picture[20:276, :190] = head[:, 66:]
    picture[210:420, 300:556] = head[:210]
    picture[60:111, 600:651] = cv2.resize(head, (51, 51), interpolation=cv2.INTER_AREA)
    found = detection.find(picture)
    assert len(found) == 3
    assert [face.size for face in found[:2]] == pytest.approx([175, 175], rel=0.05)
    assert found[2].size == pytest.approx(35, rel=0.1)
    assert off(found[2], photos.FRAME.scaled(51 / 256).moved(-600, -60)) < 30


def test_where_there_is_no_face_none_is_found():
    assert detection.find(np.ascontiguousarray(data.coffee()[::2, ::2])) == []
    assert (
        detection.find(np.repeat(data.grass()[:, :, None], 3, axis=2)) == []
    )  # where the first detector alone sees some
    assert detection.find(np.random.default_rng(0).integers(0, 256, (90, 160, 3), np.uint8)) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 2), (7, 5)])
def test_a_picture_may_be_of_any_shape(shape):
    assert detection.find(np.zeros((*shape, 3), np.uint8)) == []


def test_a_blurred_face_is_less_the_same_and_another_is_another():
    face = alignment.crop(photos.astronaut(), photos.FRAME, 256)
    blurred = [cv2.GaussianBlur(face, (0, 0), width) for width in (2, 8)]
    same, little, much = detection.distances(face, face, *blurred)
    assert same == 0
    assert 0 < little < 0.6 < much + 0.2
    assert little < much


@pytest.mark.parametrize(("content", "told"), [(None, "does not have it"), (b"damaged", "has SHA-256")])
def test_a_missing_or_damaged_file_is_told_before_dlib_opens_it(tmp_path, monkeypatch, content, told):
    (tmp_path / "models").mkdir()
    if content:
        (tmp_path / "models" / detection.LANDMARKS).write_bytes(content)
    (tmp_path / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path.parent)
    monkeypatch.setattr(detection, "PACKAGE", tmp_path.name)
    detection._model.cache_clear()
    with pytest.raises(InputError, match=told):
        detection.landmarks(photos.astronaut(), None)
    detection._model.cache_clear()
