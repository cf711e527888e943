"""Read, write and list image files."""

import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from psfr.data import color, formats, tiff
from psfr.data.formats import SUFFIXES
from psfr.data.raster import Raster, is_gray, make_raster
from psfr.utils.errors import CONTROL_CHARS, UserError, printable, raise_all
from psfr.utils.files import atomic_write, find_duplicates

# 16384 x 16384: larger images are taken for decompression bombs. Replaces Pillow's own, lower limit.
MAX_PIXELS = 2**28
Image.MAX_IMAGE_PIXELS = None

# Larger images are converted in chunks of rows of about this size, which keeps two copies in memory instead of five.
CHUNK_PIXELS = 2**22

# Folders, in lower case, in which storage devices and archivers keep thumbnails, metadata or deleted files: Synology's
# and QNAP's, macOS's in ZIP files, and those of Windows and Linux.
SYSTEM_FOLDERS = {
    "@eadir",
    "@tmp",
    "@recycle",
    "@recently-snapshot",
    "#recycle",
    "#snapshot",
    "__macosx",
    "$recycle.bin",
    "system volume information",
    "lost+found",
}

# Without the suffix. File systems allow 255 bytes, and the temporary file of an image is called `.NAME.png.partial`.
MAX_STEM_BYTES = 240


def list_images(folder: Path) -> list[Path]:
    """List the images in a folder and its subfolders, as `walk_files` finds them, sorted by path.

    Raises:
        UserError: If the folder is missing or holds no image, or if names are invalid or not unique without suffix.
    """
    paths = select_images(walk_files(folder), Path(folder))
    raise_all(
        [f"{path} has the same name as {first}" for path, first in find_duplicates(paths, lambda path: path.stem)],
        "rename one of each pair: images are identified by their names without suffix",
    )
    return paths


def select_images(files: list[Path], folder: Path, suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """Select the images among the files that `walk_files` found in a folder, sorted by path.

    Raises:
        UserError: If the folder is missing or holds no image, or if names are invalid.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder: name a folder of images")
    paths = sorted(path for path in files if path.suffix.lower() in suffixes)
    if not paths:
        raise UserError(f"{folder}: no images in it: put {', '.join(suffixes)} files there")
    problems = [check_name(str(path.relative_to(folder))) for path in paths]
    raise_all([f"{folder}: {problem}" for problem in problems if problem], "rename it")
    return paths


def check_name(path: str) -> str | None:
    """Return why the path of an image within its folder cannot be used, or None if it can.

    Names become file names, table cells and parts of messages: they must be valid Unicode on one line, and short.
    """
    if CONTROL_CHARS.search(path):
        return f"{printable(path)} has control characters or invalid Unicode in its name"
    stem = PurePosixPath(path).stem
    if len(os.fsencode(stem)) > MAX_STEM_BYTES:
        return f"{path} has a name of more than {MAX_STEM_BYTES} bytes"
    return None


def walk_files(folder: Path) -> list[Path]:
    """Return the files in a folder and its subfolders, unsorted; empty if it does not exist.

    What `is_system_name` says to leave out is left out, and links to folders are not followed.

    Raises:
        UserError: `folder` is a file.
    """
    paths = []
    for parent, folders, files in os.walk(folder, onerror=_raise_unless_missing):
        folders[:] = [name for name in folders if not is_system_name(name)]
        paths += [Path(parent, name) for name in files if not is_system_name(name)]
    return paths


def is_system_name(name: str) -> bool:
    """Return whether a file or folder holds no photographs of the user: a hidden one, or one of `SYSTEM_FOLDERS`."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def _raise_unless_missing(error: OSError) -> None:
    if isinstance(error, NotADirectoryError):
        raise UserError(f"{error.filename}: not a folder: name a folder, and unpack archives") from None
    if not isinstance(error, FileNotFoundError):
        raise error


def existing_names(folder: Path) -> set[str]:
    """Return the names of the files in a folder, with suffix; empty if the folder does not exist."""
    return {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()


@contextmanager
def one_line_errors(path: Path) -> Iterator[None]:
    """Turn what is raised in the `with` block, which reads an image file, into a `UserError`."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UserError(f"{path}: not a regular file: remove it")
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such image") from None
    except MemoryError:
        raise UserError(f"{path}: out of memory: make it smaller or lower compute.workers") from None
    except tiff.UnsupportedError as error:
        raise UserError(f"{path}: TIFF of a kind that is not read ({error}): save it as an 8-bit PNG") from None
    except UnidentifiedImageError as error:
        kind = formats.recognize(_start(path))
        if kind is not None:
            raise UserError(f"{path}: {kind}, which is not read: convert it to PNG or JPEG") from None
        raise _unreadable(path, error) from None
    except Exception as error:  # Pillow raises exceptions of many types on damaged files
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).replace(f" {str(path)!r}", "").split())
    return UserError(f"{path}: not a readable image ({reason}): replace or remove it")


def _start(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(32)


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image file with Pillow, and turn what it raises in the `with` block into a `UserError`.

    Raises:
        UserError: If the file is missing, not a regular file (reading a pipe would block), not an image of a
            format that is read, truncated, or larger than `MAX_PIXELS`.
    """
    with one_line_errors(path), Image.open(path, formats=formats.decoders(_start(path))) as image:
        check_size(path, *image.size)
        bits = {"L;2": 2, "L;4": 4}.get(_raw_mode(image))
        if bits is not None and "transparency" in image.info:  # Pillow scales the levels to 8 bits, but not this one
            image.info["transparency"] *= 255 // (2**bits - 1)
        yield image


def check_size(path: Path, width: int, height: int) -> None:
    """Raise a `UserError` if an image has more than `MAX_PIXELS` pixels."""
    if width * height > MAX_PIXELS:
        raise UserError(f"{path}: {width}x{height} pixels are more than {MAX_PIXELS}: make it smaller")


def is_tiff(path: Path) -> bool:
    """Return whether a file is a TIFF by its content; false if it cannot be read."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would block
            return False
        return _start(path)[:4] in tiff.MAGIC
    except OSError:
        return False


def read(path: Path) -> np.ndarray:
    """Read an image file as sRGB.

    EXIF orientation is applied, colors are converted by the file's profile, transparent pixels are blended with white,
    and 16-bit values are scaled to 8 bits. Of several frames, the first is read, and of several pages of a TIFF file
    the largest (the first of equal ones), as the others may be previews.

    Returns:
        uint8 array of shape (H, W, 3).

    Raises:
        UserError: As `open_image`, or if the pixels are not 8-bit or 16-bit integers.
    """
    if is_tiff(path):
        with one_line_errors(path), open(path, "rb") as file:
            return read_page(path, file, _main_page(file)).to_srgb8()
    with open_image(path) as image:
        decoded = read_16_bits(path, image)
        if decoded is not None:
            return decoded.to_srgb8()
        icc_profile = image.info.get("icc_profile")
        if image.mode != "CMYK":
            icc_profile = color.usable_profile(icc_profile, is_gray(image))
        ImageOps.exif_transpose(image, in_place=True)
        if image.width * image.height <= CHUNK_PIXELS:
            return _rgb(image, icc_profile)
        rgb = np.empty((image.height, image.width, 3), np.uint8)
        rows = max(1, CHUNK_PIXELS // image.width)
        for top in range(0, image.height, rows):
            chunk = image.crop((0, top, image.width, min(top + rows, image.height)))
            rgb[top : top + rows] = _rgb(chunk, icc_profile)
        return rgb


def read_16_bits(path: Path, image: Image.Image) -> Raster | None:
    """Read a PNG of 16 bits per channel, which Pillow would cut to 8; return None for others.

    Args:
        path: of the file.
        image: that `open_image` returned for it, not loaded yet.

    Raises:
        Exception: of many types, if the file is damaged.
    """
    if image.format != "PNG" or ";16" not in _raw_mode(image):
        return None
    gray = is_gray(image)
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        image.load()  # Pillow tells why, if it cannot read the file either
        raise OSError("damaged PNG of 16 bits")
    transparency = image.info.get("transparency")
    if pixels.ndim == 2 and transparency is not None:  # OpenCV reads it with RGB only
        alpha = np.where(pixels == transparency, 0, 65535).astype(np.uint16)
        pixels = np.dstack([pixels, pixels, pixels, alpha])
    pixels = tiff.UPRIGHT.get(image.getexif().get(tiff.ORIENTATION, 1), np.copy)(pixels)
    icc_profile = image.info.get("icc_profile")
    if pixels.ndim == 2:
        return make_raster(pixels, None, icc_profile)
    levels = pixels[:, :, 0] if gray else pixels[:, :, 2::-1]
    return make_raster(levels, pixels[:, :, 3] if pixels.shape[2] == 4 else None, icc_profile)


def _raw_mode(image: Image.Image) -> str:
    """Return how Pillow's decoder reads the samples of an image that is not loaded yet, such as `RGB;16B`."""
    tiles = getattr(image, "tile", [])  # of image files only
    args = tiles[0].args if tiles else ""
    return str(args if isinstance(args, str) else (args or ("",))[0])


def read_size(path: Path) -> tuple[int, int]:
    """Return width and height of an image file as stored, without decoding its pixels.

    Raises:
        UserError: As `open_image`.
    """
    if is_tiff(path):
        with one_line_errors(path), open(path, "rb") as file:
            return tiff.size(_main_page(file))
    with open_image(path) as image:
        return image.size


def _main_page(file: BinaryIO) -> tiff.Directory:
    return max(tiff.list_pages(file), key=lambda page: math.prod(tiff.size(page)))


def read_page(path: Path, file: BinaryIO, page: tiff.Directory) -> Raster:
    """Decode a page of an open TIFF file."""
    check_size(path, *tiff.size(page))
    file.seek(0)
    return tiff.decode(file.read(), page)


def _rgb(image: Image.Image, icc_profile: bytes | None) -> np.ndarray:
    if image.mode == "CMYK":
        return color.cmyk_to_srgb(np.asarray(image), icc_profile)
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        if icc_profile is not None:
            rgba = np.array(image)
            rgba[:, :, :3] = color.to_srgb(np.ascontiguousarray(rgba[:, :, :3]), icc_profile)
            image = Image.fromarray(rgba)
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
        icc_profile = None
    return color.to_srgb(np.array(image.convert("RGB"), np.uint8), icc_profile)


def gray(image: np.ndarray) -> np.ndarray:
    """Convert an RGB image, uint8 (H, W, 3), to grayscale of the same shape, exactly as imgaug's `Grayscale(1.0)`."""
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


# The "up" filter with run-length encoding: files as small as with the default settings, written three times as fast and
# read one and a half times as fast. Reading dominates the cost of a training sample.
_ENCODING = [
    cv2.IMWRITE_PNG_FILTER,
    cv2.IMWRITE_PNG_FILTER_UP,
    cv2.IMWRITE_PNG_STRATEGY,
    cv2.IMWRITE_PNG_STRATEGY_RLE,
    cv2.IMWRITE_PNG_COMPRESSION,
    1,
]


def write(path: Path, image: np.ndarray) -> None:
    """Write an RGB image, uint8 (H, W, 3), as a PNG atomically; equal pixels give equal bytes."""
    _, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), _ENCODING)
    with atomic_write(path) as temporary:
        temporary.write_bytes(encoded.tobytes())
