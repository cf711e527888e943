"""Photographs for the tests: scikit-image's astronaut (NASA, public domain), and a stand-in for the networks."""

from functools import cache

import cv2
import numpy as np
from skimage import data

from psfr.data import labels
from psfr.photos.alignment import Frame
from psfr.photos.blending import HEAD_LABELS
from psfr.photos.restoration import Prediction

SIZE = 128
SEPIA = np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]])


@cache
def astronaut() -> np.ndarray:
    """Head and shoulders, uint8 (256, 256, 3)."""
    return np.ascontiguousarray(data.astronaut()[:256, 96:352])


# The frame of the astronaut's face as `detection.find_faces` returns it, for tests that need no detection.
FRAME = Frame(46.6 + 13.0j, 175.2 + 9.9j)


@cache
def group() -> tuple[np.ndarray, list[Frame]]:
    """Return a photograph of three people, uint8 (260, 600, 3), and their frames, the largest first.

    The astronaut, mirrored in the middle, at three sizes. The largest is on the right, the smallest in the middle.
    """
    photo = np.full((260, 600, 3), 110, np.uint8)
    frames = []
    for left, size, mirrored in ((340, 256, False), (4, 192, False), (200, 128, True)):
        person = cv2.resize(astronaut(), (size, size), interpolation=cv2.INTER_AREA)
        photo[2 : 2 + size, left : left + size] = person[:, ::-1] if mirrored else person
        frame = FRAME.scaled(size / 256)
        if mirrored:
            corner = frame.corner + frame.side
            frame = Frame(complex(size - corner.real, corner.imag), frame.side.conjugate())
        frames.append(Frame(frame.corner + left + 2j, frame.side))
    return photo, frames


def rotated(degrees: float, size: int = 320) -> tuple[np.ndarray, Frame]:
    """Return the astronaut, rotated counterclockwise about the center of a gray square, and its frame."""
    rotation = np.exp(-1j * np.radians(degrees))
    shift = size / 2 * (1 + 1j) - rotation * FRAME.center
    offset = rotation * (0.5 + 0.5j) + shift - (0.5 + 0.5j)
    matrix = np.array([[rotation.real, -rotation.imag, offset.real], [rotation.imag, rotation.real, offset.imag]])
    photo = cv2.warpAffine(astronaut(), matrix, (size, size), flags=cv2.INTER_CUBIC, borderValue=(120, 120, 120))
    return photo, Frame(complex(rotation * FRAME.corner + shift), complex(rotation * FRAME.side))


def cut(side: str, share: float) -> tuple[np.ndarray, Frame]:
    """Return the astronaut without what lies beyond a border, and its frame, of which `share` lies outside.

    Args:
        side: the border: left, top, right or bottom.
    """
    rows, columns = slice(None), slice(None)
    corners = FRAME.to_image(np.array([0, 1, 1j, 1 + 1j]))
    (left, right), (top, bottom) = (np.sort(part)[[0, -1]] for part in (corners.real, corners.imag))
    if side in ("left", "right"):
        position = round(left + share * (right - left) if side == "left" else right - share * (right - left))
        columns = slice(position, None) if side == "left" else slice(None, position)
    else:
        position = round(top + share * (bottom - top) if side == "top" else bottom - share * (bottom - top))
        rows = slice(position, None) if side == "top" else slice(None, position)
    photo = np.ascontiguousarray(astronaut()[rows, columns])
    return photo, FRAME.translated(columns.start or 0, rows.start or 0)


def sepia(image: np.ndarray) -> np.ndarray:
    """Return the sepia version of uint8 RGB (H, W, 3)."""
    return np.clip(image @ SEPIA.T, 0, 255).astype(np.uint8)


def parsing_map(size: int = SIZE) -> np.ndarray:
    """Return a parsing map, uint8 (size, size): an ellipse of skin, hair above it, background."""
    row, column = (np.mgrid[0:size, 0:size] + 0.5) / size
    seg = np.zeros((size, size), np.uint8)
    seg[((column - 0.5) / 0.36) ** 2 + ((row - 0.45) / 0.38) ** 2 < 1] = labels.NAMES.index("hair")
    seg[((column - 0.5) / 0.28) ** 2 + ((row - 0.6) / 0.34) ** 2 < 1] = labels.NAMES.index("skin")
    return seg


def is_head(seg: np.ndarray) -> np.ndarray:
    """Return which pixels of a parsing map are head, bool."""
    return np.isin(seg, HEAD_LABELS)


def flawed_restorer(aligned: np.ndarray) -> Prediction:
    """Sharpen a face and add what blending must remove: more light, green hair, purple lips, another background."""
    restored = aligned.astype(float) * 2 - cv2.GaussianBlur(aligned, (0, 0), 2) + 20
    size = len(aligned)
    restored[: size // 3] += (-15, 25, -15)
    restored[2 * size // 3 : 3 * size // 4, size // 3 : 2 * size // 3] += (20, -20, 20)
    seg = parsing_map(size)
    restored[seg == 0] = (255, 0, 255)
    return Prediction(seg, np.clip(restored, 0, 255).astype(np.uint8), is_head(seg).astype(np.float32))
