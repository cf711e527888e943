"""Degradation program: how low-quality images are made from high-quality ones.

The program is that of the reimplementation (Training, Dataset), written with imgaug: blur, downsample, add noise,
compress as JPEG, upsample. imgaug samples and applies in one step. Here these are two steps, so that the degradation of
each image is recorded and can be repeated. Parameters are distributed as in imgaug 0.4.0, which also does the image
processing.
"""

import shutil
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np

from psfr.compute import parallel
from psfr.compute.parallel import Executor
from psfr.data import images
from psfr.data.degradation_table import Degradation
from psfr.params import DegradeParams
from psfr.utils import compat
from psfr.utils.seeds import rng_for

compat.patch_imgaug()

from imgaug import augmenters  # noqa: E402

# Lengths in the parameters are pixels of images of this size, the one that the reimplementation trains on.
REFERENCE_SIZE = 512

BLURS = ("gaussian", "average", "median", "motion")

MIN_SIGMA = 0.3  # imgaug's Gaussian blur of a smaller standard deviation leaves the image as it is

# The methods that imgaug.ALL stands for in Resize.
INTERPOLATIONS = ("nearest", "linear", "area", "cubic")


def sample_degradation(rng: np.random.Generator, config: DegradeParams, image_size: int) -> Degradation:
    """Sample a degradation for images of `image_size` pixels.

    Lengths scale with the image size; at 512 they are those of `config`.
    """
    scale = image_size / REFERENCE_SIZE
    gray = rng.random() < config.gray
    blur = BLURS[rng.integers(len(BLURS))] if rng.random() < config.blur else None
    noise = rng.random() < config.noise
    jpeg = rng.random() < config.jpeg
    low, high = config.downsample
    return Degradation(
        gray=bool(gray),
        blur=blur,
        blur_size=_blur_size(rng, blur, config, scale) if blur else None,
        motion_angle=_uniform(rng, 0, 360) if blur == "motion" else None,
        motion_direction=_uniform(rng, -1, 1) if blur == "motion" else None,
        size=max(1, int(rng.uniform(low * scale, high * scale))),
        interpolation=INTERPOLATIONS[rng.integers(len(INTERPOLATIONS))],
        noise_scale=_uniform(rng, *config.noise_scale) if noise else None,
        noise_per_channel=bool(rng.random() < 0.5) if noise else None,
        noise_seed=int(rng.integers(2**31)) if noise else None,
        jpeg_compression=int(rng.uniform(*config.jpeg_compression)) if jpeg else None,
    )


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Sample to four decimals, so that the CSV table holds the exact value."""
    return round(float(rng.uniform(low, high)), 4)


def _blur_size(rng: np.random.Generator, blur: str, config: DegradeParams, scale: float) -> float:
    """Sample the size of a blur; in small images it is at least the smallest that changes the image."""
    low, high = config.motion_kernel if blur == "motion" else config.blur_kernel
    if blur == "gaussian":
        return _uniform(rng, max(low * scale, MIN_SIGMA), max(high * scale, MIN_SIGMA))
    kernel = max(2, int(rng.integers(low, high + 1) * scale + 0.5))
    if blur != "average":
        kernel += 1 - kernel % 2  # odd, rounded up as in imgaug
    return float(kernel)


def apply(degradation: Degradation, image: np.ndarray) -> np.ndarray:
    """Degrade an RGB image, uint8 (S, S, 3), and return one of the same shape."""
    image = restoration_target(degradation, image)
    for step in _steps(degradation, len(image)):
        image = cast(np.ndarray, step(image=image))
    return image


def restoration_target(degradation: Degradation, image: np.ndarray) -> np.ndarray:
    """Return the target of restoration, uint8 (S, S, 3): the image, in grayscale if the degradation is of that."""
    return images.gray(image) if degradation.gray else image


def _steps(degradation: Degradation, image_size: int) -> list[augmenters.Augmenter]:
    """Return the imgaug augmenters that follow the conversion to grayscale."""
    d, steps = degradation, []
    if d.blur is not None:
        steps.append(_blur_step(d))
    steps.append(augmenters.Resize(d.size, interpolation=d.interpolation))
    if d.noise_scale is not None:
        noise = augmenters.AdditiveGaussianNoise(
            loc=0, scale=d.noise_scale, per_channel=bool(d.noise_per_channel), seed=d.noise_seed
        )
        steps.append(noise)
    if d.jpeg_compression is not None:
        steps.append(augmenters.JpegCompression(d.jpeg_compression))
    steps.append(augmenters.Resize(image_size))
    return steps


def _blur_step(degradation: Degradation) -> augmenters.Augmenter:
    size = degradation.blur_size
    assert size is not None
    match degradation.blur:
        case "gaussian":
            return augmenters.GaussianBlur(size)
        case "average":
            return augmenters.AverageBlur(int(size))
        case "median":
            return augmenters.MedianBlur(int(size))
        case "motion":
            angle, direction = degradation.motion_angle, degradation.motion_direction
            return augmenters.MotionBlur(int(size), angle=angle, direction=direction)
    raise ValueError(f"unknown blur {degradation.blur}")


def sample_for(image_size: int, name: str, variant: int | str, seed: int, config: DegradeParams) -> Degradation:
    """Sample the degradation that (seed, name, variant) determines."""
    return sample_degradation(rng_for(seed, "degrade", name, variant), config, image_size)


def degrade(
    image: np.ndarray, name: str, variant: int | str, seed: int, config: DegradeParams
) -> tuple[np.ndarray, np.ndarray, Degradation]:
    """Degrade an image in the way that (seed, name, variant) determines, independent of all else.

    Args:
        image: RGB, uint8 (S, S, 3).
        name: Name of the image.
        variant: Number of the degraded copy, or a name of the purpose, whose samples must differ from the others'.
        seed: Seed of the experiment.
        config: Probabilities and ranges of the steps.

    Returns:
        Degraded image and target of restoration, both RGB, uint8 (S, S, 3), and the degradation.
    """
    degradation = sample_for(len(image), name, variant, seed, config)
    return apply(degradation, image), restoration_target(degradation, image), degradation


def write_variants(
    paths: list[Path], lr: Path, config: DegradeParams, size: int, seed: int, executor: Executor
) -> Iterator[dict]:
    """Write `config.variants` degraded copies of each image to `lr/VARIANT/NAME.png`.

    Existing files are kept; folders of further variants are removed.

    Args:
        paths: Images of `size` x `size` pixels.

    Yields:
        The table row of each copy as soon as it exists: name, variant and the fields of `Degradation`.
    """
    for folder in set(lr.glob("*")) - {lr / str(variant) for variant in range(config.variants)}:
        shutil.rmtree(folder)
    for rows in parallel.imap(partial(_write_variants, lr, config, size, seed), paths, executor, "degrade"):
        yield from rows


def _write_variants(lr: Path, config: DegradeParams, size: int, seed: int, path: Path) -> list[dict]:
    rows, image = [], None
    for variant in range(config.variants):
        out = lr / str(variant) / f"{path.stem}.png"
        degradation = sample_for(size, path.stem, variant, seed, config)
        if not out.is_file():
            image = images.read(path) if image is None else image
            images.write(out, apply(degradation, image))
        rows.append({"name": path.stem, "variant": variant, **asdict(degradation)})
    return rows


def write_pairs(
    paths: list[Path], hr: Path, lr: Path, config: DegradeParams, seed: int, executor: Executor
) -> Iterator[dict]:
    """Write one degraded copy of each image to `lr/NAME.png`, and the target of restoration to `hr/NAME.png`.

    Returns:
        Iterator over the table row of each image as soon as it exists: name and the fields of `Degradation`.
    """
    return parallel.imap(partial(_write_pair, hr, lr, config, seed), paths, executor, "degrade")


def _write_pair(hr: Path, lr: Path, config: DegradeParams, seed: int, path: Path) -> dict:
    degraded, target, degradation = degrade(images.read(path), path.stem, "test", seed, config)
    images.write(hr / f"{path.stem}.png", target)
    images.write(lr / f"{path.stem}.png", degraded)
    return {"name": path.stem, **asdict(degradation)}
