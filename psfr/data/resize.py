"""Pictures of any size and shape to squares of the experiment's size."""

from functools import partial
from pathlib import Path

import cv2
import numpy as np

from psfr.compute import parallel
from psfr.compute.parallel import Pool
from psfr.data import images, labels
from psfr.utils.errors import InputError


def square(array: np.ndarray) -> np.ndarray:
    """The centre square of (H, W, ...)."""
    height, width = array.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return array[top : top + side, left : left + side]


def resize_image(image: np.ndarray, size: int) -> np.ndarray:
    """Centre square of an image, uint8 (H, W, 3), as (size, size, 3): area filter to reduce, Lanczos to enlarge."""
    image = square(image)
    if len(image) == size:
        return image
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if len(image) > size else cv2.INTER_LANCZOS4)


def resize_labels(regions: np.ndarray, size: int) -> np.ndarray:
    """Centre square of a label map, uint8 (H, W), as (size, size): each pixel takes the label at its centre."""
    return cv2.resize(square(regions), (size, size), interpolation=cv2.INTER_NEAREST_EXACT)


def resize_folder(raw: Path, hr: Path, size: int, pool: Pool) -> None:
    """Write each image of `raw` to `hr/NAME.png`; what is there is kept.

    Raises:
        InputError: damaged images, all named.
    """
    parallel.each(partial(_resize, hr, size), images.listed(raw), pool, f"resize {raw.parent.name}")


def resize_labelled_folder(raw: Path, hr: Path, size: int, pool: Pool) -> None:
    """Write each image of `raw/images` to `hr/images/NAME.png`, and its label map of `raw/masks` to `hr/labels/NAME.png`; what is there is kept.

    Raises:
        InputError: damaged images or maps, or maps of other sizes than their images, all named.
    """
    parallel.each(
        partial(_resize_labelled, raw / "masks", hr, size),
        images.listed(raw / "images"),
        pool,
        f"resize {raw.parent.name}",
    )


def _resize(hr: Path, size: int, path: Path) -> None:
    out = hr / f"{path.stem}.png"
    if not out.is_file():
        images.write(out, resize_image(images.read(path), size))


def _resize_labelled(masks: Path, hr: Path, size: int, path: Path) -> None:
    file = f"{path.stem}.png"
    if (hr / "images" / file).is_file() and (hr / "labels" / file).is_file():
        return
    image, regions = images.read(path), labels.read(masks / file)
    if not labels.fits(regions.shape, image.shape[:2]):
        raise InputError(f"{masks / file}: does not fit the size of {path}: give it the image's size")
    images.write(hr / "images" / file, resize_image(image, size))
    labels.write(hr / "labels" / file, resize_labels(regions, size))
