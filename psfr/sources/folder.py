"""Images of the user's own, with region maps where the set has them."""

import shutil
import sys
from functools import partial
from pathlib import Path

from psfr import images, labels, parallel
from psfr.choice import chosen
from psfr.errors import InputError, raise_together
from psfr.params import ImageSet, LabelledSet


def fill(raw: Path, name: str, given: ImageSet, seed: int, workers: int | None) -> None:
    """Check and copy the images that the set takes of the folder `given.images`, and their masks of `given.masks`.

    Raises:
        InputError: a folder is missing or empty, holds too few images, an image or mask is damaged, does not fit the other, or lacks it.
    """
    copy(raw, name, given, Path(given.images), Path(given.masks) if isinstance(given, LabelledSet) else None, seed, workers)


def copy(raw: Path, name: str, given: ImageSet, image_folder: Path, mask_folder: Path | None, seed: int, workers: int | None) -> None:
    """`fill` from these folders; a mask has its image's name, and is a PNG. Nothing is written before all is checked."""
    paths = {path.stem: path for path in images.listed(image_folder)}
    _mention_others(image_folder, len(paths))
    masks = {}
    if mask_folder is not None:
        masks = {path.stem: path for path in images.listed(mask_folder, (".png",))}
        raise_together(
            [f"{paths[stem]} has no mask" for stem in sorted(paths.keys() - masks.keys())]
            + [f"{masks[stem]} has no image" for stem in sorted(masks.keys() - paths.keys())],
            f"image and mask have one name, NAME.jpg in {image_folder} and NAME.png in {mask_folder}",
        )
    pairs = [(paths[stem], masks.get(stem)) for stem in chosen(list(paths), given.count, given.skip, seed, name, str(image_folder))]
    _remove_others(raw, {file.name for pair in pairs for file in pair if file})
    parallel.each(_check, pairs, workers, f"check {name}")
    parallel.each(partial(_copy, raw), pairs, workers, f"copy {name}")


def _mention_others(folder: Path, taken: int) -> None:
    others = len(images.visible(folder)) - taken
    if others:
        print(f"{folder}: passed over what is not {', '.join(images.SUFFIXES)} (files: {others})", file=sys.stderr)


def _remove_others(raw: Path, names: set[str]) -> None:
    """What an earlier try copied of a folder that has changed since."""
    for path in images.visible(raw):
        if path.name not in names:
            path.unlink()


def _check(pair: tuple[Path, Path | None]) -> None:
    path, mask_path = pair
    problems = []
    shapes = []
    for read, each in [(images.read, path), (labels.read, mask_path)]:
        if each is not None:
            try:
                shapes.append(read(each).shape[:2])
            except InputError as error:
                problems.append(str(error))
    if len(set(shapes)) > 1:
        (height, width), (mask_height, mask_width) = shapes
        problems.append(f"{mask_path}: {mask_width}x{mask_height} pixels, its image {path} has {width}x{height}: give it the image's size")
    raise_together(problems)


def _copy(raw: Path, pair: tuple[Path, Path | None]) -> None:
    """Bytes are copied: a link would let a later edit of the user's file change what DVC has on record."""
    path, mask_path = pair
    if mask_path is None:
        shutil.copyfile(path, raw / path.name)
    else:
        for kind, file in [("images", path), ("masks", mask_path)]:
            (raw / kind).mkdir(exist_ok=True)
            shutil.copyfile(file, raw / kind / file.name)
