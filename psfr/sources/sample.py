"""Portraits that the project draws itself, each with its exact region map."""

from functools import partial
from pathlib import Path

from psfr import portraits
from psfr.compute import parallel
from psfr.compute.parallel import Pool
from psfr.data import images, labels
from psfr.params import ImageSet, LabelledSet
from psfr.utils.seeds import seed_of


def fill(raw: Path, name: str, given: ImageSet, image_size: int, seed: int, pool: Pool) -> None:
    """Draw `given.count` portraits after the first `given.skip`, named by their number; each set has people of its own. Those that are there are kept."""
    numbers = range(given.skip, given.skip + given.count)
    wanted = {f"{number:05d}.png" for number in numbers}
    for path in images.visible(raw):
        if path.name not in wanted:
            path.unlink()
    draw = partial(_draw, raw, isinstance(given, LabelledSet), seed_of(seed, "portraits", name), image_size)
    parallel.each(draw, numbers, pool, f"draw {name}")


def _draw(raw: Path, labelled: bool, seed: int, image_size: int, index: int) -> None:
    file = f"{index:05d}.png"
    if all((raw / part / file).is_file() for part in (("images", "masks") if labelled else ("",))):
        return
    image, regions = portraits.draw(seed, index, image_size)
    if labelled:
        images.write(raw / "images" / file, image)
        labels.write(raw / "masks" / file, regions)
    else:
        images.write(raw / file, image)
