"""Resizing of images and parsing maps to squares."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from psfr.data import images, labels, resize
from psfr.utils.errors import UserError


@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 7, 32, 64]))
def test_any_shape_becomes_a_square(height, width, size):
    rng = np.random.default_rng(height * 71 + width)
    image = resize.resize_image(rng.integers(0, 256, (height, width, 3), np.uint8), size)
    seg = rng.integers(0, 19, (height, width), np.uint8)
    small = resize.resize_labels(seg, size)
    assert image.shape == (size, size, 3) and image.dtype == np.uint8
    assert small.shape == (size, size) and set(np.unique(small)) <= set(np.unique(seg))


def test_the_center_is_kept():
    image = np.zeros((10, 30, 3), np.uint8)
    image[:, 10:20] = 200
    assert (resize.resize_image(image, 10) == 200).all()
    assert (resize.resize_image(image.swapaxes(0, 1), 4) == 200).all()


def test_image_of_the_target_size_is_unchanged():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    assert (resize.resize_image(image, 32) == image).all()


def test_images_that_are_enlarged_are_counted_and_named(tmp_path, capsys):
    """Also those of an earlier run; the longer side does not count."""
    for name, shape in {"a": (20, 90), "b": (32, 32), "c": (90, 31)}.items():
        path = tmp_path / f"data/raw/images/{name}.{'tif' if name == 'a' else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", shape[::-1]).save(path)
        labels.write(tmp_path / f"data/raw/masks/{name}.png", np.zeros(shape, np.uint8))
    for _ in range(2):
        resize.resize_folder(tmp_path / "data/raw/images", tmp_path / "hr", 32, 1)
        resize.resize_labeled_folder(tmp_path / "data/raw", tmp_path / "labeled", 32, 1)
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
        assert [line.split(": ")[2:] for line in lines] == 2 * [
            [
                "2 of 3 images have fewer than 32 pixels and are enlarged (a.tif with 20, c.png with 31)",
                "remove them or lower image_size",
            ]
        ]
    resize.resize_folder(tmp_path / "data/raw/images", tmp_path / "hr", 16, 1)
    assert "warning" not in capsys.readouterr().err


def cubic_matrix(length: int, size: int) -> np.ndarray:
    """Return the matrix (size, length) of Keys' cubic convolution, a = -0.5, stretched by the scale if it shrinks."""
    scale = max(length / size, 1)
    centers = (np.arange(size) + 0.5) * length / size
    x = np.abs(np.arange(length) + 0.5 - centers[:, None]) / scale
    weights = np.where(x < 1, 1.5 * x**3 - 2.5 * x**2 + 1, np.where(x < 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0))
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize(("length", "size"), [(64, 16), (50, 32), (16, 64)])
def test_images_are_resized_with_an_antialiased_bicubic_filter(length, size):
    image = np.random.default_rng(0).integers(80, 176, (length, length, 3), np.uint8)  # Pillow clips between its passes
    matrix = cubic_matrix(length, size)
    expected = np.einsum("ih,jw,hwc->ijc", matrix, matrix, image.astype(float))
    assert np.abs(resize.resize_image(image, size) - expected).max() < 2


@pytest.mark.parametrize(("large", "small"), [(96, 32), (32, 96), (50, 32)])
def test_maps_stay_aligned_with_their_image(large, small):
    """Resize a disc as image and as map: both keep the same center."""
    y, x = np.mgrid[:large, :large] + 0.5
    disc = (x - large * 0.45) ** 2 + (y - large * 0.6) ** 2 < (large * 0.3) ** 2
    image = resize.resize_image(np.repeat(disc[:, :, None] * np.uint8(255), 3, 2), small)
    seg = resize.resize_labels(disc.astype(np.uint8), small)
    centers = [np.argwhere(mask).mean(0) for mask in (image[:, :, 0] > 127, seg == 1)]
    assert np.abs(centers[0] - centers[1]).max() < 0.3


def test_folders(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        images.write(
            tmp_path / "celebamask" / "raw" / "images" / f"{name}.png", rng.integers(0, 256, (40, 30, 3), np.uint8)
        )
        labels.write(tmp_path / "celebamask" / "raw" / "masks" / f"{name}.png", rng.integers(0, 19, (40, 30), np.uint8))
    raw, hr = tmp_path / "celebamask" / "raw", tmp_path / "hr"
    resize.resize_labeled_folder(raw, hr, 16, 2)
    assert sorted(str(path.relative_to(hr)) for path in hr.rglob("*.png")) == [
        "images/a.png",
        "images/b.png",
        "labels/a.png",
        "labels/b.png",
    ]
    resize.resize_folder(raw / "images", tmp_path / "flat", 16, 0)
    for name in ("a", "b"):
        assert (images.read(tmp_path / "flat" / f"{name}.png") == images.read(hr / "images" / f"{name}.png")).all()
        assert labels.read(hr / "labels" / f"{name}.png").shape == (16, 16)
    labels.write(raw / "masks" / "a.png", np.zeros((4, 4), np.uint8))
    (raw / "images" / "b.png").write_bytes(b"damaged")
    with pytest.raises(UserError) as caught:
        resize.resize_labeled_folder(raw, tmp_path / "again", 16, 2)
    assert "masks/a.png" in str(caught.value) and "images/b.png" in str(caught.value)
