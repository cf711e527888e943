"""An image and the region map that belongs to it: found, examined, and laid into `raw`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from psfr.data import images, labels
from psfr.sources import celebamask
from psfr.sources.sums import Sum, fault
from psfr.utils.errors import InputError, raise_together


class Pair(NamedTuple):
    """An image with a label map, or with CelebAMask-HQ's parts, or without either in a set that has no labels."""

    image: Path
    masks: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.image, *self.masks)

    @property
    def in_parts(self) -> bool:
        return bool(self.masks) and celebamask.label(self.masks[0]) is not None

    def places(self, raw: Path) -> dict[Path, Path]:
        """Where in `raw` its files go as they are."""
        if not self.masks:
            return {self.image: raw / self.image.name}
        taken = {self.image: raw / "images" / self.image.name}
        return taken if self.in_parts else taken | {self.masks[0]: raw / "masks" / self.masks[0].name}

    def map_in_parts(self, raw: Path) -> Path | None:
        """Where in `raw` the label map goes that its parts are put together to."""
        return raw / "masks" / f"{self.image.stem}.png" if self.in_parts else None


class Fault(NamedTuple):
    """A file that cannot be taken, and why."""

    path: Path
    reason: str


def paired(faces: Mapping[str, Path], masks: Mapping[str, Path], image_place: str, mask_place: str) -> dict[str, Pair]:
    """Each image with its label map of the same name, or with its parts of the same number. All are paths by name without suffix.

    Raises:
        InputError: one lacks the other; all such are named.
    """
    if parts := celebamask.faces(masks):
        unnumbered = (f"{faces[stem]} has no number for a name" for stem in faces if celebamask.number(stem) is None)
        raise_together(
            unnumbered, f"{mask_place} holds parts of faces as of CelebAMask-HQ, whose images are NUMBER.jpg"
        )
        named: dict[str, str] = {}
        twice = (
            f"{faces[stem]} has the number of {faces[named[face]]}"
            for stem in faces
            if named.setdefault(face := celebamask.number(stem), stem) != stem
        )
        raise_together(twice, "rename one of each pair")
        raise_together(
            (f"{faces[stem]} has no parts" for stem in faces if celebamask.number(stem) not in parts),
            f"put NUMBER_PART.png into {mask_place}",
        )
        return {stem: Pair(faces[stem], parts[celebamask.number(stem)]) for stem in faces}
    raise_together(
        [f"{faces[stem]} has no mask" for stem in sorted(faces.keys() - masks.keys())]
        + [f"{masks[stem]} has no image" for stem in sorted(masks.keys() - faces.keys())],
        f"image and mask have one name, NAME.jpg in {image_place} and NAME.png in {mask_place}",
    )
    return {stem: Pair(faces[stem], (masks[stem],)) for stem in faces}


def examine(raw: Path, task: tuple[Pair, Sequence[tuple[Sum, ...]]]) -> list[Fault]:
    """Compare the files of a pair with what is known of each, and decode each once; parts are put together and written into `raw`."""
    pair, known = task
    expected = dict(zip(pair.files, known, strict=True))
    faults: list[Fault] = []

    def read(how: Callable, path: Path):
        if reason := fault(path, expected[path]):
            faults.append(Fault(path, reason))
            return None
        try:
            return how(path)
        except InputError as error:
            faults.append(Fault(path, str(error).removeprefix(f"{path}: ")))
            return None

    image = read(images.read, pair.image)
    regions = None
    if pair.in_parts:
        parts = [(celebamask.label(path), read(celebamask.read, path)) for path in pair.masks]
        if all(where is not None for _, where in parts):
            try:
                regions = celebamask.put_together(parts)
            except InputError as error:
                faults.append(Fault(pair.masks[0], str(error)))
    elif pair.masks:
        regions = read(labels.read, pair.masks[0])
    if image is not None and regions is not None:
        if not labels.fits(regions.shape, image.shape[:2]):
            (height, width), (map_height, map_width) = image.shape[:2], regions.shape
            mend = "give it the image's size, or one that is contained in it, or contains it, a whole number of times"
            faults.append(
                Fault(
                    pair.masks[0],
                    f"{map_width}x{map_height} pixels, its image {pair.image.name} has {width}x{height}: {mend}",
                )
            )
        elif pair.in_parts:
            labels.write(pair.map_in_parts(raw), regions)
    return faults
