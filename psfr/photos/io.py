"""Read and write photographs with their bit depth, channels, alpha, EXIF orientation and color profile."""

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from psfr.data import images
from psfr.utils.errors import UserError
from psfr.utils.files import atomic_write

# PNG with the fastest compression, JPEG without chroma subsampling.
_ENCODING = {
    ".png": [cv2.IMWRITE_PNG_COMPRESSION, 1],
    ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444],
}
_ENCODING[".jpeg"] = _ENCODING[".jpg"]
SUFFIXES = tuple(_ENCODING)

_EXIF_ORIENTATION = 0x0112
# By value of the EXIF orientation: how to turn the stored pixels upright.
_UPRIGHT = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels.swapaxes(0, 1), 2),
    8: lambda pixels: np.rot90(pixels, 1),
}


@dataclass(frozen=True)
class Photograph:
    """An upright photograph and the properties of its file.

    Args:
        pixels: uint8 or uint16 RGB (H, W, 3).
        alpha: (H, W) of the same dtype, or None.
        gray: whether the file has a single channel.
        icc_profile: content of the ICC color profile, or None.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    gray: bool = False
    icc_profile: bytes | None = None

    def to_rgb8(self) -> np.ndarray:
        """Return the photograph on a white background, uint8 RGB (H, W, 3)."""
        pixels, alpha = self.pixels, self.alpha
        if pixels.dtype == np.uint16:
            pixels = to_8_bits(pixels)
            alpha = None if alpha is None else to_8_bits(alpha)
        if alpha is None:
            return pixels
        opacity = alpha[:, :, None] / np.float32(255)
        return np.rint(pixels * opacity + 255 * (1 - opacity)).astype(np.uint8)

    def upscaled(self, scale: int) -> "Photograph":
        """Return the photograph upscaled by bicubic interpolation; at scale 1, a copy of the pixels.

        Raises:
            UserError: the result would have more than `images.MAX_PIXELS` pixels.
        """
        height, width = self.pixels.shape[:2]
        if height * width * scale**2 > images.MAX_PIXELS:
            raise UserError(
                f"{width * scale}x{height * scale} pixels are more than {images.MAX_PIXELS}: choose a smaller scale"
            )
        if scale == 1:
            return replace(self, pixels=self.pixels.copy())
        size = (width * scale, height * scale)
        alpha = None if self.alpha is None else cv2.resize(self.alpha, size, interpolation=cv2.INTER_LINEAR)
        return replace(self, pixels=cv2.resize(self.pixels, size, interpolation=cv2.INTER_CUBIC), alpha=alpha)


def to_8_bits(levels: np.ndarray) -> np.ndarray:
    """Convert uint16 levels to uint8."""
    return np.rint(levels / np.float32(257)).astype(np.uint8)


def list_photos(folder: Path) -> list[Path]:
    """Return the images in a folder and its subfolders, sorted. Hidden files are skipped; names need not be unique.

    Raises:
        UserError: the folder does not exist or has no images.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such file or folder: check the path")
    paths = sorted(path for path in images.walk_files(folder) if path.suffix.lower() in images.SUFFIXES)
    if not paths:
        raise UserError(f"{folder}: no images found: add {', '.join(images.SUFFIXES)} files")
    return paths


def read(path: Path) -> Photograph:
    """Read a photograph.

    Raises:
        UserError: as `images.read`.
    """
    with images.open_image(path) as image:
        icc_profile = image.info.get("icc_profile")
        photograph = _read_16_bits(path, image)
        if photograph is not None:
            return replace(photograph, icc_profile=icc_profile)
        if image.mode.startswith(("F", "I")):
            return Photograph(images.read(path))
        gray = image.mode in ("1", "L", "LA", "La")
        if image.mode in ("CMYK", "LAB"):
            icc_profile = None  # not a profile for RGB
        upright = ImageOps.exif_transpose(image)
        if "A" in upright.getbands() or "a" in upright.getbands() or "transparency" in upright.info:
            rgba = np.array(upright.convert("RGBA"))
            pixels, alpha = np.ascontiguousarray(rgba[:, :, :3]), np.ascontiguousarray(rgba[:, :, 3])
            return Photograph(pixels, alpha, gray, icc_profile)
        return Photograph(np.array(upright.convert("RGB")), None, gray, icc_profile)


def _read_16_bits(path: Path, image: Image.Image) -> Photograph | None:
    """Read a photograph of 16 bits per channel, which Pillow would convert to 8; return None for others."""
    tiles = getattr(image, "tile", [])  # of image files only
    raw_modes = [tile.args if isinstance(tile.args, str) else (tile.args or ("",))[0] for tile in tiles]
    if not any(";16" in str(mode) for mode in raw_modes):
        return None
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        return None
    orientation = image.getexif().get(_EXIF_ORIENTATION)
    if orientation in _UPRIGHT:
        pixels = _UPRIGHT[orientation](pixels)
    if pixels.ndim == 2:
        return Photograph(np.repeat(pixels[:, :, None], 3, axis=2), gray=True)
    alpha = np.ascontiguousarray(pixels[:, :, 3]) if pixels.shape[2] == 4 else None
    return Photograph(np.ascontiguousarray(pixels[:, :, 2::-1]), alpha)


def write(path: Path, photograph: Photograph) -> None:
    """Write a photograph as PNG or JPEG, by the suffix. JPEG has 8 bits, and a white background instead of alpha.

    Raises:
        UserError: the suffix is not one of `SUFFIXES`.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{path}: unsupported output format: use one of {', '.join(SUFFIXES)}")
    if suffix != ".png":
        photograph = replace(photograph, pixels=photograph.to_rgb8(), alpha=None)
    bgr = photograph.pixels[:, :, ::-1]
    if photograph.alpha is not None:
        pixels = np.dstack([bgr, photograph.alpha])
    elif photograph.gray:
        pixels = photograph.pixels[:, :, 0]
    else:
        pixels = bgr
    metadata_types, metadata = [], []
    if photograph.icc_profile is not None:
        metadata_types.append(cv2.IMAGE_METADATA_ICCP)
        metadata.append(np.frombuffer(photograph.icc_profile, np.uint8))
    _, encoded = cv2.imencodeWithMetadata(
        suffix, np.ascontiguousarray(pixels), metadata_types, metadata, _ENCODING[suffix]
    )
    with atomic_write(path) as temporary:
        temporary.write_bytes(encoded.tobytes())
