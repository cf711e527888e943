"""The 19 face regions of CelebAMask-HQ, and the label PNGs that hold them."""

from pathlib import Path

import numpy as np
from PIL import Image

from psfr.data.images import opened
from psfr.utils.errors import InputError
from psfr.utils.files import replacing

NAMES = (
    "background", "skin", "nose", "eye_glasses", "left_eye", "right_eye", "left_brow", "right_brow", "left_ear", "right_ear",
    "mouth", "upper_lip", "lower_lip", "hair", "hat", "ear_ring", "necklace", "neck", "cloth",
)  # fmt: skip
COUNT = len(NAMES)

# The colours in which CelebAMask-HQ maps are usually drawn.
PALETTE = np.array(
    [(0, 0, 0), (204, 0, 0), (76, 153, 0), (204, 204, 0), (51, 51, 255), (204, 0, 204), (0, 255, 255), (255, 204, 204),
     (102, 51, 0), (255, 0, 0), (102, 204, 0), (255, 255, 0), (0, 0, 153), (0, 0, 204), (255, 51, 153), (0, 204, 204),
     (0, 51, 0), (255, 153, 51), (0, 204, 0)],
    np.uint8,
)  # fmt: skip

# A mirrored face has its left eye where the right one was.
MIRRORED = np.array([0, 1, 2, 3, 5, 4, 7, 6, 9, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18], np.uint8)


def write(path: Path, labels: np.ndarray) -> None:
    """Write labels, uint8 (H, W) of 0..18, as a PNG whose palette makes it readable by eye."""
    if labels.dtype != np.uint8 or labels.ndim != 2:
        raise TypeError(f"labels are uint8 (H, W), not {labels.dtype} {labels.shape}")
    image = Image.fromarray(labels)
    image.putpalette(PALETTE.tobytes())
    with replacing(path) as temporary:
        image.save(temporary, "PNG")


def read(path: Path) -> np.ndarray:
    """Read a label PNG, of a palette or grey, as uint8 (H, W).

    Raises:
        InputError: no such file, damaged, not of one byte a pixel, or a label over 18.
    """
    with opened(path) as image:
        if image.mode not in ("P", "L"):
            mend = f"save region numbers 0 to {COUNT - 1}, not colours"
            raise InputError(f"{path}: a label map has one byte a pixel (mode P or L), this is {image.mode}: {mend}")
        labels = np.array(image, np.uint8)
    if labels.max(initial=0) >= COUNT:
        raise InputError(
            f"{path}: label {labels.max()} is over {COUNT - 1}: use CelebAMask-HQ's numbers, 0 to {COUNT - 1}"
        )
    return labels


def fits(shape: tuple[int, int], image_shape: tuple[int, int]) -> bool:
    """Whether a label map lies on an image pixel by pixel: it has the image's (H, W), or either is contained in the other a whole number of times.

    CelebAMask-HQ's maps have 512 pixels a side, its images 1024.
    """
    small, large = sorted([tuple(shape), tuple(image_shape)])
    return (
        small[0] > 0
        and large[0] % small[0] == 0
        and all(one == other * (large[0] // small[0]) for one, other in zip(large, small, strict=True))
    )
