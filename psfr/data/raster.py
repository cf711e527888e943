"""Decoded images with their bit depth, alpha and color profile."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from psfr.data import color

GRAY_MODES = ("1", "L", "LA", "La", "I", "I;16")  # of Pillow's images


@dataclass(frozen=True)
class Raster:
    """An upright image.

    Args:
        pixels: uint8 or uint16 RGB (H, W, 3).
        alpha: (H, W) of the same dtype, or None.
        gray: whether the file has a single color channel.
        icc_profile: content of the ICC color profile of the pixels, for gray only if they are; or None.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    gray: bool = False
    icc_profile: bytes | None = None

    def to_rgb8(self) -> np.ndarray:
        """Return the image on a white background in its own color space, uint8 RGB (H, W, 3)."""
        return self._to_8_bits(None)

    def to_srgb8(self) -> np.ndarray:
        """Return the image on a white background, converted to sRGB by its profile, uint8 RGB (H, W, 3)."""
        return self._to_8_bits(self.icc_profile)

    def _to_8_bits(self, icc_profile: bytes | None) -> np.ndarray:
        pixels = color.to_srgb(color.to_8_bits(self.pixels), icc_profile)
        return pixels if self.alpha is None else color.blend_with_white(pixels, color.to_8_bits(self.alpha))


def is_gray(image: Image.Image) -> bool:
    """Return whether an image that is not loaded yet is gray; Pillow reads gray with alpha of 16 bits as RGBA."""
    tiles = getattr(image, "tile", [])
    return image.mode in GRAY_MODES or any(str(tile.args).startswith("LA;16") for tile in tiles)


def make_raster(levels: np.ndarray, alpha: np.ndarray | None, icc_profile: bytes | None) -> Raster:
    """Return a raster of gray (H, W) or RGB (H, W, 3) levels, with the profile if it describes them.

    A profile for RGB cannot stand in a gray file: it is left out if it is sRGB, and otherwise the image becomes RGB.
    """
    gray = levels.ndim == 2
    profile = color.usable_profile(icc_profile, gray)
    if gray:
        levels = np.repeat(levels[:, :, None], 3, axis=2)
        if profile is not None and not color.is_gray_profile(profile):
            gray = color.is_srgb(profile)
            profile = None if gray else profile
    alpha = None if alpha is None else np.ascontiguousarray(alpha)
    return Raster(np.ascontiguousarray(levels), alpha, gray, profile)


def from_pillow(image: Image.Image) -> Raster:
    """Return an image of 8 bits per channel (or of a palette, or bilevel) upright; CMYK is converted to sRGB."""
    icc_profile = image.info.get("icc_profile")
    gray = image.mode in GRAY_MODES
    image = ImageOps.exif_transpose(image)
    if image.mode == "CMYK":
        return Raster(color.cmyk_to_srgb(np.array(image), icc_profile))
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        rgba = np.array(image.convert("RGBA"))
        return make_raster(rgba[:, :, 0] if gray else rgba[:, :, :3], rgba[:, :, 3], icc_profile)
    return make_raster(np.array(image.convert("L" if gray else "RGB")), None, icc_profile)
