"""The degradation program: what a good image goes through to become the input of restoration.

It is the article's imgaug program (seed article, Training, Dataset): blur, reduce, add noise, compress, enlarge. The article
lets imgaug draw and apply at once; here drawing and applying are two steps, so that what was done to each image is on record
and can be done again. The drawn distributions are those of imgaug 0.4.0, which also does the work on the pixels.
"""

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from psfr.compute import parallel
from psfr.compute.parallel import Pool
from psfr.data import images
from psfr.data.degradation_table import Degradation
from psfr.params import Degrade
from psfr.utils import compat
from psfr.utils.seeds import generator

compat.before_imgaug()

from imgaug import augmenters  # noqa: E402

# The lengths of the article's program are pixels of images of this size.
ARTICLE_SIZE = 512

BLURS = ("gaussian", "average", "median", "motion")

# What imgaug.ALL stands for in Resize.
INTERPOLATIONS = ("nearest", "linear", "area", "cubic")


def sample(rng: np.random.Generator, degrade: Degrade, image_size: int) -> Degradation:
    """Draw a degradation for images of `image_size`; lengths scale with it, and at 512 are exactly the article's."""
    scale = image_size / ARTICLE_SIZE
    gray = rng.random() < degrade.gray
    blur = BLURS[rng.integers(len(BLURS))] if rng.random() < degrade.blur else None
    noise = rng.random() < degrade.noise
    jpeg = rng.random() < degrade.jpeg
    low, high = degrade.downsample
    return Degradation(
        gray=bool(gray),
        blur=blur,
        blur_size=_blur_size(rng, blur, degrade, scale) if blur else None,
        motion_angle=_uniform(rng, 0, 360) if blur == "motion" else None,
        motion_direction=_uniform(rng, -1, 1) if blur == "motion" else None,
        size=max(1, int(rng.uniform(low * scale, high * scale))),
        interpolation=INTERPOLATIONS[rng.integers(len(INTERPOLATIONS))],
        noise_scale=_uniform(rng, *degrade.noise_scale) if noise else None,
        noise_per_channel=bool(rng.random() < 0.5) if noise else None,
        noise_seed=int(rng.integers(2**31)) if noise else None,
        jpeg_compression=int(rng.uniform(*degrade.jpeg_compression)) if jpeg else None,
    )


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """To four decimals, so that a table of them holds exactly what was done."""
    return round(float(rng.uniform(low, high)), 4)


def _blur_size(rng: np.random.Generator, blur: str, degrade: Degrade, scale: float) -> float:
    low, high = degrade.motion_kernel if blur == "motion" else degrade.blur_kernel
    if blur == "gaussian":
        return _uniform(rng, low * scale, high * scale)
    kernel = max(1, int(rng.integers(low, high + 1) * scale + 0.5))
    if blur == "motion":
        kernel = max(3, kernel)  # imgaug has no shorter motion
    if blur != "average":
        kernel += 1 - kernel % 2  # these have a middle pixel; imgaug rounds up in the same way
    return float(kernel)


def apply(degradation: Degradation, image: np.ndarray) -> np.ndarray:
    """Degrade an image, uint8 RGB (S, S, 3), to uint8 RGB of the same size."""
    image = target(degradation, image)
    for step in _steps(degradation, len(image)):
        image = step(image=image)
    return image


def target(degradation: Degradation, image: np.ndarray) -> np.ndarray:
    """What restoration is to find, uint8 RGB (S, S, 3): the image, or its grey version where the degradation is of that."""
    return images.gray(image) if degradation.gray else image


def _steps(d: Degradation, image_size: int) -> list[augmenters.Augmenter]:
    steps = []
    match d.blur:
        case "gaussian":
            steps.append(augmenters.GaussianBlur(d.blur_size))
        case "average":
            steps.append(augmenters.AverageBlur(int(d.blur_size)))
        case "median":
            steps.append(augmenters.MedianBlur(int(d.blur_size)))
        case "motion":
            steps.append(augmenters.MotionBlur(int(d.blur_size), angle=d.motion_angle, direction=d.motion_direction))
    steps.append(augmenters.Resize(d.size, interpolation=d.interpolation))
    if d.noise_scale is not None:
        steps.append(
            augmenters.AdditiveGaussianNoise(
                loc=0, scale=d.noise_scale, per_channel=d.noise_per_channel, seed=d.noise_seed
            )
        )
    if d.jpeg_compression is not None:
        steps.append(augmenters.JpegCompression(d.jpeg_compression))
    steps.append(augmenters.Resize(image_size))
    return steps


def drawn(image_size: int, name: str, variant: int | str, seed: int, degrade: Degrade) -> Degradation:
    """The degradation that belongs to (seed, name, variant)."""
    return sample(generator(seed, "degrade", name, variant), degrade, image_size)


def degraded_copy(
    image: np.ndarray, name: str, variant: int | str, seed: int, degrade: Degrade
) -> tuple[np.ndarray, np.ndarray, Degradation]:
    """Degrade an image in the way that belongs to (seed, name, variant), whatever else is done, where and when.

    Args:
        image: uint8 RGB (S, S, 3).
        variant: number of the copy, or the name of a purpose that must not share its draws with another.

    Returns:
        Degraded image and target of restoration, both uint8 RGB (S, S, 3), and what was done.
    """
    degradation = drawn(len(image), name, variant, seed, degrade)
    return apply(degradation, image), target(degradation, image), degradation


def make_copies(paths: list[Path], lr: Path, degrade: Degrade, size: int, seed: int, pool: Pool) -> Iterator[dict]:
    """Write `degrade.variants` degraded copies of each image of `size` pixels a side, to lr/VARIANT/NAME.png; copies that are there are kept.

    Returns:
        A row of the table for each copy, as they are made: name, variant, and the degradation.
    """
    for rows in parallel.results(partial(_make_copies, lr, degrade, size, seed), paths, pool, "degrade"):
        yield from rows


def _make_copies(lr: Path, degrade: Degrade, size: int, seed: int, path: Path) -> list[dict]:
    rows, image = [], None
    for variant in range(degrade.variants):
        out = lr / str(variant) / f"{path.stem}.png"
        degradation = drawn(size, path.stem, variant, seed, degrade)
        if not out.is_file():
            image = images.read(path) if image is None else image
            images.write(out, apply(degradation, image))
        rows.append({"name": path.stem, "variant": variant, **asdict(degradation)})
    return rows


def make_pairs(paths: list[Path], hr: Path, lr: Path, degrade: Degrade, seed: int, pool: Pool) -> Iterator[dict]:
    """Write one degraded copy of each image, to lr/NAME.png, and the image that restoration is to find, to hr/NAME.png.

    Returns:
        A row of the table for each image, as they are made: name, and the degradation.
    """
    return parallel.results(partial(_make_pair, hr, lr, degrade, seed), paths, pool, "degrade")


def _make_pair(hr: Path, lr: Path, degrade: Degrade, seed: int, path: Path) -> dict:
    degraded, sought, degradation = degraded_copy(images.read(path), path.stem, "test", seed, degrade)
    images.write(hr / f"{path.stem}.png", sought)
    images.write(lr / f"{path.stem}.png", degraded)
    return {"name": path.stem, **asdict(degradation)}
