"""CelebAMask-HQ as it is distributed: one PNG mask for each part of each face, merged into one parsing map."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from psfr.data.images import open_image
from psfr.utils.errors import UserError, raise_all

# In the order of labels.NAMES[1:]. Where parts overlap, the later one covers the earlier, as in the authors' g_mask.py.
PARTS = (
    "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear",
    "mouth", "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth",
)  # fmt: skip
_NAME = re.compile(rf"([0-9]+)_({'|'.join(PARTS)})")


def part_label(path: Path) -> int | None:
    """Return the label of a part mask from its name, such as `0/00012_l_brow.png`; None for any other name."""
    name = _NAME.fullmatch(path.stem)
    return 1 + PARTS.index(name[2]) if name else None


def parts_by_face(masks: Mapping[str, Path]) -> dict[str, tuple[Path, ...]]:
    """Group part masks by the number of their face, as `face_number` returns it.

    Args:
        masks: Path by name.

    Returns:
        The part masks of each face; empty if none of the masks is a part mask.

    Raises:
        UserError: If only some of the masks are part masks.
    """
    names = {path: _NAME.fullmatch(path.stem) for path in masks.values()}
    if not any(names.values()):
        return {}
    parts: dict[str, list[Path]] = {}
    problems = []
    for path, name in names.items():
        if name is None:
            problems.append(f"{path} is not named as a part of a face")
        else:
            parts.setdefault(_without_zeros(name[1]), []).append(path)
    raise_all(problems, f"in a folder of parts each PNG is NUMBER_PART.png, PART one of {', '.join(PARTS)}")
    return {face: tuple(paths) for face, paths in parts.items()}


def face_number(stem: str) -> str | None:
    """Return the number that an image and its part masks share, `12` for `12` and `00012`; None for other names."""
    return _without_zeros(stem) if re.fullmatch("[0-9]+", stem) else None


def _without_zeros(number: str) -> str:
    return number.lstrip("0") or "0"


def read_part(path: Path) -> np.ndarray:
    """Read a part mask, a PNG that is black outside the part, as bool (H, W).

    Raises:
        UserError: As `images.open_image`.
    """
    with open_image(path) as image:
        return np.asarray(image.convert("L")) > 0


def merge_parts(parts: Iterable[tuple[int, np.ndarray]]) -> np.ndarray:
    """Merge part masks into one parsing map.

    Args:
        parts: Label and mask, bool (H, W), of each part.

    Returns:
        uint8 (H, W), 0 where there is no part.

    Raises:
        UserError: If the masks differ in size.
    """
    parts = sorted(parts, key=lambda part: part[0])
    shapes = sorted({mask.shape for _, mask in parts})
    if len(shapes) > 1:
        sizes = ", ".join(f"{width}x{height}" for height, width in shapes)
        raise UserError(f"the parts of one face have several sizes ({sizes})")
    seg = np.zeros(shapes[0], np.uint8)
    for label, mask in parts:
        seg[mask] = label
    return seg
