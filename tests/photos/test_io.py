"""Reading and writing photographs: bit depth, channels, alpha, orientation and color profile."""

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from psfr.data import images
from psfr.photos import io
from psfr.photos.io import Photograph
from psfr.utils.errors import UserError


@pytest.fixture
def image() -> np.ndarray:
    y, x = np.mgrid[0:24, 0:32]
    return np.stack([x * 8, y * 10, 255 - x * 4 - y * 4], axis=2).astype(np.uint8)


def assert_equal(one: Photograph, other: Photograph) -> None:
    assert one.pixels.dtype == other.pixels.dtype
    assert (one.pixels == other.pixels).all()
    assert (one.gray, one.icc_profile) == (other.gray, other.icc_profile)
    assert (one.alpha is None) == (other.alpha is None)
    assert one.alpha is None or (one.alpha == other.alpha).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_round_trip(tmp_path, image, dtype, channels):
    pixels = image.astype(dtype) * (257 if dtype == np.uint16 else 1) + dtype(1)
    if channels == 1:
        pixels = np.repeat(pixels[:, :, :1], 3, axis=2)
    alpha = np.ascontiguousarray(pixels[:, :, 1]) if channels == 4 else None
    icc_profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() if channels == 3 else None
    photograph = Photograph(pixels, alpha, channels == 1, icc_profile)
    io.write(tmp_path / "photo.png", photograph)
    assert_equal(io.read(tmp_path / "photo.png"), photograph)
    reference = images.read(tmp_path / "photo.png")
    assert (photograph.to_rgb8() == reference).mean() > 0.99
    assert np.abs(photograph.to_rgb8().astype(int) - reference).max() <= 1


def test_jpeg_has_8_bits_and_a_white_background(tmp_path, image):
    alpha = np.zeros(image.shape[:2], np.uint16)
    alpha[:, :16] = 65535
    io.write(tmp_path / "photo.jpg", Photograph(image.astype(np.uint16) * 257, alpha))
    read = io.read(tmp_path / "photo.jpg")
    assert read.pixels.dtype == np.uint8 and read.alpha is None
    assert np.abs(read.pixels[:, :12].astype(int) - image[:, :12]).max() <= 12
    assert (read.pixels[:, 24:] == 255).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "RGBA", "I;16", "YCbCr"])
def test_every_mode_is_read_as_by_images(tmp_path, image, mode):
    path = tmp_path / f"photo.{'tif' if mode in ('CMYK', 'YCbCr') else 'png'}"
    if mode == "I;16":
        Image.fromarray(image[:, :, 0].astype(np.uint16) * 257).save(path)
    else:
        Image.fromarray(image).convert(mode).save(path)
    photograph = io.read(path)
    assert (photograph.to_rgb8() == images.read(path)).all()
    assert photograph.gray == (mode in ("1", "L", "LA", "I;16"))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(tmp_path, image, dtype, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    bgr = image[:, :, ::-1].astype(dtype) * (257 if dtype == np.uint16 else 1)
    exif_bytes = np.frombuffer(exif.tobytes().removeprefix(b"Exif\0\0"), np.uint8)
    _, encoded = cv2.imencodeWithMetadata(".png", bgr, [cv2.IMAGE_METADATA_EXIF], [exif_bytes])
    (tmp_path / "photo.png").write_bytes(encoded)
    photograph = io.read(tmp_path / "photo.png")
    assert photograph.pixels.dtype == dtype
    assert (photograph.to_rgb8() == images.read(tmp_path / "photo.png")).all()
    io.write(tmp_path / "again.png", photograph)
    assert_equal(io.read(tmp_path / "again.png"), photograph)


def test_upscaled(image):
    large = Photograph(image, image[:, :, 0]).upscaled(4)
    assert large.pixels.shape == (96, 128, 3) and large.alpha.shape == (96, 128)
    assert np.abs(cv2.resize(large.pixels, (32, 24), interpolation=cv2.INTER_AREA).astype(int) - image).max() <= 4
    copy = Photograph(image).upscaled(1)
    assert (copy.pixels == image).all() and not np.shares_memory(copy.pixels, image)


def test_error_messages(tmp_path, image, monkeypatch):
    with pytest.raises(UserError, match=r"photo\.gif: unsupported output format"):
        io.write(tmp_path / "photo.gif", Photograph(image))
    with pytest.raises(UserError, match="no such file or folder"):
        io.list_photos(tmp_path / "missing")
    images.write(tmp_path / "@eaDir/photo.jpg/SYNOPHOTO_THUMB_M.png", image)  # a thumbnail of a Synology device
    with pytest.raises(UserError, match="no images found"):
        io.list_photos(tmp_path)
    monkeypatch.setattr(images, "MAX_PIXELS", 32 * 24 * 4)
    Photograph(image).upscaled(2)
    with pytest.raises(UserError, match="128x96 pixels"):
        Photograph(image).upscaled(4)
