"""Color profiles, and conversion of levels to sRGB and to 8 bits."""

from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageCms

# The color space of a profile, as ICC names it.
GRAY, RGB, CMYK = "GRAY", "RGB", "CMYK"


def usable_profile(icc_profile: bytes | None, gray: bool) -> bytes | None:
    """Return a profile if it describes gray (or RGB) pixels, None if it is invalid or of another color space.

    A gray image with a profile for RGB is an RGB image whose channels are equal; one with a profile for gray is not.
    """
    space = _color_space(icc_profile) if icc_profile else None
    return icc_profile if space == RGB or (space == GRAY and gray) else None


def is_gray_profile(icc_profile: bytes) -> bool:
    """Return whether a profile describes gray pixels."""
    return _color_space(icc_profile) == GRAY


def to_srgb(pixels: np.ndarray, icc_profile: bytes | None) -> np.ndarray:
    """Convert an image, uint8 RGB (H, W, 3), from the color space of its profile to sRGB.

    Pixels without a profile are sRGB. Profiles that differ from sRGB by at most one level leave pixels unchanged.

    Args:
        pixels: with three equal channels if the profile is for gray.
        icc_profile: that `usable_profile` returned.
    """
    if icc_profile is None:
        return pixels
    if is_gray_profile(icc_profile):
        return _gray_levels(icc_profile)[pixels]
    if is_srgb(icc_profile):
        return pixels
    return _apply(Image.fromarray(pixels), icc_profile)


def cmyk_to_srgb(cmyk: np.ndarray, icc_profile: bytes | None) -> np.ndarray:
    """Convert CMYK, uint8 (H, W, 4) with 255 for full ink, to sRGB, uint8 (H, W, 3), by the profile if it is valid."""
    height, width = cmyk.shape[:2]
    image = Image.frombytes("CMYK", (width, height), np.ascontiguousarray(cmyk).tobytes())
    if icc_profile is None or _color_space(icc_profile) != CMYK:
        return np.array(image.convert("RGB"))
    return _apply(image, icc_profile)


def lab_to_srgb(lab: np.ndarray) -> np.ndarray:
    """Convert CIE L*a*b* (D50) to sRGB, uint8 (H, W, 3).

    Args:
        lab: uint8 (H, W, 3): L* from 0 to 255 for 0 to 100; a* and b* as signed bytes.
    """
    height, width = lab.shape[:2]
    image = Image.frombytes("LAB", (width, height), np.ascontiguousarray(lab).tobytes())
    transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
    return np.array(transform.apply(image))


def to_8_bits(levels: np.ndarray) -> np.ndarray:
    """Convert uint16 levels to uint8, and return uint8 levels as they are."""
    return levels if levels.dtype == np.uint8 else np.rint(levels / np.float32(257)).astype(np.uint8)


def blend_with_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return uint8 RGB (H, W, 3) with opacity `alpha`, uint8 (H, W), on a white background."""
    opacity = alpha[:, :, None] / np.float32(255)
    return np.rint(pixels * opacity + 255 * (1 - opacity)).astype(np.uint8)


@lru_cache(maxsize=16)
def is_srgb(icc_profile: bytes) -> bool:
    """Return whether a profile for RGB differs from sRGB by at most one level, on a lattice of 9x9x9 colors."""
    levels = np.linspace(0, 255, 9).round().astype(np.uint8)
    lattice = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(27, 27, 3)
    converted = _apply(Image.fromarray(lattice), icc_profile)
    return bool(np.abs(converted.astype(int) - lattice).max() <= 1)


@lru_cache(maxsize=16)
def _gray_levels(icc_profile: bytes) -> np.ndarray:
    """Return the level in sRGB of each of the 256 levels of a gray image, uint8 (256,)."""
    return _apply(Image.fromarray(np.arange(256, dtype=np.uint8)[None]), icc_profile)[0, :, 1]


def _apply(image: Image.Image, icc_profile: bytes) -> np.ndarray:
    transform = _transform(icc_profile)
    assert transform is not None
    return np.array(transform.apply(image))


@lru_cache(maxsize=16)
def _transform(icc_profile: bytes) -> ImageCms.ImageCmsTransform | None:
    """Return the transform from a profile to sRGB, None if LittleCMS cannot make one."""
    try:
        profile: Any = ImageCms.ImageCmsProfile(BytesIO(icc_profile))
        mode = {GRAY: "L", RGB: "RGB", CMYK: "CMYK"}[profile.profile.xcolor_space.strip()]
        return ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, KeyError, ValueError):
        return None


def _color_space(icc_profile: bytes) -> str | None:
    """Return the color space of a profile, None if it cannot be converted to sRGB."""
    transform = _transform(icc_profile)
    return None if transform is None else {"L": GRAY}.get(transform.input_mode, transform.input_mode)
