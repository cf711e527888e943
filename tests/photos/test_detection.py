"""Face detection at any position, size, rotation and degradation, without false positives."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from skimage import data

from psfr.metrics import identity
from psfr.photos import alignment, detection
from psfr.pretrained import metric_files
from psfr.utils.errors import UserError
from tests.helpers import photos


def corner_error(frame: alignment.Frame, true: alignment.Frame) -> float:
    """Return the mean distance of the corners, in pixels of a frame of 512."""
    corners = np.array([0, 1, 1j, 1 + 1j])
    return float(np.abs(frame.to_image(corners) - true.to_image(corners)).mean() / true.size * 512)


@pytest.mark.heavy
@pytest.mark.parametrize("degrees", [0, 15, 30, 45, -60, 90, 180])
def test_finds_a_rotated_face(degrees):
    photo, true = photos.rotated(degrees)
    frames = detection.find_faces(photo)
    assert len(frames) == 1
    assert corner_error(frames[0], true) < 12


@pytest.mark.heavy
def test_finds_several_faces_the_largest_first():
    """One cut by the left border, one by the lower border, and one of 35 pixels."""
    photo = np.full((420, 700, 3), 120, np.uint8)
    head = photos.astronaut()
    photo[20:276, :190] = head[:, 66:]
    photo[210:420, 300:556] = head[:210]
    photo[60:111, 600:651] = cv2.resize(head, (51, 51), interpolation=cv2.INTER_AREA)
    frames = detection.find_faces(photo)
    assert len(frames) == 3
    assert [frame.size for frame in frames[:2]] == pytest.approx([175, 175], rel=0.05)
    assert frames[2].size == pytest.approx(35, rel=0.1)
    assert corner_error(frames[2], photos.FRAME.scaled(51 / 256).translated(-600, -60)) < 30


@pytest.mark.heavy
@pytest.mark.parametrize(("contrast", "offset"), [(0.12, 0), (0.08, 200), (0.18, 60)])
def test_faded_and_dark_faces(contrast, offset):
    """They are found where the photograph at normal levels has them."""
    photo = np.rint(photos.astronaut() * contrast + offset).astype(np.uint8)
    start = alignment.Frame(photos.FRAME.corner - 0.05 * photos.FRAME.side, 1.1 * photos.FRAME.side)
    frame = detection._refined(photo, start)
    assert corner_error(frame, photos.FRAME) < 12 and detection._confirmed(photo, frame)


@pytest.mark.parametrize("side", ["left", "top", "right", "bottom"])
@pytest.mark.parametrize("share", [0.1, 0.24, 0.3, 0.38])
def test_landmarks_of_a_cut_face(side, share):
    """They are those of the whole face, also where the mirrored photograph shows a second eye or mouth."""
    photo, true = photos.cut(side, share)
    start = alignment.Frame(true.corner - 0.03 * true.side, 1.06 * true.side)
    frame = detection._refined(photo, start)
    assert frame.size == pytest.approx(true.size, rel=0.05)
    assert corner_error(frame, true) < 20
    assert detection.is_cut(photo, frame) == (share > detection.MAX_OUTSIDE)


def test_a_face_with_an_eye_outside_is_cut(monkeypatch):
    """However small the part of the frame outside is."""
    photo, frame = photos.cut("left", 0.1)
    outside = [-1 + 60j, 60 + 60j, 30 + 90j, 60 + 90j]
    monkeypatch.setattr(detection, "find_landmarks", lambda *_: np.array(outside))
    assert detection.is_cut(photo, frame)
    assert not detection.is_cut(photos.astronaut(), photos.FRAME), "no part outside: the landmarks are inside"


@pytest.mark.heavy
def test_finds_no_face_where_there_is_none():
    grass = np.repeat(data.grass()[:, :, None], 3, axis=2)  # the HOG detector alone has false positives in it
    noise = np.random.default_rng(0).integers(0, 256, (90, 160, 3), np.uint8)
    for photo in (np.ascontiguousarray(data.coffee()[::2, ::2]), grass, noise):
        assert detection.find_faces(photo) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 2), (7, 5)])
def test_accepts_any_image_size(shape):
    assert detection.find_faces(np.zeros((*shape, 3), np.uint8)) == []


def test_identity_distance_grows_with_blur():
    face = alignment.crop(photos.astronaut(), photos.FRAME, 256)
    blurred = [cv2.GaussianBlur(face, (0, 0), sigma) for sigma in (2, 8)]
    same, little, much = identity.embedding_distances(face, [face, *blurred], detection.identity_models())
    assert same == 0
    assert 0 < little < 0.6 < much + 0.2
    assert little < much


@pytest.mark.parametrize(("content", "message"), [(None, "not in the package"), (b"damaged", "has SHA-256")])
def test_missing_or_damaged_model_file(tmp_path, monkeypatch, content, message):
    """The file is checked before dlib opens it."""
    (tmp_path / "models").mkdir()
    if content:
        for name in (detection.LANDMARKS, metric_files.FACE_LANDMARKS):
            (tmp_path / "models" / name).write_bytes(content)
    (tmp_path / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path.parent)
    monkeypatch.setattr(detection, "PACKAGE", tmp_path.name)
    detection._model.cache_clear()
    with pytest.raises(UserError, match=message):
        detection.landmarks(photos.astronaut(), None)
    with pytest.raises(UserError, match=message):
        detection.identity_models()
    detection._model.cache_clear()


@pytest.mark.heavy
def test_threads_have_detectors_of_their_own():
    """dlib's detector changes its own state and releases the GIL: a shared one corrupts memory."""
    gray = cv2.cvtColor(photos.astronaut(), cv2.COLOR_RGB2GRAY)
    copies = [cv2.resize(gray, (size, size)) for size in (256, 200, 300, 170)]

    def detect(index: int) -> list[tuple[float, alignment.Frame]]:
        return detection._candidates(copies[index % 4], 0, 1, -1.0)

    expected = [detect(index) for index in range(4)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(detect, range(16)))
    assert any(expected) and found == expected * 4
