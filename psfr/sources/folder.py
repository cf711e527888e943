"""Images of the user's own, with region maps where the set has them."""

import shutil
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from psfr.compute import parallel
from psfr.compute.parallel import Pool
from psfr.data import images
from psfr.data.subset import chosen
from psfr.params import ImageSet, LabelledSet
from psfr.sources.pairs import Pair, examine, paired
from psfr.utils.errors import raise_together


def fill(raw: Path, name: str, given: ImageSet, seed: int, pool: Pool) -> None:
    """Check and copy the images that the set takes of the folder `given.images`, and their masks of `given.masks`; no file is copied before all are checked.

    Raises:
        InputError: a folder is missing or empty, holds too few images, an image or mask is damaged, does not fit the other, or lacks it.
    """
    pairs = _pairs(Path(given.images), Path(given.masks) if isinstance(given, LabelledSet) else None)
    taken = [pairs[stem] for stem in chosen(pairs, given.count, given.skip, seed, name, given.images)]
    remove_others(raw, taken)
    parallel.each(partial(_check, raw), taken, pool, f"check {name}")
    parallel.each(partial(_copy, raw), taken, pool, f"copy {name}")


def _pairs(image_folder: Path, mask_folder: Path | None) -> dict[str, Pair]:
    files = images.visible(image_folder)
    faces = {path.stem: path for path in images.among(files, image_folder)}
    if others := len(files) - len(faces):
        print(
            f"{image_folder}: passed over what is not {', '.join(images.SUFFIXES)} (files: {others})", file=sys.stderr
        )
    if mask_folder is None:
        return {stem: Pair(path) for stem, path in faces.items()}
    masks = {path.stem: path for path in images.listed(mask_folder, (".png",))}
    return paired(faces, masks, str(image_folder), str(mask_folder))


def remove_others(raw: Path, taken: Iterable[Pair]) -> None:
    """What an earlier try laid into `raw` of a folder that has changed since."""
    wanted = {place for pair in taken for place in (*pair.places(raw).values(), pair.map_in_parts(raw))}
    for path in images.visible(raw):
        if path not in wanted:
            path.unlink()


def _check(raw: Path, pair: Pair) -> None:
    raise_together(f"{path}: {reason}" for path, reason in examine(raw, (pair, [()] * len(pair.files))))


def _copy(raw: Path, pair: Pair) -> None:
    """Bytes are copied: a link would let a later edit of the user's file change what DVC has on record."""
    for path, place in pair.places(raw).items():
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, place)
