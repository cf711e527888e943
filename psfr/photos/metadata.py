"""EXIF data and resolution of photographs: what is kept in a result."""

import math
from typing import Any, BinaryIO

from PIL import ExifTags, Image

from psfr.data import tiff

# Description, make, model, software, date, artist, host, copyright, rating, and Windows' title to subject.
_KEPT = (270, 271, 272, 305, 306, 315, 316, 18246, 18249, 33432, 40091, 40092, 40093, 40094, 40095)
_ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 274, 282, 283, 296
# Maker's notes are valid in their own file only; the rest describes the pixels of the original file.
_DROPPED = (37500, 40961, 40962, 40963, 40965)
_GROUPS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
_MAX_BYTES = 65_000  # of a segment of a JPEG


def read_exif(exif: Image.Exif, dpi: tuple[float, float] | None) -> bytes | None:
    """Return the EXIF data that a result keeps, without the "Exif" header; None if there are none or they are damaged.

    Orientation, thumbnail, maker's notes and the size of the original are dropped; the resolution is set to `dpi`.
    """
    try:
        kept = Image.Exif()
        for tag in _KEPT:
            if tag in exif:
                kept[tag] = encode_text(exif[tag])
        for group in _GROUPS:
            values = {tag: encode_text(value) for tag, value in exif.get_ifd(group).items() if tag not in _DROPPED}
            if values:
                kept[group] = values
        if dpi is not None:
            kept[_X_RESOLUTION], kept[_Y_RESOLUTION], kept[_RESOLUTION_UNIT] = *dpi, 2
        if not len(kept):
            return None
        content = kept.tobytes().removeprefix(b"Exif\0\0")
    except Exception:  # Pillow raises exceptions of many types on damaged data
        return None
    return content if len(content) <= _MAX_BYTES else None


def encode_text(value: Any) -> Any:
    """Return text with other characters than ASCII as its bytes, which Pillow would replace by question marks."""
    return value.encode("latin-1", "replace") if isinstance(value, str) and not value.isascii() else value


def image_dpi(image: Image.Image) -> tuple[float, float] | None:
    """Return the horizontal and vertical resolution of an upright image in pixels per inch, None if it has none.

    If the format states none, as WebP, AVIF and HEIF never do, it is that of the EXIF data.
    """
    # In a JPEG that states none, Pillow makes both that of the width in EXIF, or 72.
    is_stated = image.format not in ("JPEG", "MPO") or image.info.get("jfif_unit", 0) > 0
    dpi = _valid_dpi(image.info.get("dpi")) if is_stated else None
    try:
        exif = image.getexif()
        return _upright(dpi, exif) if dpi else page_dpi(exif)
    except Exception:  # as in read_exif
        return None


def page_exif(file: BinaryIO, page: tiff.Directory) -> Image.Exif:
    """Return the EXIF data of a page of an open TIFF file; empty if they are damaged."""
    exif = Image.Exif()
    exif.endian = "<" if page.prefix == b"II" else ">"
    file.seek(2)
    exif.bigtiff = file.read(2) in tiff.MAGIC_BIG
    try:
        exif.load_from_fp(file, page.offset)
    except Exception:  # as in read_exif
        return Image.Exif()
    return exif


def page_dpi(page: tiff.Directory | Image.Exif) -> tuple[float, float] | None:
    """Return the horizontal and vertical resolution of a TIFF page or of EXIF data in pixels per inch, or None.

    The directions are those of the upright image.
    """
    inches = {2: 1.0, 3: 2.54}.get(page.get(_RESOLUTION_UNIT, 2))
    values = page.get(_X_RESOLUTION), page.get(_Y_RESOLUTION)
    if inches is None or None in values:
        return None
    dpi = _valid_dpi(values, inches)
    return _upright(dpi, page) if dpi else None


def _upright(dpi: tuple[float, float], page: tiff.Directory | Image.Exif) -> tuple[float, float]:
    horizontal, vertical = dpi
    return (vertical, horizontal) if page.get(_ORIENTATION) in (5, 6, 7, 8) else dpi


def _valid_dpi(values: Any, factor: float = 1.0) -> tuple[float, float] | None:
    try:
        horizontal, vertical = (factor * float(value) for value in values)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    valid = all(math.isfinite(value) and 1 <= value <= 100_000 for value in (horizontal, vertical))
    return (horizontal, vertical) if valid else None
