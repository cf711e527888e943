"""Decode the pages of TIFF files.

Pillow's own reader reduces 16 bits per channel to 8 and misreads files that are stored plane by plane. Here Pillow only
decompresses: the samples of a page are read as a gray image (one per plane), and are interpreted by the TIFF 6.0
specification. Bilevel pages and those of less than 8 bits or in JPEG are left to Pillow.
"""

import struct
from io import BytesIO
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2 as Directory

from psfr.data import color
from psfr.data.raster import Raster, from_pillow, make_raster

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF
MAGIC_BIG = (b"+\0", b"\0+")  # after the byte order
MAX_PAGES = 1000
MAX_EXTRA_SAMPLES = 12

# Tags.
SUBFILE, OLD_SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 254, 255, 256, 257, 258, 259, 262, 266
STRIP_OFFSETS, ORIENTATION, SAMPLES, ROWS_PER_STRIP, STRIP_SIZES, PLANAR, PREDICTOR = 273, 274, 277, 278, 279, 284, 317
COLOR_MAP, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_SIZES, INK_SET, EXTRA_SAMPLES = 320, 322, 323, 324, 325, 332, 338
SUB_DIRECTORIES, SAMPLE_FORMAT, JPEG_TABLES, YCBCR_SUBSAMPLING, DNG_VERSION, ICC_PROFILE = (
    330,
    339,
    347,
    530,
    50706,
    34675,
)

# Photometric interpretations that are read, with their number of color channels.
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, SEPARATED, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9
COLORS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, SEPARATED: 4, YCBCR: 3, CIELAB: 3, ICCLAB: 3}
ASSOCIATED_ALPHA, ALPHA = 1, 2  # kinds of extra samples; others are left out

LOSSLESS = (1, 5, 8, 32773, 32946, 34925, 50000)  # none, LZW, Deflate, PackBits, Deflate, LZMA, Zstandard
JPEG = 6, 7  # old and new style

# By orientation: how to turn the stored pixels upright.
UPRIGHT = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels.swapaxes(0, 1), 2),
    8: lambda pixels: np.rot90(pixels, 1),
}


class UnsupportedError(Exception):
    """A valid file that is not read; the message says what it has."""


class Layout(NamedTuple):
    """How the samples of a page are stored."""

    width: int
    height: int
    bits: int
    samples: int
    compression: int
    photometric: int
    planes: int  # more than 1 if stored plane by plane


def list_pages(stream: BinaryIO) -> list[Directory]:
    """Return the directories of the pages of an open file, without previews and masks.

    Raises:
        Exception: of many types, if the file is damaged.
        UnsupportedError: the file is the raw data of a camera, holds previews only, or has more than `MAX_PAGES` pages.
    """
    start = stream.read(16)
    order = start[:2]
    header = b"II+\0" + start[4:] if start[2:4] in MAGIC_BIG else start[:8]  # Pillow knows BigTIFF in this order only
    pages: list[Directory] = []
    seen: set[int] = set()
    offset: int | None = Directory(header, order).next
    while offset and offset not in seen:
        if len(pages) == MAX_PAGES:
            raise UnsupportedError(f"more than {MAX_PAGES} pages")
        seen.add(offset)
        page = Directory(header, order)
        stream.seek(offset)
        page.load(stream)
        if DNG_VERSION in page or start[8:10] == b"CR":
            raise UnsupportedError("the raw data of a camera")
        pages.append(page)
        offset = page.next
    full = [page for page in pages if not (_integer(page, SUBFILE, 0) & 5 or _integer(page, OLD_SUBFILE, 1) == 2)]
    if not pages:
        raise UnidentifiedImageError("no page in it")
    if not full and SUB_DIRECTORIES in pages[0]:
        raise UnsupportedError("a preview only, as in the raw data of a camera")
    return full or pages[:1]


def size(page: Directory) -> tuple[int, int]:
    """Return width and height of a page as stored."""
    return _integer(page, WIDTH, 0), _integer(page, HEIGHT, 0)


def decode(content: bytes, page: Directory) -> Raster:
    """Decode a page of a file.

    Raises:
        Exception: of many types, if the file is damaged.
        UnsupportedError: the page is stored in a way that is not read.
    """
    layout = _layout(page)
    icc_profile = page.get(ICC_PROFILE)
    if (layout.compression not in LOSSLESS and layout.planes == 1) or layout.bits < 8:
        if content[:4] == b"MM\0+":
            raise UnsupportedError(f"big-endian BigTIFF, compression {layout.compression}, {layout.bits} bits")
        with _open(_with_header(content, page.offset or 0)) as image:
            return from_pillow(image)  # Pillow itself has applied the orientation
    samples = _read_samples(content, page, layout)
    raster = _interpret(samples, page, layout, icc_profile)
    upright = UPRIGHT.get(_integer(page, ORIENTATION, 1))
    if upright is None:
        return raster
    alpha = None if raster.alpha is None else np.ascontiguousarray(upright(raster.alpha))
    return Raster(np.ascontiguousarray(upright(raster.pixels)), alpha, raster.gray, raster.icc_profile)


def _layout(page: Directory) -> Layout:
    """Return the layout of a page.

    Raises:
        UnsupportedError: it is not read.
    """
    samples = _integer(page, SAMPLES, 1)
    bits = set(_integers(page, BITS, (1,)))
    formats = set(_integers(page, SAMPLE_FORMAT, (1,)))
    photometric, compression = _integer(page, PHOTOMETRIC, -1), _integer(page, COMPRESSION, 1)
    if len(bits) != 1 or not bits <= {1, 2, 4, 8, 16}:
        raise UnsupportedError(f"{'/'.join(map(str, sorted(bits)))} bits per channel")
    if formats != {1}:
        raise UnsupportedError("signed or floating-point levels")
    if photometric not in COLORS:
        raise UnsupportedError(f"photometric interpretation {photometric if photometric >= 0 else 'missing'}")
    layout = Layout(*size(page), bits.pop(), samples, compression, photometric, 1)
    if _integer(page, PLANAR, 1) == 2 and samples > 1:
        layout = layout._replace(planes=samples)
    num_colors = COLORS[photometric]
    if not num_colors <= samples <= num_colors + MAX_EXTRA_SAMPLES:
        raise UnsupportedError(f"{samples} channels with photometric interpretation {photometric}")
    if photometric == SEPARATED and _integer(page, INK_SET, 1) != 1:
        raise UnsupportedError("inks other than CMYK")
    if photometric in (CIELAB, ICCLAB) and layout.bits != 8:
        raise UnsupportedError(f"CIE L*a*b* of {layout.bits} bits")
    if ASSOCIATED_ALPHA in _integers(page, EXTRA_SAMPLES, ()) and photometric not in (BLACK_IS_ZERO, RGB):
        raise UnsupportedError(f"associated alpha with photometric interpretation {photometric}")
    _check_compression(page, layout, num_colors)
    return layout


def _check_compression(page: Directory, layout: Layout, num_colors: int) -> None:
    compression = layout.compression
    if _integer(page, FILL_ORDER, 1) == 2 and (
        (layout.bits < 8 and layout.photometric == PALETTE) or (layout.bits == 16 and page.prefix == b"MM")
    ):
        raise UnsupportedError(f"reversed bits in {layout.bits}-bit levels")  # Pillow lacks these
    if layout.bits < 8:
        if layout.samples > 1 or (layout.bits > 1 and compression not in LOSSLESS):
            raise UnsupportedError(f"{layout.samples} channels of {layout.bits} bits, compression {compression}")
        if _integer(page, PREDICTOR, 1) != 1:
            raise UnsupportedError(f"a predictor with {layout.bits} bits")
    elif compression in JPEG:
        whole = layout.photometric in (BLACK_IS_ZERO, RGB, SEPARATED, YCBCR) and layout.samples == num_colors
        plane_by_plane = compression == 7 and layout.photometric != YCBCR
        if layout.bits != 8 or not (whole if layout.planes == 1 else plane_by_plane):
            raise UnsupportedError(f"JPEG with {layout.samples} channels of {layout.bits} bits")
    elif compression not in LOSSLESS:
        raise UnsupportedError(f"compression {compression}")
    elif _integer(page, PREDICTOR, 1) not in (1, 2):
        raise UnsupportedError(f"predictor {_integer(page, PREDICTOR, 1)}")
    elif layout.photometric == YCBCR and _integers(page, YCBCR_SUBSAMPLING, (2, 2)) != (1, 1):
        raise UnsupportedError("reduced chroma without JPEG")


def _read_samples(content: bytes, page: Directory, layout: Layout) -> np.ndarray:
    """Return the samples of a page as stored, uint8 or uint16 (H, W, samples)."""
    per_pixel = layout.samples // layout.planes
    num_pages = layout.planes
    directory = b""
    start = len(content) + len(content) % 2
    for plane in range(num_pages):
        directory += _gray_directory(page, layout, plane, start + len(directory), plane + 1 < num_pages)
    padded = content + bytes(len(content) % 2) + directory
    planes = []
    classic = page.prefix + (b"*\0" if page.prefix == b"II" else b"\0*") + padded[4:]
    with _open(_with_header(classic, start)) as image:
        for plane in range(num_pages):
            image.seek(plane)
            levels = np.array(image).astype(np.uint8 if layout.bits == 8 else np.uint16)
            planes.append(levels.reshape(layout.height, layout.width, per_pixel))
    samples = planes[0] if num_pages == 1 else np.concatenate(planes, axis=2)
    if _integer(page, PREDICTOR, 1) == 2 and layout.compression in LOSSLESS[1:]:
        tile_width = _integer(page, TILE_WIDTH, layout.width)
        for left in range(0, layout.width, tile_width):  # each tile starts anew
            tile = samples[:, left : left + tile_width]
            np.cumsum(tile, axis=1, dtype=samples.dtype, out=tile)
    return samples


def _gray_directory(page: Directory, layout: Layout, plane: int, offset: int, has_next: bool) -> bytes:
    """Return a directory, to be placed at `offset`, that describes a plane as a gray image without a predictor.

    The samples of a pixel that are stored together become as many pixels.
    """
    per_pixel = layout.samples // layout.planes
    tags: dict[int, int | bytes | tuple[int, ...]] = {
        WIDTH: layout.width * per_pixel,
        HEIGHT: layout.height,
        BITS: layout.bits,
        COMPRESSION: layout.compression,
        PHOTOMETRIC: BLACK_IS_ZERO,
        FILL_ORDER: _integer(page, FILL_ORDER, 1),
        SAMPLES: 1,
    }
    if TILE_OFFSETS in page:
        tags[TILE_WIDTH] = _integer(page, TILE_WIDTH, 0) * per_pixel
        tags[TILE_HEIGHT] = _integer(page, TILE_HEIGHT, 0)
        tables = (TILE_OFFSETS, TILE_SIZES)
    else:
        tags[ROWS_PER_STRIP] = min(_integer(page, ROWS_PER_STRIP, layout.height), layout.height)
        tables = (STRIP_OFFSETS, STRIP_SIZES)
    for tag in tables:
        values = _integers(page, tag, ())
        count = len(values) // layout.planes
        if not count or len(values) % layout.planes:
            raise OSError("strips are missing")
        tags[tag] = values[plane * count : (plane + 1) * count]
    if JPEG_TABLES in page:
        tags[JPEG_TABLES] = page[JPEG_TABLES]
    endian = "<" if page.prefix == b"II" else ">"
    end = offset + 2 + 12 * len(tags) + 4
    entries, values = struct.pack(endian + "H", len(tags)), b""
    for tag, value in sorted(tags.items()):
        kind, numbers = (7, value) if isinstance(value, bytes) else (4, value if isinstance(value, tuple) else (value,))
        packed = value if isinstance(value, bytes) else struct.pack(f"{endian}{len(numbers)}L", *numbers)
        field = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack(endian + "L", end + len(values))
        values += packed + bytes(len(packed) % 2) if len(packed) > 4 else b""
        entries += struct.pack(endian + "HHL", tag, kind, len(numbers)) + field
    return entries + struct.pack(endian + "L", end + len(values) if has_next else 0) + values


def _interpret(samples: np.ndarray, page: Directory, layout: Layout, icc_profile: bytes | None) -> Raster:
    highest = 2**layout.bits - 1
    num_colors = COLORS[layout.photometric]
    kinds = _integers(page, EXTRA_SAMPLES, ())[: layout.samples - num_colors]
    levels, alpha = samples[:, :, :num_colors], None
    for number, kind in enumerate(kinds, num_colors):
        if kind in (ASSOCIATED_ALPHA, ALPHA):
            alpha = samples[:, :, number]
            if kind == ASSOCIATED_ALPHA:
                levels = _unassociate(levels, alpha, highest)
            break
    match layout.photometric:
        case 0:
            levels = highest - levels[:, :, 0]
        case 1:
            levels = levels[:, :, 0]
        case 3:
            levels = _colors(page, layout.bits)[levels[:, :, 0]]
        case 5:
            levels = color.cmyk_to_srgb(color.to_8_bits(levels), icc_profile)
        case 6:
            ycbcr = np.ascontiguousarray(color.to_8_bits(levels)).tobytes()
            levels = np.array(Image.frombytes("YCbCr", (layout.width, layout.height), ycbcr).convert("RGB"))
        case 8:
            levels = color.lab_to_srgb(levels)
        case 9:
            levels = color.lab_to_srgb(levels ^ np.array([0, 128, 128], np.uint8))
    if alpha is not None and levels.dtype == np.uint8:
        alpha = color.to_8_bits(alpha)
    return make_raster(levels, alpha, None if layout.photometric in (SEPARATED, CIELAB, ICCLAB) else icc_profile)


def _unassociate(levels: np.ndarray, alpha: np.ndarray, highest: int) -> np.ndarray:
    """Divide levels that are stored multiplied by alpha by it; transparent pixels become black."""
    divisor = np.maximum(alpha, 1)[:, :, None]
    unassociated = np.rint(levels.astype(np.float64) * highest / divisor)  # in this order, halves are exact
    return np.where(alpha[:, :, None] > 0, np.minimum(unassociated, highest), 0).astype(levels.dtype)


def _colors(page: Directory, bits: int) -> np.ndarray:
    """Return the palette of a page, uint8 (2**bits, 3)."""
    values = np.array(_integers(page, COLOR_MAP, ()), np.uint16)
    if len(values) != 3 * 2**bits:
        raise OSError("the palette is missing")
    palette = values.reshape(3, -1).T
    return (palette >> 8 if palette.max() > 255 else palette).astype(np.uint8)


def _with_header(content: bytes, offset: int) -> bytes:
    """Return a file whose first page is the directory at `offset`; all offsets in it stay valid."""
    order = "<" if content[:2] == b"II" else ">"
    if content[2:4] in MAGIC_BIG:
        return content[:8] + struct.pack(order + "Q", offset) + content[16:]
    return content[:4] + struct.pack(order + "L", offset) + content[8:]


def _open(content: bytes) -> TiffImagePlugin.TiffImageFile:
    image = Image.open(BytesIO(content), formats=("TIFF",))
    assert isinstance(image, TiffImagePlugin.TiffImageFile)
    return image


def _integers(page: Directory, tag: int, default: tuple[int, ...]) -> tuple[int, ...]:
    value = page.get(tag, default)
    values = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(number, int) for number in values):
        raise OSError(f"tag {tag} holds no integers")
    return values


def _integer(page: Directory, tag: int, default: int) -> int:
    values = _integers(page, tag, (default,))
    return values[0] if values else default
