"""Photographs are read and written with all that they are: bits, channels, alpha, profile, and the right way up."""

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from psfr.data import images
from psfr.photos import io
from psfr.photos.io import Photograph
from psfr.utils.errors import InputError


@pytest.fixture
def picture() -> np.ndarray:
    y, x = np.mgrid[0:24, 0:32]
    return np.stack([x * 8, y * 10, 255 - x * 4 - y * 4], axis=2).astype(np.uint8)


def same(one: Photograph, other: Photograph) -> bool:
    """In all but the file."""
    alike = (
        one.levels.dtype == other.levels.dtype
        and (one.levels == other.levels).all()
        and (one.gray, one.profile) == (other.gray, other.profile)
    )
    return (
        alike
        and (one.alpha is None) == (other.alpha is None)
        and (one.alpha is None or (one.alpha == other.alpha).all())
    )


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_what_is_written_is_read_again(tmp_path, picture, kind, channels):
    levels = picture.astype(kind) * (257 if kind == np.uint16 else 1) + kind(1)
    if channels == 1:
        levels = np.repeat(levels[:, :, :1], 3, axis=2)
    alpha = np.ascontiguousarray(levels[:, :, 1]) if channels == 4 else None
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() if channels == 3 else None
    written = Photograph(levels, alpha, channels == 1, profile)
    io.write(tmp_path / "photo.png", written)
    assert same(io.read(tmp_path / "photo.png"), written)
    assert (written.seen == images.read(tmp_path / "photo.png")).mean() > 0.99
    assert np.abs(written.seen.astype(int) - images.read(tmp_path / "photo.png")).max() <= 1


def test_a_jpeg_has_8_bits_and_white_for_alpha(tmp_path, picture):
    alpha = np.zeros(picture.shape[:2], np.uint16)
    alpha[:, :16] = 65535
    io.write(tmp_path / "photo.jpg", Photograph(picture.astype(np.uint16) * 257, alpha))
    found = io.read(tmp_path / "photo.jpg")
    assert found.levels.dtype == np.uint8 and found.alpha is None
    assert np.abs(found.levels[:, :12].astype(int) - picture[:, :12]).max() <= 12
    assert (found.levels[:, 24:] == 255).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "RGBA", "I;16", "YCbCr"])
def test_every_mode_looks_as_images_reads_it(tmp_path, picture, mode):
    name = f"photo.{'tif' if mode in ('CMYK', 'YCbCr') else 'png'}"
    image = (
        Image.fromarray(picture[:, :, 0].astype(np.uint16) * 257)
        if mode == "I;16"
        else Image.fromarray(picture).convert(mode)
    )
    image.save(tmp_path / name)
    found = io.read(tmp_path / name)
    assert (found.seen == images.read(tmp_path / name)).all()
    assert found.gray == (mode in ("1", "L", "LA", "I;16"))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_upright(tmp_path, picture, kind, orientation):
    """EXIF says how the stored picture is turned; nothing turns the written one once more."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    levels = picture[:, :, ::-1].astype(kind) * (257 if kind == np.uint16 else 1)
    _, encoded = cv2.imencodeWithMetadata(
        ".png", levels, [cv2.IMAGE_METADATA_EXIF], [np.frombuffer(exif.tobytes().removeprefix(b"Exif\0\0"), np.uint8)]
    )
    (tmp_path / "photo.png").write_bytes(encoded)
    photograph = io.read(tmp_path / "photo.png")
    assert photograph.levels.dtype == kind
    assert (photograph.seen == images.read(tmp_path / "photo.png")).all()
    io.write(tmp_path / "again.png", photograph)
    assert same(io.read(tmp_path / "again.png"), photograph)


def test_an_enlarged_photograph_shows_the_same(picture):
    large = Photograph(picture, picture[:, :, 0]).enlarged(4)
    assert large.levels.shape == (96, 128, 3) and large.alpha.shape == (96, 128)
    assert np.abs(cv2.resize(large.levels, (32, 24), interpolation=cv2.INTER_AREA).astype(int) - picture).max() <= 4
    same_size = Photograph(picture).enlarged(1)
    assert (same_size.levels == picture).all() and not np.shares_memory(same_size.levels, picture)


def test_what_cannot_be_is_told(tmp_path, picture, monkeypatch):
    with pytest.raises(InputError, match=r"photo\.gif: cannot be written"):
        io.write(tmp_path / "photo.gif", Photograph(picture))
    with pytest.raises(InputError, match="no such photograph or folder"):
        io.listed(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no pictures in it"):
        io.listed(tmp_path)
    monkeypatch.setattr(images, "MAX_PIXELS", 32 * 24 * 4)
    Photograph(picture).enlarged(2)
    with pytest.raises(InputError, match="128x96 pixels"):
        Photograph(picture).enlarged(4)
