"""Read and write photographs with their bit depth, channels, alpha, EXIF orientation and color profile."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from psfr.data import formats, images, raster, tiff
from psfr.data.raster import Raster
from psfr.photos import encoding, metadata
from psfr.utils.errors import UserError, truncate
from psfr.utils.files import atomic_write

# By format, as `--format` names it: the suffix of new files first.
FORMATS = {"png": (".png",), "jpeg": (".jpg", ".jpeg"), "webp": (".webp",), "tiff": (".tif", ".tiff")}
# Maps pixels, uint8 or uint16 RGB (H, W, 3), and a factor to pixels of the same dtype, larger by the factor.
EnlargeFn = Callable[[np.ndarray, int], np.ndarray]
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)


@dataclass(frozen=True)
class Photograph(Raster):
    """An upright photograph and the properties of its file.

    Args:
        exif: the EXIF data that are kept, see `psfr.photos.metadata`; or None.
        dpi: horizontal and vertical resolution in pixels per inch, or None.
        num_frames: number of frames of an animation, or of pictures in an HEIF file. The photograph is the first.
    """

    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    num_frames: int = 1

    def upscaled(self, scale: int, enlarge: EnlargeFn | None = None) -> "Photograph":
        """Return the photograph upscaled by bicubic interpolation or by a function; its pixels are a copy.

        Args:
            scale: factor; at 1, bicubic interpolation changes nothing.
            enlarge: a function of the pixels, such as `psfr.photos.background.Background`.

        Raises:
            UserError: the result would have more than `images.MAX_PIXELS` pixels.
        """
        height, width = self.pixels.shape[:2]
        if height * width * scale**2 > images.MAX_PIXELS:
            raise UserError(
                f"{width * scale}x{height * scale} pixels are more than {images.MAX_PIXELS}: choose a smaller scale"
            )
        if enlarge is not None:
            pixels = enlarge(self.pixels, scale)
        else:
            pixels = self.pixels.copy() if scale == 1 else _resize(self.pixels, scale, cv2.INTER_CUBIC)
        if self.alpha is None or scale == 1:
            return replace(self, pixels=pixels)
        return replace(self, pixels=pixels, alpha=_resize(self.alpha, scale, cv2.INTER_LINEAR))


def _resize(levels: np.ndarray, scale: int, interpolation: int) -> np.ndarray:
    height, width = levels.shape[:2]
    return cv2.resize(levels, (width * scale, height * scale), interpolation=interpolation)


def list_photos(folder: Path) -> list[Path]:
    """Return the images in a folder and its subfolders, sorted. Hidden files are skipped; names need not be unique.

    Raises:
        UserError: the folder does not exist or has no images.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such file or folder: check the path")
    files = images.walk_files(folder)
    paths = sorted(path for path in files if path.suffix.lower() in images.SUFFIXES)
    if not paths:
        unread = sorted({path.suffix.lower() for path in files} & formats.UNREAD_SUFFIXES)
        found = f" but {', '.join(unread)}, which are not read" if unread else ""
        raise UserError(f"{folder}: no images found{found}: add {', '.join(images.SUFFIXES)} files")
    return paths


def count_pages(path: Path) -> int:
    """Return the number of pages of a TIFF file, without previews; 1 for others and for what cannot be read."""
    try:
        with images.one_line_errors(path), open(path, "rb") as file:
            return len(tiff.list_pages(file)) if images.is_tiff(path) else 1
    except UserError:
        return 1


def read(path: Path, page: int = 0) -> Photograph:
    """Read a photograph, or a page of a TIFF file.

    Raises:
        UserError: as `images.read`.
    """
    if images.is_tiff(path):
        with images.one_line_errors(path), open(path, "rb") as file:
            directory = tiff.list_pages(file)[page]
            decoded = images.read_page(path, file, directory)
            dpi = metadata.page_dpi(directory)
            exif = metadata.read_exif(metadata.page_exif(file, directory), dpi)
            return Photograph(**vars(decoded), exif=exif, dpi=dpi)
    with images.open_image(path) as image:
        decoded = images.read_16_bits(path, image) or raster.from_pillow(image)
        num_frames = 1 if image.format in ("JPEG", "MPO") else getattr(image, "n_frames", 1)
        dpi = metadata.image_dpi(image)
        exif = metadata.read_exif(image.getexif(), dpi)
        return Photograph(**vars(decoded), exif=exif, dpi=dpi, num_frames=num_frames)


def write(path: Path, photograph: Photograph) -> None:
    """Write a photograph as PNG, JPEG, WebP or TIFF, by the suffix.

    JPEG and WebP have 8 bits, and JPEG has a white background instead of alpha.

    Raises:
        UserError: the suffix is not one of `SUFFIXES`, or the photograph is too large for the format.
    """
    suffix = path.suffix.lower()
    properties = photograph, photograph.exif, photograph.dpi
    try:
        match next((name for name, suffixes in FORMATS.items() if suffix in suffixes), None):
            case "png":
                content = encoding.encode_png(*properties)
            case "tiff":
                content = encoding.encode_tiff(*properties)
            case "jpeg" | "webp" as name:
                content = encoding.encode_lossy(name.upper(), *properties)
            case _:
                raise UserError(f"{path}: unsupported output format: use one of {', '.join(SUFFIXES)}")
    except (ValueError, OSError, struct.error) as error:
        raise UserError(f"{path}: cannot be encoded ({truncate(error)}): use .png") from None
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
