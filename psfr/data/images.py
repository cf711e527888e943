"""Reading, writing and listing of images."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from PIL import Image, ImageOps

from psfr.utils.errors import CONTROL, InputError, raise_together
from psfr.utils.files import replacing

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
# Of these alone: Pillow knows thirty more, and would start Ghostscript on a PostScript file, whatever its name.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")

# 16,384 x 16,384: more is a decompression bomb, not a photograph. Pillow's own limit, half a warning, gives way to it.
MAX_PIXELS = 2**28
Image.MAX_IMAGE_PIXELS = None
STRIP = 2**22  # pixels that are converted at once: a large image is in memory twice, not five times

LONGEST_NAME = (
    240  # bytes without suffix: file systems allow 255, and a file that is being written is called `.NAME.png.partial`
)


def listed(folder: Path, suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """The images of a folder and its sub-folders, sorted by their path; hidden files and folders are passed over, links to folders too.

    Raises:
        InputError: the folder is missing or holds no image, a name cannot be used, or several images have one name without suffix.
    """
    return among(visible(folder), Path(folder), suffixes)


def among(files: list[Path], folder: Path, suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """`listed` of the files of a folder that were found already."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder: name a folder of images")
    paths = sorted(path for path in files if path.suffix.lower() in suffixes)
    if not paths:
        raise InputError(f"{folder}: no images in it: put {', '.join(suffixes)} files there")
    unusable = (name_fault(str(path.relative_to(folder))) for path in paths)
    raise_together((f"{folder}: {fault}" for fault in unusable if fault), "rename it")
    first: dict[str, Path] = {}
    raise_together(
        (
            f"{path} has the name of {first[path.stem]}"
            for path in paths
            if first.setdefault(path.stem, path) is not path
        ),
        "rename one of each pair, names tell images apart",
    )
    return paths


def name_fault(path: str) -> str | None:
    """Why the name of an image, or of a folder on the way to it, cannot be used; None if it can.

    The name goes into file names, tables and messages: it is Unicode on one line, and short enough.
    """
    if CONTROL.search(path):
        return f"{path!a} has control characters or is no Unicode in its name"
    stem = PurePosixPath(path).stem
    if len(os.fsencode(stem)) > LONGEST_NAME:
        return f"{path} has a name of more than {LONGEST_NAME} bytes"
    return None


def visible(folder: Path) -> list[Path]:
    """The files in a folder and its sub-folders that are not hidden."""
    paths = []
    for place, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(place, name) for name in files if not name.startswith(".")]
    return paths


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def there(folder: Path) -> set[str]:
    """The names of the files of a folder, with suffixes; none if there is no such folder."""
    return {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open an image file with Pillow; whatever it finds wrong, then or while the pixels are used, is one line.

    Raises:
        InputError: no such file, no file of bytes (a pipe would never answer), no image of `FORMATS`, truncated, or larger than `MAX_PIXELS`.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise InputError(f"{path}: no regular file: remove it")
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(
                    f"{path}: {image.width}x{image.height} pixels are more than {MAX_PIXELS}: make it smaller"
                )
            yield image
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such image") from None
    except MemoryError:
        raise InputError(
            f"{path}: too little memory for its pixels: make it smaller, or lower compute.workers"
        ) from None
    except Exception as error:  # Pillow raises many kinds on damaged files
        reason = " ".join(str(error).replace(f" {str(path)!r}", "").split())
        raise InputError(f"{path}: not a readable image ({reason}): replace or remove it") from None


def read(path: Path) -> np.ndarray:
    """Read an image file as RGB, uint8 (H, W, 3): turned upright by EXIF, alpha laid on white, 16 bits scaled to 8.

    Raises:
        InputError: as `opened`, or its pixels are no levels of 8 or 16 bits.
    """
    with opened(path) as image:
        low, high = image.getextrema() if image.mode == "I" else (0, 0)
        if image.mode == "F" or not 0 <= low <= high < 2**16:
            raise InputError(f"{path}: its pixels are not levels of 8 or 16 bits: save it as an 8-bit PNG")
        ImageOps.exif_transpose(image, in_place=True)
        if image.width * image.height <= STRIP:
            return _rgb(image)
        rgb = np.empty((image.height, image.width, 3), np.uint8)
        rows = max(1, STRIP // image.width)
        for top in range(0, image.height, rows):
            rgb[top : top + rows] = _rgb(image.crop((0, top, image.width, min(top + rows, image.height))))
        return rgb


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):  # 16 bits: Pillow's own conversion clips them
        levels = np.rint(np.asarray(image, np.float64) / 257).astype(np.uint8)
        return np.repeat(levels[:, :, None], 3, axis=2)
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"), np.uint8)


def gray(image: np.ndarray) -> np.ndarray:
    """The grey version of uint8 RGB (H, W, 3), of the same shape: imgaug's `Grayscale(1.0)`, pixel for pixel."""
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


# Each row as its difference from the one above, then runs alone: as small as with PNG's usual choices, written three times as fast and
# read in two thirds of the time, which is what a training sample costs.
_ENCODING = [
    cv2.IMWRITE_PNG_FILTER,
    cv2.IMWRITE_PNG_FILTER_UP,
    cv2.IMWRITE_PNG_STRATEGY,
    cv2.IMWRITE_PNG_STRATEGY_RLE,
    cv2.IMWRITE_PNG_COMPRESSION,
    1,
]


def write(path: Path, image: np.ndarray) -> None:
    """Write an image, uint8 (H, W, 3) RGB, as a PNG: lossless, the same bytes for the same pixels."""
    _, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), _ENCODING)
    with replacing(path) as temporary:
        temporary.write_bytes(encoded)
