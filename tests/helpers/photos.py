"""Photographs for the tests: scikit-image's astronaut (NASA, public domain), and a stand-in for the networks."""

from functools import cache

import cv2
import numpy as np
from skimage import data

from psfr.data import labels
from psfr.photos.alignment import Frame

SIZE = 128
SEPIA = np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]])


@cache
def astronaut() -> np.ndarray:
    """Head and shoulders, uint8 (256, 256, 3)."""
    return np.ascontiguousarray(data.astronaut()[:256, 96:352])


# Its frame, as `faces.find` gives it: tests of other rooms need not look for it.
FRAME = Frame(46.6 + 13.0j, 175.2 + 9.9j)


def turned(degrees: float, size: int = 320) -> tuple[np.ndarray, Frame]:
    """The astronaut in the middle of a grey square, turned counter-clockwise, and where its frame is then."""
    turn = np.exp(-1j * np.radians(degrees))
    shift = size / 2 * (1 + 1j) - turn * FRAME.centre
    start = turn * (0.5 + 0.5j) + shift - (0.5 + 0.5j)
    matrix = np.array([[turn.real, -turn.imag, start.real], [turn.imag, turn.real, start.imag]])
    picture = cv2.warpAffine(astronaut(), matrix, (size, size), flags=cv2.INTER_CUBIC, borderValue=(120, 120, 120))
    return picture, Frame(complex(turn * FRAME.corner + shift), complex(turn * FRAME.side))


def sepia(picture: np.ndarray) -> np.ndarray:
    """As photographs of a hundred years ago."""
    return np.clip(picture @ SEPIA.T, 0, 255).astype(np.uint8)


def regions(size: int = SIZE) -> np.ndarray:
    """A region map, uint8 (size, size): an oval of skin, hair above it, background."""
    row, column = (np.mgrid[0:size, 0:size] + 0.5) / size
    found = np.zeros((size, size), np.uint8)
    found[((column - 0.5) / 0.36) ** 2 + ((row - 0.45) / 0.38) ** 2 < 1] = labels.NAMES.index("hair")
    found[((column - 0.5) / 0.28) ** 2 + ((row - 0.6) / 0.34) ** 2 < 1] = labels.NAMES.index("skin")
    return found


def careless(aligned: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A restorer that sharpens, and does all that users complain of: lighter, green hair, purple lips, another background."""
    sharp = aligned.astype(float) * 2 - cv2.GaussianBlur(aligned, (0, 0), 2) + 20
    size = len(aligned)
    sharp[: size // 3] += (-15, 25, -15)
    sharp[2 * size // 3 : 3 * size // 4, size // 3 : 2 * size // 3] += (20, -20, 20)
    found = regions(size)
    sharp[found == 0] = (255, 0, 255)
    return found, np.clip(sharp, 0, 255).astype(np.uint8)
