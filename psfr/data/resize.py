"""Resize images and parsing maps to squares of `image_size`."""

from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from psfr.compute import parallel
from psfr.compute.parallel import Executor
from psfr.data import images, labels
from psfr.utils.errors import UserError


def center_crop(array: np.ndarray) -> np.ndarray:
    """Crop an array of shape (H, W, ...) to its central square."""
    height, width = array.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return array[top : top + side, left : left + side]


def resize_image(image: np.ndarray, size: int) -> np.ndarray:
    """Center-crop an image, uint8 (H, W, 3), and resize it to (size, size, 3).

    The filter is Pillow's antialiased bicubic one, with which both published codes make their high-quality images.
    """
    image = center_crop(image)
    if len(image) == size:
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))


def resize_labels(seg: np.ndarray, size: int) -> np.ndarray:
    """Center-crop a parsing map, uint8 (H, W), and resize it to (size, size) by nearest neighbor at pixel centers."""
    return cv2.resize(center_crop(seg), (size, size), interpolation=cv2.INTER_NEAREST_EXACT)


def resize_folder(raw: Path, hr: Path, size: int, executor: Executor) -> None:
    """Resize each image of `raw` to `hr/NAME.png`; existing files are kept.

    Raises:
        UserError: If images are damaged; the message names all of them.
    """
    parallel.map(partial(_resize, hr, size), images.list_images(raw), executor, f"resize {raw.parent.name}")


def resize_labeled_folder(raw: Path, hr: Path, size: int, executor: Executor) -> None:
    """Resize each image of `raw/images` to `hr/images/NAME.png` and its map of `raw/masks` to `hr/labels/NAME.png`.

    Existing files are kept.

    Raises:
        UserError: If images or maps are damaged or their sizes are incompatible; the message names all of them.
    """
    parallel.map(
        partial(_resize_labeled, raw / "masks", hr, size),
        images.list_images(raw / "images"),
        executor,
        f"resize {raw.parent.name}",
    )


def _resize(hr: Path, size: int, path: Path) -> None:
    out = hr / f"{path.stem}.png"
    if not out.is_file():
        images.write(out, resize_image(images.read(path), size))


def _resize_labeled(masks: Path, hr: Path, size: int, path: Path) -> None:
    file = f"{path.stem}.png"
    if (hr / "images" / file).is_file() and (hr / "labels" / file).is_file():
        return
    image, seg = images.read(path), labels.read(masks / file)
    if not labels.sizes_compatible(seg.shape, image.shape[:2]):
        raise UserError(f"{masks / file}: its size does not fit that of {path}: resize it to the size of the image")
    images.write(hr / "images" / file, resize_image(image, size))
    labels.write(hr / "labels" / file, resize_labels(seg, size))
