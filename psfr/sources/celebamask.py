"""CelebAMask-HQ as it is distributed: a PNG for each part of each face, put together to one label map."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from psfr.data.images import opened
from psfr.utils.errors import InputError, raise_together

# In the order of labels.NAMES, and of overlap: where parts overlap, the later one is seen, as in the authors' own g_mask.py.
PARTS = (
    "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear",
    "mouth", "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth",
)  # fmt: skip
_NAME = re.compile(rf"([0-9]+)_({'|'.join(PARTS)})")


def label(path: Path) -> int | None:
    """The label that a PNG such as `0/00012_l_brow.png` is the part of; None if its name is no part's."""
    name = _NAME.fullmatch(path.stem)
    return 1 + PARTS.index(name[2]) if name else None


def faces(masks: Mapping[str, Path]) -> dict[str, tuple[Path, ...]]:
    """The parts of each face, by its number without leading zeros; empty if the masks are not of this kind.

    Args:
        masks: path by name without suffix.

    Raises:
        InputError: some are parts and others are not.
    """
    names = {stem: _NAME.fullmatch(stem) for stem in masks}
    if not any(names.values()):
        return {}
    strange = (f"{masks[stem]} is named as no part of a face" for stem, name in names.items() if not name)
    raise_together(strange, f"in a folder of parts each PNG is NUMBER_PART.png, PART one of {', '.join(PARTS)}")
    found: dict[str, list[Path]] = {}
    for stem, name in names.items():
        found.setdefault(number(name[1]), []).append(masks[stem])
    return {face: tuple(paths) for face, paths in found.items()}


def number(stem: str) -> str | None:
    """What an image's name and its parts' names have in common: `12` of `12` and of `00012`; None for a name that is no number."""
    return (stem.lstrip("0") or "0") if re.fullmatch("[0-9]+", stem) else None


def read(path: Path) -> np.ndarray:
    """Where a part is, bool (H, W), of a PNG in grey or colours that is black elsewhere.

    Raises:
        InputError: as `images.opened`.
    """
    with opened(path) as image:
        return np.asarray(image.convert("L")) > 0


def put_together(parts: Iterable[tuple[int, np.ndarray]]) -> np.ndarray:
    """One label map, uint8 (H, W), of (label, where it is); 0 where there is no part.

    Raises:
        InputError: the parts have several sizes.
    """
    parts = sorted(parts, key=lambda part: part[0])
    sizes = sorted({where.shape for _, where in parts})
    if len(sizes) > 1:
        raise InputError(
            f"the parts of one face have several sizes ({', '.join(f'{width}x{height}' for height, width in sizes)})"
        )
    regions = np.zeros(sizes[0], np.uint8)
    for part_label, where in parts:
        regions[where] = part_label
    return regions
