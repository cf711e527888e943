"""Reading and writing photographs: bit depth, channels, alpha, orientation and color profile."""

import struct

import cv2
import numpy as np
import pillow_heif
import pytest
import tifffile
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from psfr.data import images
from psfr.photos import io
from psfr.photos.io import Photograph
from psfr.utils.errors import UserError
from tests.helpers import profiles


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


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("has_profile", [False, True])
def test_round_trip(tmp_path, image, suffix, dtype, channels, has_profile):
    """The file is valid: other programs read the same pixels, and a gray profile stands in gray files only."""
    pixels = image.astype(dtype) * (257 if dtype == np.uint16 else 1) + dtype(1)
    alpha = np.ascontiguousarray(pixels[:, :, 1]) if channels in (2, 4) else None
    gray = channels < 3
    if gray:
        pixels = np.repeat(pixels[:, :, :1], 3, axis=2)
    profile = profiles.gray_profile() if gray else profiles.rgb_profile()
    path, photograph = tmp_path / f"photo{suffix}", Photograph(pixels, alpha, gray, profile if has_profile else None)
    io.write(path, photograph)
    assert_equal(io.read(path), photograph)
    if suffix == ".png" or (dtype == np.uint8 or channels == 3):
        with Image.open(path) as file:
            assert file.info.get("icc_profile") == photograph.icc_profile
            assert suffix == ".tif" or path.read_bytes()[25] == {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    else:
        levels = tifffile.imread(path)
        assert (
            levels == (np.dstack([pixels[:, :, :1] if gray else pixels, alpha]) if channels != 1 else pixels[:, :, 0])
        ).all()
    reference = images.read(path)
    assert (photograph.to_srgb8() == reference).mean() > 0.98
    assert np.abs(photograph.to_srgb8().astype(int) - reference).max() <= 1


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_lossy_formats(tmp_path, image, suffix, channels):
    alpha, gray = (image[:, :, 1] if channels in (2, 4) else None), channels < 3
    pixels = np.repeat(image[:, :, :1], 3, axis=2) if gray else image
    profile = profiles.gray_profile() if gray else profiles.rgb_profile()
    photograph = Photograph(
        pixels.astype(np.uint16) * 257, None if alpha is None else alpha.astype(np.uint16) * 257, gray, profile
    )
    io.write(tmp_path / f"photo{suffix}", photograph)
    read = io.read(tmp_path / f"photo{suffix}")
    assert read.pixels.dtype == np.uint8 and (read.alpha is None) == (alpha is None or suffix == ".jpg")
    assert np.abs(read.to_srgb8().astype(int) - photograph.to_srgb8()).mean() < 8
    with Image.open(tmp_path / f"photo{suffix}") as file:
        assert file.info.get("icc_profile") == (None if gray and suffix == ".webp" else profile)


@pytest.mark.parametrize("source", [".jpg", ".png", ".webp", ".tif", ".heic"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_date_caption_and_resolution_are_kept(tmp_path, image, source, suffix):
    """Orientation and thumbnail are dropped: the pixels are upright."""
    pillow_heif.register_heif_opener()
    exif = Image.Exif()
    caption = "Großmutter" if source in (".jpg", ".png", ".webp") else "Oma"  # others replace what is not ASCII
    exif[0x0112], exif[0x010E], exif[0x0132] = 6, caption.encode(), "1969:07:20 20:17:40"
    exif[282], exif[283], exif[296] = 300.0, 300.0, 2
    exif[ExifTags.IFD.Exif] = {36867: "1969:07:20 20:17:40", 33434: IFDRational(1, 60), 37500: b"maker's notes"}
    exif[ExifTags.IFD.GPSInfo] = {1: "N", 2: (IFDRational(28), IFDRational(36), IFDRational(0))}
    options = {"exif": exif.tobytes(), "dpi": (300, 300)}
    if source == ".tif":
        options = {"tiffinfo": dict(exif), "dpi": (300, 300)}
    Image.fromarray(image).save(tmp_path / f"photo{source}", **options)
    photograph = io.read(tmp_path / f"photo{source}")
    assert photograph.pixels.shape == (32, 24, 3)
    io.write(tmp_path / f"out{suffix}", photograph.upscaled(2))
    with Image.open(tmp_path / f"out{suffix}") as result:
        kept = result.getexif()
        assert result.size == (48, 64) and kept.get(0x0112, 1) == 1 and 0x0201 not in kept.get_ifd(ExifTags.IFD.IFD1)
        assert kept[0x010E].encode("latin-1").decode() == caption and kept[0x0132] == "1969:07:20 20:17:40"
        detail = kept.get_ifd(ExifTags.IFD.Exif)
        assert detail[36867] == "1969:07:20 20:17:40" and detail[33434] == IFDRational(1, 60) and 37500 not in detail
        assert kept.get_ifd(ExifTags.IFD.GPSInfo)[2] == (28, 36, 0)
        resolution = result.info["dpi"] if suffix != ".webp" else (kept[282], kept[283])
        assert np.abs(np.array(resolution, float) - 300).max() < 0.1


def test_resolution_without_other_exif_data(tmp_path, image):
    Image.fromarray(image).save(tmp_path / "photo.png", dpi=(300, 300))
    io.write(tmp_path / "photo.webp", io.read(tmp_path / "photo.png"))
    assert io.read(tmp_path / "photo.webp").dpi == pytest.approx((300, 300), rel=1e-5)


def test_resolution_of_a_jpeg_that_states_it_in_exif_or_not_at_all(tmp_path, image):
    """Pillow gives the first (300, 300), and the second (72, 72)."""
    exif = Image.Exif()
    exif[306] = "1969:07:20 20:17:40"
    Image.fromarray(image).save(tmp_path / "none.jpg", exif=exif)
    exif[282], exif[283], exif[296] = 300.0, 200.0, 2
    Image.fromarray(image).save(tmp_path / "exif.jpg", exif=exif)
    assert [io.read(tmp_path / f"{name}.jpg").dpi for name in ("exif", "none")] == [(300, 200), None]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_unequal_resolutions_turn_with_the_photograph(tmp_path, image, suffix):
    exif = Image.Exif()
    exif[274], exif[282], exif[283], exif[296] = 6, 300.0, 200.0, 2
    options = {"tiffinfo": dict(exif)} if suffix == ".tif" else {"exif": exif}
    Image.fromarray(image).save(tmp_path / f"photo{suffix}", dpi=(300, 200), **options)
    photograph = io.read(tmp_path / f"photo{suffix}")
    assert photograph.pixels.shape == (32, 24, 3)
    assert photograph.dpi == pytest.approx((200, 300), rel=1e-4)


def test_damaged_exif_is_dropped(tmp_path, image):
    pointer = struct.pack("<HHHLL", 1, ExifTags.IFD.Exif, 4, 1, 2**31) + bytes(4)  # leads out of the file
    Image.fromarray(image).save(tmp_path / "photo.png", exif=b"Exif\0\0II*\0\x08\0\0\0" + pointer)
    photograph = io.read(tmp_path / "photo.png")
    assert photograph.exif is None and (photograph.pixels == image).all()


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
    (tmp_path / "a.CR2").touch()
    with pytest.raises(UserError, match="no images found but .cr2, which are not read: add .png"):
        io.list_photos(tmp_path)
    monkeypatch.setattr(images, "MAX_PIXELS", 32 * 24 * 4)
    Photograph(image).upscaled(2)
    with pytest.raises(UserError, match="128x96 pixels"):
        Photograph(image).upscaled(4)
