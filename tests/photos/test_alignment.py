"""The frame of a face, and the way into it and back."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfr import portraits
from psfr.photos import alignment, detection
from psfr.photos.alignment import MEAN, Frame

SIZE = 512
PLACES = st.complex_numbers(max_magnitude=3000, allow_nan=False, allow_infinity=False)


@given(centre=PLACES, size=st.floats(5, 4000), angle=st.floats(-np.pi, np.pi))
def test_the_frame_turns_grows_and_moves_with_the_face(centre, size, angle):
    side = size * np.exp(1j * angle)
    points = centre + side * (MEAN - 0.5 - 0.5j)
    found = alignment.frame(points)
    plain = alignment.frame(MEAN)
    assert found.side == pytest.approx(plain.side * side, rel=1e-6, abs=1e-6)
    assert found.centre == pytest.approx(centre + side * (plain.centre - 0.5 - 0.5j), rel=1e-6, abs=1e-3)
    assert found.unit(found.places(MEAN)) == pytest.approx(MEAN, abs=1e-6)


def test_a_face_with_the_mean_landmarks_has_the_whole_picture_as_its_frame():
    """The factors make the mean frame that of the mean face to 2 of 512 pixels."""
    found = alignment.frame(MEAN * SIZE)
    assert np.abs(found.places(np.array([0.5 + 0.5j])) - SIZE * (0.5 + 0.5j)) < 2
    assert found.size == pytest.approx(SIZE, rel=0.02)


def test_the_frame_agrees_with_aligned_faces():
    """Drawn portraits, which are drawn in FFHQ's frame: in the mean it stays in its place to 2 of 512 pixels, and as large to a few per cent."""
    centres, sizes = [], []
    for index in range(10):
        picture = cv2.resize(portraits.draw(5, index, 256)[0], (SIZE, SIZE))
        box = detection.detector()(picture, 0)[0]
        frame = alignment.frame(detection.landmarks(picture, box))
        centres.append(frame.centre)
        sizes.append(frame.size)
    assert abs(np.mean(centres) - SIZE * (0.5 + 0.5j)) < 2
    assert np.mean(sizes) == pytest.approx(SIZE, rel=0.04)


@pytest.mark.parametrize("angle", [0, 20, 135])
@pytest.mark.parametrize("size", [40, 128, 700])
def test_a_crop_and_back_is_the_picture_again(angle, size):
    """Of a smooth picture: wherever the frame lies, however large it is beside its crop."""
    row, column = np.mgrid[0:600, 0:800]
    picture = np.stack([column / 4, row / 3, 128 + 60 * np.sin(row / 40)], 2).astype(np.uint8)
    side = size * np.exp(1j * np.radians(angle))
    of = Frame(complex(420 + 310j - side * (0.5 + 0.5j)), complex(side))
    square = alignment.crop(picture, of, 128)
    rows, columns = alignment.window(of, picture.shape)
    with_mask = np.dstack([square, np.full((128, 128), 255)]).astype(np.float32)
    back = alignment.uncrop(with_mask, of.moved(columns.start, rows.start), picture[rows, columns].shape[:2])
    inside = cv2.erode((back[:, :, 3] > 250).astype(np.uint8), np.ones((5, 5))) > 0
    assert inside.sum() > 0.4 * size**2 * 0.5
    assert np.abs(back[:, :, :3] - picture[rows, columns])[inside].max() <= 6
    assert np.abs(back[:, :, :3] - picture[rows, columns])[inside].mean() <= 1


def test_a_crop_takes_what_the_frame_shows():
    """Exactly, where a pixel is a pixel; turned by a right angle too."""
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    assert (alignment.crop(picture, Frame(10 + 20j, 32 + 0j), 32) == picture[20:52, 10:42]).all()
    assert (alignment.crop(picture, Frame(10 + 52j, -32j), 32) == np.rot90(picture[20:52, 10:42], -1)).all()
    assert (
        np.abs(
            alignment.crop(picture, Frame(10 + 20j, 32 + 0j), 16)
            - picture[20:52, 10:42].reshape(16, 2, 16, 2, 3).mean((1, 3))
        ).max()
        <= 1
    )


def test_beyond_the_edge_the_picture_is_mirrored():
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    square = alignment.crop(picture, Frame(-8 + 4j, 32 + 0j), 32)
    assert (square[:, 8:] == picture[4:36, :24]).all()
    assert (square[:, 7::-1] == picture[4:36, 1:9]).all()


@given(
    x=st.floats(-0.5, 1),
    y=st.floats(-0.5, 1),
    size=st.floats(1, 300),
    height=st.integers(1, 50),
    width=st.integers(1, 50),
)
def test_any_frame_of_a_picture_has_a_crop_and_a_window(x, y, size, height, width):
    of = Frame(complex(x * width, y * height), complex(size))
    rows, columns = alignment.window(of, (height, width))
    assert 0 <= rows.start < rows.stop <= height
    assert 0 <= columns.start < columns.stop <= width
    assert alignment.crop(np.full((height, width, 3), 7, np.uint8), of, 8).tolist() == np.full((8, 8, 3), 7).tolist()
