"""Parsing maps: the 19 labels of CelebAMask-HQ, and PNG files of them."""

from pathlib import Path

import numpy as np
from PIL import Image

from psfr.data.images import open_image
from psfr.networks import NUM_CLASSES
from psfr.utils.errors import UserError
from psfr.utils.files import atomic_write

NAMES = (
    "background", "skin", "nose", "eye_glasses", "left_eye", "right_eye", "left_brow", "right_brow", "left_ear",
    "right_ear", "mouth", "upper_lip", "lower_lip", "hair", "hat", "ear_ring", "necklace", "neck", "cloth",
)  # fmt: skip
assert len(NAMES) == NUM_CLASSES

# RGB color of each label, as CelebAMask-HQ maps are usually drawn.
PALETTE = np.array(
    [(0, 0, 0), (204, 0, 0), (76, 153, 0), (204, 204, 0), (51, 51, 255), (204, 0, 204), (0, 255, 255), (255, 204, 204),
     (102, 51, 0), (255, 0, 0), (102, 204, 0), (255, 255, 0), (0, 0, 153), (0, 0, 204), (255, 51, 153), (0, 204, 204),
     (0, 51, 0), (255, 153, 51), (0, 204, 0)],
    np.uint8,
)  # fmt: skip

# FLIP_MAP[seg[:, ::-1]] is the parsing map of the mirrored face: left and right labels are exchanged.
FLIP_MAP = np.array([0, 1, 2, 3, 5, 4, 7, 6, 9, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18], np.uint8)


def write(path: Path, seg: np.ndarray) -> None:
    """Write a parsing map, uint8 (H, W) of labels 0 to 18, as a PNG with `PALETTE` as its palette."""
    if seg.dtype != np.uint8 or seg.ndim != 2:
        raise TypeError(f"a parsing map is uint8 (H, W), not {seg.dtype} {seg.shape}")
    image = Image.fromarray(seg)
    image.putpalette(PALETTE.tobytes())
    with atomic_write(path) as temporary:
        image.save(temporary, "PNG")


def read(path: Path) -> np.ndarray:
    """Read a parsing map from a palette or grayscale PNG, as uint8 (H, W).

    Raises:
        UserError: As `images.open_image`, or if the file does not have one byte per pixel or holds a label above 18.
    """
    with open_image(path) as image:
        if image.mode not in ("P", "L"):
            problem = f"a parsing map has one byte per pixel (mode P or L), this file has mode {image.mode}"
            raise UserError(f"{path}: {problem}: save label numbers 0 to {NUM_CLASSES - 1}, not colors")
        seg = np.array(image, np.uint8)
    highest = seg.max(initial=0)
    if highest >= NUM_CLASSES:
        hint = f"use the label numbers of CelebAMask-HQ, 0 to {NUM_CLASSES - 1}"
        raise UserError(f"{path}: label {highest} is over {NUM_CLASSES - 1}: {hint}")
    return seg


def sizes_compatible(shape: tuple[int, int], image_shape: tuple[int, int]) -> bool:
    """Return whether a parsing map fits an image: their (H, W) are equal, or one is an integer multiple of the other.

    The maps of CelebAMask-HQ have 512 x 512 pixels, its images 1024 x 1024.
    """
    (height, width), (large_height, large_width) = sorted([tuple(shape), tuple(image_shape)])
    if height == 0 or large_height % height:
        return False
    factor = large_height // height
    return large_width == width * factor
