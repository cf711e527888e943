"""Reading, writing and listing of images."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from psfr.errors import InputError, raise_together
from psfr.files import replacing

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")

# 16,384 x 16,384: more is a decompression bomb, not a photograph. Pillow's own limit, half a warning, gives way to it.
MAX_PIXELS = 2**28
Image.MAX_IMAGE_PIXELS = None


def listed(folder: Path, suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """The images of a folder and its sub-folders, sorted by their path; hidden files and folders are passed over.

    Raises:
        InputError: the folder is missing or holds no image, or several images have one name without suffix.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder: name a folder of images")
    paths = sorted(path for path in visible(folder) if path.suffix.lower() in suffixes)
    if not paths:
        raise InputError(f"{folder}: no images in it: put {', '.join(suffixes)} files there")
    first: dict[str, Path] = {}
    raise_together(
        (f"{path} has the name of {first[path.stem]}" for path in paths if first.setdefault(path.stem, path) is not path),
        "rename one of each pair, names tell images apart",
    )
    return paths


def visible(folder: Path) -> list[Path]:
    """The files in a folder and its sub-folders that are not hidden."""
    paths = (path for path in folder.rglob("*") if not path.is_dir())
    return [path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open an image file with Pillow; whatever it finds wrong, then or while the pixels are used, is one line.

    Raises:
        InputError: no such file, no image, truncated, or larger than `MAX_PIXELS`.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"{path}: {image.width}x{image.height} pixels are more than {MAX_PIXELS}: make it smaller")
            yield image
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such image") from None
    except Exception as error:  # Pillow raises many kinds on damaged files
        reason = " ".join(str(error).replace(f" {str(path)!r}", "").split())
        raise InputError(f"{path}: not a readable image ({reason}): replace or remove it") from None


def read(path: Path) -> np.ndarray:
    """Read an image file as RGB, uint8 (H, W, 3): turned upright by EXIF, alpha laid on white, 16 bits scaled to 8.

    Raises:
        InputError: as `opened`, or its pixels are no levels of 8 or 16 bits.
    """
    with opened(path) as image:
        if image.mode == "F" or (image.mode == "I" and not 0 <= image.getextrema()[0] <= image.getextrema()[1] < 2**16):
            raise InputError(f"{path}: its pixels are not levels of 8 or 16 bits: save it as an 8-bit PNG")
        return _rgb(ImageOps.exif_transpose(image))


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
_ENCODING = [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE, cv2.IMWRITE_PNG_COMPRESSION, 1]


def write(path: Path, image: np.ndarray) -> None:
    """Write an image, uint8 (H, W, 3) RGB, as a PNG: lossless, the same bytes for the same pixels."""
    _, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), _ENCODING)
    with replacing(path) as temporary:
        temporary.write_bytes(encoded)
