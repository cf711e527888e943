"""Pairs of an image and its mask: matched by name, validated, and placed in `raw`."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from psfr.data import images, labels
from psfr.data.subset import choose_named, choose_subset
from psfr.params import ImageSetParams
from psfr.sources import celebamask
from psfr.sources.checksums import Checksum, checksum_mismatch
from psfr.utils.errors import UserError, raise_all
from psfr.utils.files import find_duplicates


class Pair(NamedTuple):
    """An image with a parsing map or with CelebAMask-HQ's part masks, or without masks in an unlabeled set.

    `name` is the image's name in the set, without suffix.
    """

    name: str
    image: Path
    masks: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.image, *self.masks)

    @property
    def has_part_masks(self) -> bool:
        return bool(self.masks) and celebamask.part_label(self.masks[0]) is not None

    def destinations(self, raw: Path) -> dict[Path, Path]:
        """Return the path in `raw` of each file that is placed there unchanged."""
        if not self.masks:
            return {self.image: raw / f"{self.name}{self.image.suffix}"}
        paths = {self.image: raw / "images" / f"{self.name}{self.image.suffix}"}
        if not self.has_part_masks:
            paths[self.masks[0]] = raw / "masks" / f"{self.name}.png"
        return paths

    def merged_mask_path(self, raw: Path) -> Path | None:
        """Return the path in `raw` of the parsing map that part masks are merged into; None if there are none."""
        return raw / "masks" / f"{self.name}.png" if self.has_part_masks else None


class FileProblem(NamedTuple):
    """A file that cannot be used, and why."""

    path: Path
    reason: str


def choose_pairs(
    pairs: Mapping[str, Pair], params: ImageSetParams, seed: int, name: str, only: Collection[str] | None
) -> list[Pair]:
    """Choose the pairs of a set: those of the names `only` or, for None, as `params.count` and `params.skip` say.

    Args:
        pairs: All pairs of the source by name.
        name: The set, for the error message.

    Raises:
        UserError: see `choose_subset` and `choose_named`.
    """
    assert params.images is not None
    if only is None:
        subset = choose_subset(pairs, params.count, params.skip, seed, name, params.images)
    else:
        subset = choose_named(pairs, only, params.images)
    return [pairs[image] for image in subset]


def match_pairs(
    faces: Mapping[str, Path], masks: Mapping[str, Path], image_source: str, mask_source: str
) -> dict[str, Pair]:
    """Match each image with the parsing map of the same name, or with the part masks of the same number.

    Args:
        faces: Path of each image by its name in the set.
        masks: Path of each mask by its name.
        image_source: The folder or remote of the images, for the error message.
        mask_source: The folder or remote of the masks, for the error message.

    Returns:
        The pair of each image by its name in the set.

    Raises:
        UserError: If images lack masks or masks lack images; the message names all of them.
    """
    parts = celebamask.parts_by_face(masks)
    if parts:
        return _match_parts(faces, parts, mask_source)
    problems = [f"{faces[name]} has no mask" for name in sorted(faces.keys() - masks.keys())]
    problems += [f"{masks[name]} has no image" for name in sorted(masks.keys() - faces.keys())]
    raise_all(problems, f"name them alike, NAME.jpg in {image_source} and NAME.png in {mask_source}")
    return {name: Pair(name, faces[name], (masks[name],)) for name in faces}


def _match_parts(faces: Mapping[str, Path], parts: Mapping[str, tuple[Path, ...]], mask_source: str) -> dict[str, Pair]:
    numbers = {name: celebamask.face_number(path.stem) for name, path in faces.items()}
    raise_all(
        [f"{faces[name]} is not named by a number" for name, number in numbers.items() if number is None],
        f"{mask_source} holds part masks as in CelebAMask-HQ, whose images are NUMBER.jpg",
    )
    raise_all(
        [f"{faces[name]} has the same number as {faces[first]}" for name, first in find_duplicates(faces, numbers.get)],
        "rename one of each pair",
    )
    pairs = {name: Pair(name, faces[name], parts.get(number or "", ())) for name, number in numbers.items()}
    raise_all(
        [f"{pair.image} has no parts" for pair in pairs.values() if not pair.masks],
        f"put NUMBER_PART.png into {mask_source}",
    )
    return pairs


def validate_pair(raw: Path, task: tuple[Pair, Sequence[tuple[Checksum, ...]]]) -> list[FileProblem]:
    """Verify the checksums of the files of a pair, decode them, and write merged part masks into `raw`.

    Args:
        raw: Folder of the set.
        task: The pair, and the expected checksums of each of its files.

    Returns:
        The files that are damaged or do not belong together.
    """
    pair, checksums = task
    expected = dict(zip(pair.files, checksums, strict=True))
    problems: list[FileProblem] = []

    def read(reader: Callable[[Path], np.ndarray], path: Path) -> np.ndarray | None:
        if reason := checksum_mismatch(path, expected[path]):
            problems.append(FileProblem(path, reason))
            return None
        try:
            return reader(path)
        except UserError as error:
            problems.append(FileProblem(path, str(error).removeprefix(f"{path}: ")))
            return None

    image = read(images.read, pair.image)
    seg = None
    if pair.has_part_masks:
        parts = []
        for path in pair.masks:
            label, mask = celebamask.part_label(path), read(celebamask.read_part, path)
            if label is not None and mask is not None:
                parts.append((label, mask))
        if len(parts) == len(pair.masks):
            try:
                seg = celebamask.merge_parts(parts)
            except UserError as error:
                problems.append(FileProblem(pair.masks[0], str(error)))
    elif pair.masks:
        seg = read(labels.read, pair.masks[0])
    if image is not None and seg is not None:
        merged_path = pair.merged_mask_path(raw)
        if not labels.sizes_compatible(seg.shape, image.shape[:2]):
            problems.append(FileProblem(pair.masks[0], _size_mismatch(pair, image, seg)))
        elif merged_path is not None:
            labels.write(merged_path, seg)
    return problems


def _size_mismatch(pair: Pair, image: np.ndarray, seg: np.ndarray) -> str:
    (height, width), (seg_height, seg_width) = image.shape[:2], seg.shape
    sizes = f"{seg_width}x{seg_height} pixels, its image {pair.image.name} has {width}x{height}"
    return f"{sizes}: resize it to the size of the image, or to an integer multiple or fraction of it"
