"""Resize images and parsing maps to squares of `image_size`."""

import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from psfr.compute import parallel
from psfr.compute.parallel import Executor
from psfr.data import images, labels
from psfr.utils.errors import UserError, join_first, raise_all

MAX_NAMED = 5  # enlarged images in the warning
MAX_SHAPE_DIFFERENCE = 0.02  # of the aspect ratios of an image and its true image, whose sizes may be rounded


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
    """Resize each image of `raw` to `hr/NAME.png`; existing files are kept. A line names images that are enlarged.

    Raises:
        UserError: If images are damaged; the message names them.
    """
    paths = images.list_images(raw)
    sides = parallel.map(partial(_resize, hr, size), paths, executor, f"resize {raw.parent.name}")
    _report_enlarged(raw, paths, sides, size)


def resize_testset(raw: Path, out: Path, size: int, executor: Executor) -> None:
    """Resize a named test set, `raw/lr` and perhaps true images `raw/hr`, to `out/lr/NAME.png` and `out/hr/NAME.png`.

    Existing files are kept. A line names true images that are enlarged.

    Raises:
        UserError: If images are damaged, or if a low-quality image and its true image differ in shape; the message
            names them.
    """
    lq_paths = images.list_images(raw / "lr")
    hq_paths = images.list_images(raw / "hr") if (raw / "hr").is_dir() else []
    lq_by_name = {path.stem: path for path in lq_paths}
    _check_shapes([(lq_by_name[path.stem], path) for path in hq_paths])
    parallel.map(partial(_resize, out / "lr", size), lq_paths, executor, "resize low-quality images")
    if hq_paths:
        sides = parallel.map(partial(_resize, out / "hr", size), hq_paths, executor, "resize true images")
        _report_enlarged(raw / "hr", hq_paths, sides, size)


def _check_shapes(pairs: list[tuple[Path, Path]]) -> None:
    problems = []
    for lq, hq in pairs:
        (lq_width, lq_height), (width, height) = images.read_size(lq), images.read_size(hq)
        if abs(lq_width * height / (lq_height * width) - 1) > MAX_SHAPE_DIFFERENCE:
            problems.append(f"{lq} is {lq_width}x{lq_height}, its true image {width}x{height}")
    raise_all(problems, "crop both alike")


def resize_labeled_folder(raw: Path, hr: Path, size: int, executor: Executor) -> None:
    """Resize each image of `raw/images` to `hr/images/NAME.png` and its map of `raw/masks` to `hr/labels/NAME.png`.

    Existing files are kept. A line names images that are enlarged.

    Raises:
        UserError: If images or maps are damaged or their sizes are incompatible; the message names them.
    """
    paths = images.list_images(raw / "images")
    resize = partial(_resize_labeled, raw / "masks", hr, size)
    sides = parallel.map(resize, paths, executor, f"resize {raw.parent.name}")
    _report_enlarged(raw, paths, sides, size)


def _report_enlarged(raw: Path, paths: list[Path], sides: list[int], size: int) -> None:
    """Print how many images have a side below `size` pixels, and the names of some: they are blurred, not sharp."""
    small = [f"{path.name} with {side}" for path, side in zip(paths, sides, strict=True) if side < size]
    if small:
        problem = f"{len(small)} of {len(paths)} images have fewer than {size} pixels and are enlarged"
        hint = "remove them or lower image_size"
        print(f"warning: {raw}: {problem} ({join_first(small, ', ', MAX_NAMED)}): {hint}", file=sys.stderr)


def _resize(hr: Path, size: int, path: Path) -> int:
    """Return the shorter side of the image in pixels."""
    out = hr / f"{path.stem}.png"
    if out.is_file():
        return min(images.read_size(path))
    image = images.read(path)
    images.write(out, resize_image(image, size))
    return min(image.shape[:2])


def _resize_labeled(masks: Path, hr: Path, size: int, path: Path) -> int:
    """Return the shorter side of the image in pixels."""
    file = f"{path.stem}.png"
    if (hr / "images" / file).is_file() and (hr / "labels" / file).is_file():
        return min(images.read_size(path))
    image, seg = images.read(path), labels.read(masks / file)
    if not labels.sizes_compatible(seg.shape, image.shape[:2]):
        raise UserError(f"{masks / file}: its size does not fit that of {path}: resize it to the size of the image")
    images.write(hr / "images" / file, resize_image(image, size))
    labels.write(hr / "labels" / file, resize_labels(seg, size))
    return min(image.shape[:2])
