"""FFHQ frame of a face, and the transform into it and back."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfr import portraits
from psfr.photos import alignment, detection
from psfr.photos.alignment import Frame

SIZE = 512
POINTS = st.complex_numbers(max_magnitude=3000, allow_nan=False, allow_infinity=False)
# Mean landmarks of aligned faces, in unit coordinates, as `benchmarks.frame` prints them.
MEAN_LANDMARKS = np.array([0.3796 + 0.4823j, 0.6223 + 0.4828j, 0.3916 + 0.7354j, 0.6107 + 0.7357j])


@given(center=POINTS, size=st.floats(5, 4000), angle=st.floats(-np.pi, np.pi))
def test_frame_rotates_scales_and_moves_with_the_face(center, size, angle):
    side = size * np.exp(1j * angle)
    frame = alignment.estimate_frame(center + side * (MEAN_LANDMARKS - 0.5 - 0.5j))
    unit_frame = alignment.estimate_frame(MEAN_LANDMARKS)
    assert frame.side == pytest.approx(unit_frame.side * side, rel=1e-6, abs=1e-6)
    assert frame.center == pytest.approx(center + side * (unit_frame.center - 0.5 - 0.5j), rel=1e-6, abs=1e-3)
    assert frame.to_unit(frame.to_image(MEAN_LANDMARKS)) == pytest.approx(MEAN_LANDMARKS, abs=1e-6)


def test_frame_of_mean_landmarks_is_the_whole_image():
    """To 2 of 512 pixels."""
    frame = alignment.estimate_frame(MEAN_LANDMARKS * SIZE)
    assert np.abs(frame.to_image(np.array([0.5 + 0.5j])) - SIZE * (0.5 + 0.5j)) < 2
    assert frame.size == pytest.approx(SIZE, rel=0.02)


@pytest.mark.heavy
def test_frame_of_aligned_faces_is_the_whole_image_on_average():
    """Synthetic portraits are drawn in FFHQ's frame: the center agrees to 2 of 512 pixels, the size to 4 %."""
    centers, sizes = [], []
    for index in range(10):
        image = cv2.resize(portraits.draw(5, index, 256)[0], (SIZE, SIZE))
        box = detection.hog_detector()(image, 0)[0]
        frame = alignment.estimate_frame(detection.landmarks(image, box))
        centers.append(frame.center)
        sizes.append(frame.size)
    assert abs(np.mean(centers) - SIZE * (0.5 + 0.5j)) < 2
    assert np.mean(sizes) == pytest.approx(SIZE, rel=0.04)


@pytest.mark.parametrize("angle", [0, 20, 135])
@pytest.mark.parametrize("size", [40, 128, 700])
def test_uncrop_inverts_crop(angle, size):
    """On a smooth image, for frames smaller and larger than the crop."""
    row, column = np.mgrid[0:600, 0:800]
    image = np.stack([column / 4, row / 3, 128 + 60 * np.sin(row / 40)], 2).astype(np.uint8)
    side = size * np.exp(1j * np.radians(angle))
    frame = Frame(complex(420 + 310j - side * (0.5 + 0.5j)), complex(side))
    patch = alignment.crop(image, frame, 128)
    rows, columns = alignment.window(frame, image.shape)
    covered = image[rows, columns]
    patch_with_mask = np.dstack([patch, np.full((128, 128), 255)]).astype(np.float32)
    back = alignment.uncrop(patch_with_mask, frame.translated(columns.start, rows.start), covered.shape)
    inside = cv2.erode((back[:, :, 3] > 250).astype(np.uint8), np.ones((5, 5))) > 0
    assert inside.sum() > 0.4 * size**2 * 0.5
    errors = np.abs(back[:, :, :3] - covered)[inside]
    assert errors.max() <= 6
    assert errors.mean() <= 1


def test_crop_takes_exact_pixels():
    """At the frame's own size, also rotated by a right angle; at half the size, means of 2x2 pixels."""
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    content = image[20:52, 10:42]
    assert (alignment.crop(image, Frame(10 + 20j, 32 + 0j), 32) == content).all()
    assert (alignment.crop(image, Frame(10 + 52j, -32j), 32) == np.rot90(content, -1)).all()
    halved = content.reshape(16, 2, 16, 2, 3).mean((1, 3))
    assert np.abs(alignment.crop(image, Frame(10 + 20j, 32 + 0j), 16) - halved).max() <= 1


def test_crop_mirrors_beyond_the_border():
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    patch = alignment.crop(image, Frame(-8 + 4j, 32 + 0j), 32)
    assert (patch[:, 8:] == image[4:36, :24]).all()
    assert (patch[:, 7::-1] == image[4:36, 1:9]).all()


@given(
    x=st.floats(-0.5, 1),
    y=st.floats(-0.5, 1),
    size=st.floats(1, 300),
    height=st.integers(1, 50),
    width=st.integers(1, 50),
)
def test_any_frame_has_a_crop_and_a_window(x, y, size, height, width):
    frame = Frame(complex(x * width, y * height), complex(size))
    rows, columns = alignment.window(frame, (height, width))
    assert 0 <= rows.start < rows.stop <= height
    assert 0 <= columns.start < columns.stop <= width
    crop = alignment.crop(np.full((height, width, 3), 7, np.uint8), frame, 8)
    assert crop.tolist() == np.full((8, 8, 3), 7).tolist()
