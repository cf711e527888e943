"""Read and write photographs with their bit depth, channels, alpha, EXIF orientation and color profile."""

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from psfr.data import images, raster, tiff
from psfr.data.color import to_8_bits as to_8_bits
from psfr.data.raster import Raster
from psfr.utils.errors import UserError
from psfr.utils.files import atomic_write

# PNG with the fastest compression, JPEG without chroma subsampling.
_ENCODING = {
    ".png": [cv2.IMWRITE_PNG_COMPRESSION, 1],
    ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444],
}
_ENCODING[".jpeg"] = _ENCODING[".jpg"]
SUFFIXES = tuple(_ENCODING)


@dataclass(frozen=True)
class Photograph(Raster):
    """An upright photograph and the properties of its file."""

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
    if images.is_tiff(path):
        with images.one_line_errors(path), open(path, "rb") as file:
            return Photograph(**vars(images.read_page(path, file, tiff.list_pages(file)[0])))
    with images.open_image(path) as image:
        return Photograph(**vars(_read_16_bits(path, image) or raster.from_pillow(image)))


def _read_16_bits(path: Path, image: Image.Image) -> Raster | None:
    """Read a PNG of 16 bits per channel, which Pillow would convert to 8; return None for others."""
    tiles = getattr(image, "tile", [])  # of image files only
    raw_modes = [tile.args if isinstance(tile.args, str) else (tile.args or ("",))[0] for tile in tiles]
    if not any(";16" in str(mode) for mode in raw_modes):
        return None
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        return None
    pixels = tiff.UPRIGHT.get(image.getexif().get(tiff.ORIENTATION, 1), np.copy)(pixels)
    icc_profile = image.info.get("icc_profile")
    if pixels.ndim == 2:
        return raster.make_raster(pixels, None, icc_profile)
    levels = pixels[:, :, 0] if image.mode in raster.GRAY_MODES else pixels[:, :, 2::-1]
    return raster.make_raster(levels, pixels[:, :, 3] if pixels.shape[2] == 4 else None, icc_profile)


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
