"""Reading, writing and listing of images."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from psfr.errors import InputError
from psfr.files import replacing

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")

# 16,384 x 16,384: more is a decompression bomb, not a photograph.
MAX_PIXELS = 2**28


def listed(folder: Path) -> list[Path]:
    """The images of a folder and its sub-folders, sorted by their path; hidden files are passed over.

    Raises:
        InputError: the folder is missing or holds no image, or two images have one name without suffix.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder: name a folder of images")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
    if not paths:
        raise InputError(f"{folder}: no images in it: put {', '.join(SUFFIXES)} files there")
    seen: dict[str, Path] = {}
    for path in paths:
        if (first := seen.setdefault(path.stem, path)) is not path:
            raise InputError(f"{path}: has the name of {first}: rename one, names tell images apart")
    return paths


def read(path: Path) -> np.ndarray:
    """Read an image file as RGB, uint8 (H, W, 3): turned upright by EXIF, alpha laid on white, 16 bits scaled to 8.

    Raises:
        InputError: no such file, no image, truncated, or larger than `MAX_PIXELS`.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"{path}: {image.width}x{image.height} pixels are more than {MAX_PIXELS}: make it smaller")
            return _rgb(ImageOps.exif_transpose(image))
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such image") from None
    except Exception as error:  # Pillow raises many kinds on damaged files
        raise InputError(f"{path}: not a readable image ({error})") from None


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):  # 16 bits: Pillow's own conversion clips them
        values = np.clip(np.rint(np.asarray(image, np.float64) / 257), 0, 255).astype(np.uint8)
        return np.repeat(values[:, :, None], 3, axis=2)
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.asarray(image.convert("RGB"), np.uint8)


def write(path: Path, image: np.ndarray) -> None:
    """Write an image, uint8 (H, W, 3) RGB, as a PNG: lossless, the same bytes for the same pixels."""
    with replacing(path) as temporary:
        Image.fromarray(image).save(temporary, "PNG", compress_level=3)
