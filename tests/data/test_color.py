"""Pixels are converted to sRGB by the profile of their file, of any color space, and valid files are written."""

import io as memory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from psfr.data import color, images, resize
from psfr.photos import io
from tests.helpers import profiles

SRGB = ImageCms.createProfile("sRGB")


@pytest.fixture
def picture() -> np.ndarray:
    y, x = np.mgrid[0:24, 0:32]
    return np.stack([x * 8, y * 10, 255 - x * 4 - y * 4], axis=2).astype(np.uint8)


def converted(image: Image.Image, profile: bytes) -> np.ndarray:
    """Return what PIL.ImageCms makes of an image."""
    source = ImageCms.ImageCmsProfile(memory.BytesIO(profile))
    return np.array(ImageCms.profileToProfile(image, source, SRGB, outputMode="RGB"))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
@pytest.mark.parametrize("primaries", [profiles.ADOBE_RGB, profiles.DISPLAY_P3])
def test_rgb_is_converted_for_the_pipeline_and_kept_in_photographs(tmp_path, picture, suffix, primaries):
    path, profile = tmp_path / f"photo{suffix}", profiles.rgb_profile(primaries)
    Image.fromarray(picture).save(path, icc_profile=profile, quality=95)
    levels = np.array(Image.open(path).convert("RGB"))
    right = converted(Image.fromarray(levels), profile)
    assert np.abs(right.astype(int) - levels).max() > 20
    assert (images.read(path) == right).all() and (io.read(path).to_srgb8() == right).all()
    assert (io.read(path).pixels == levels).all() and io.read(path).icc_profile == profile
    resize.resize_folder(tmp_path, tmp_path / "hr", 24, 0)
    assert (images.read(tmp_path / "hr" / "photo.png") == right[:, 4:28]).all()


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_is_converted_by_its_profile(tmp_path, picture, suffix):
    path, profile = tmp_path / f"photo{suffix}", profiles.cmyk_profile()
    cmyk = Image.fromarray(picture).convert("CMYK")
    cmyk.save(path, icc_profile=profile, quality=95)
    right = converted(Image.open(path), profile)
    assert np.abs(right.astype(int) - np.array(cmyk.convert("RGB"))).mean() > 10
    assert (images.read(path) == right).all()
    assert (io.read(path).pixels == right).all() and io.read(path).icc_profile is None


def test_gray_stays_gray(tmp_path, picture):
    path, profile = tmp_path / "photo.png", profiles.gray_profile()
    gray = Image.fromarray(picture[:, :, 0])
    gray.save(path, icc_profile=profile)
    right = converted(gray, profile)[:, :, 1:2]
    assert np.abs(right.astype(int) - picture[:, :, :1]).max() > 5
    assert (images.read(path) == right).all() and (io.read(path).to_srgb8() == right).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_alpha_and_palettes_are_converted(tmp_path, picture, mode):
    profile = profiles.gray_profile() if mode == "LA" else profiles.rgb_profile()
    image = Image.fromarray(picture).convert(mode)
    if mode != "P":
        image.putalpha(Image.fromarray(picture[:, :, 1]))
    image.save(tmp_path / "photo.png", icc_profile=profile)
    opaque = image.convert("L" if mode == "LA" else "RGB")
    right = converted(opaque, profile)
    if mode != "P":
        opacity = picture[:, :, 1:2] / 255
        right = right * opacity + 255 * (1 - opacity)
    assert np.abs(images.read(tmp_path / "photo.png") - right).max() <= 1.01
    assert np.abs(io.read(tmp_path / "photo.png").to_srgb8() - right).max() <= 1.01


@pytest.mark.parametrize("profile", [ImageCms.ImageCmsProfile(SRGB).tobytes(), b"x" * 200, profiles.cmyk_profile()])
def test_srgb_and_invalid_profiles_change_nothing(tmp_path, picture, profile):
    Image.fromarray(picture).save(tmp_path / "photo.png", icc_profile=profile)
    assert (images.read(tmp_path / "photo.png") == picture).all()
    assert io.read(tmp_path / "photo.png").icc_profile in (None, ImageCms.ImageCmsProfile(SRGB).tobytes())


@pytest.mark.heavy
@settings(max_examples=20)
@given(st.integers(0, 400), st.binary(max_size=40))
def test_damaged_profiles_are_no_error(start, junk):
    pixels = np.zeros((2, 2, 3), np.uint8)
    for profile in (profiles.rgb_profile(), profiles.gray_profile(), profiles.cmyk_profile()):
        damaged = profile[:start] + junk + profile[start + len(junk) :]
        assert color.to_srgb(pixels, color.usable_profile(damaged, True)).shape == pixels.shape
        assert color.cmyk_to_srgb(np.zeros((2, 2, 4), np.uint8), damaged).shape == pixels.shape
