"""Encode photographs as PNG, JPEG, WebP or TIFF, with profile, EXIF data and resolution."""

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2 as Directory

from psfr.data import color, tiff
from psfr.data.raster import Raster
from psfr.photos.metadata import encode_text

_ROWS = 256  # of pixels that are compressed at once in a PNG
_STRIP_BYTES = 2**20  # of pixels in a strip of a TIFF, about


def encode_png(raster: Raster, exif: bytes | None, dpi: tuple[float, float] | None) -> bytes:
    """Return a PNG with all channels, 8 or 16 bits each. Pillow and OpenCV write no gray with alpha of 16 bits."""
    samples = to_samples(raster)
    height, width, channels = samples.shape
    bits = 8 * samples.itemsize
    color_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    content = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0))
    if raster.icc_profile is not None:
        content += _chunk(b"iCCP", b"profile\0\0" + zlib.compress(raster.icc_profile))
    if dpi is not None:
        content += _chunk(b"pHYs", struct.pack(">IIB", *(round(value / 0.0254) for value in dpi), 1))
    if exif is not None:
        content += _chunk(b"eXIf", exif)
    chunks = [_chunk(b"IDAT", pixels) for pixels in _compress_rows(samples)]
    return b"".join([content, *chunks, _chunk(b"IEND", b"")])


def _compress_rows(samples: np.ndarray) -> Iterator[bytes]:
    """Yield the compressed pixels of a PNG in parts, so that no other copy of a large image is in memory."""
    compressor = zlib.compressobj(1)
    height = len(samples)
    above = np.zeros((1, samples[0].nbytes), np.uint8)
    for top in range(0, height, _ROWS):
        part = samples[top : top + _ROWS]
        rows = part.astype(samples.dtype.newbyteorder(">")).view(np.uint8).reshape(len(part), -1)
        filtered = np.empty((len(rows), 1 + rows.shape[1]), np.uint8)
        filtered[:, 0] = 2  # each row is stored as its difference from the one above
        np.subtract(rows, np.concatenate([above, rows[:-1]]), out=filtered[:, 1:])
        above = rows[-1:]
        if pixels := compressor.compress(filtered.data):
            yield pixels
    yield compressor.flush()


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))


def encode_tiff(raster: Raster, exif: bytes | None, dpi: tuple[float, float] | None) -> bytes:
    """Return a TIFF with all channels, 8 or 16 bits each, compressed by Deflate. Pillow writes no RGB of 16 bits."""
    samples = to_samples(raster)
    height, width, channels = samples.shape
    rows_per_strip = max(1, _STRIP_BYTES // (width * channels * samples.itemsize))
    differences = samples.copy()
    differences[:, 1:] -= samples[:, :-1]
    little_endian = differences.astype(samples.dtype.newbyteorder("<"))
    strips = [
        zlib.compress(np.ascontiguousarray(little_endian[top : top + rows_per_strip]).data, 6)
        for top in range(0, height, rows_per_strip)
    ]
    sizes = [len(strip) for strip in strips]
    directory = Directory()
    directory[tiff.WIDTH], directory[tiff.HEIGHT], directory[tiff.SAMPLES] = width, height, channels
    directory[tiff.BITS] = (8 * samples.itemsize,) * channels
    directory[tiff.COMPRESSION], directory[tiff.PREDICTOR] = 8, 2
    directory[tiff.PHOTOMETRIC] = tiff.BLACK_IS_ZERO if raster.gray else tiff.RGB
    directory[tiff.ROWS_PER_STRIP] = rows_per_strip
    directory[tiff.STRIP_SIZES] = tuple(sizes)
    directory[tiff.STRIP_OFFSETS] = tuple(int(start) for start in np.cumsum([0, *sizes[:-1]]))
    directory.tagtype[tiff.STRIP_SIZES] = directory.tagtype[tiff.STRIP_OFFSETS] = 4
    if raster.alpha is not None:
        directory[tiff.EXTRA_SAMPLES] = tiff.ALPHA
    if raster.icc_profile is not None:
        directory[tiff.ICC_PROFILE] = raster.icc_profile
    if exif is not None:
        _add_exif(directory, exif)
    if dpi is not None:
        directory[282], directory[283], directory[296] = *dpi, 2
    return b"II*\0" + struct.pack("<L", 8) + directory.tobytes(8) + b"".join(strips)


def _add_exif(directory: Directory, exif: bytes) -> None:
    parsed = Image.Exif()
    parsed.load(exif)
    for tag, value in parsed.items():
        if tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            directory[tag] = {name: encode_text(detail) for name, detail in parsed.get_ifd(tag).items()}
        else:
            directory[tag] = encode_text(value)


def encode_lossy(image_format: str, raster: Raster, exif: bytes | None, dpi: tuple[float, float] | None) -> bytes:
    """Return a JPEG (without alpha) or WebP of 8 bits, quality 95, without chroma subsampling in JPEG."""
    options: dict[str, Any] = {"quality": 95} if exif is None else {"quality": 95, "exif": b"Exif\0\0" + exif}
    icc_profile, alpha = raster.icc_profile, None
    if image_format == "JPEG":
        pixels, options["subsampling"] = raster.to_rgb8(), 0
        if dpi is not None:
            options["dpi"] = dpi
    else:
        pixels = color.to_8_bits(raster.pixels)
        alpha = None if raster.alpha is None else color.to_8_bits(raster.alpha)
        if icc_profile is not None and color.is_gray_profile(icc_profile):  # WebP has RGB only
            pixels, icc_profile = color.to_srgb(pixels, icc_profile), None
    image = Image.fromarray(pixels if alpha is None else np.dstack([pixels, alpha]))
    if raster.gray and image_format == "JPEG":
        image = Image.fromarray(np.ascontiguousarray(pixels[:, :, 0]))
    stream = BytesIO()
    image.save(stream, image_format, icc_profile=icc_profile, **options)
    return stream.getvalue()


def to_samples(raster: Raster) -> np.ndarray:
    """Return the channels of a raster, (H, W, 1 to 4)."""
    channels = raster.pixels[:, :, :1] if raster.gray else raster.pixels
    return np.ascontiguousarray(channels if raster.alpha is None else np.dstack([channels, raster.alpha]))
