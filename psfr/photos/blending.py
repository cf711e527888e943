"""A restored face laid back into its photograph: a soft edge, the photograph's own light and colours, and none where it has none.

What is laid is the difference that the network makes, not its picture: what the photograph shows finer than the network works, stays;
slow changes of the difference, of light and colour, are left out; and beyond the face there is no difference at all.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage

from psfr.data import labels
from psfr.photos.alignment import Frame, uncrop, window

# Regions that are laid back: the head, but not the cloth or the background, which the network never saw sharp enough to know.
FACE = [
    labels.NAMES.index(name)
    for name in labels.NAMES
    if name not in ("background", "cloth", "necklace", "neck", "hat", "ear_ring")
]
# Widths are parts of the frame's side.
EDGE = 1 / 40  # of the soft edge: standard deviation
LEAST = 0.05  # of the frame: a map with less of a face has failed, and an oval takes its place
BORDER = 1 / 8  # over which a face fades towards the border of its frame
SLOW, SLOW_COLOUR = (
    1 / 6,
    1 / 16,
)  # standard deviations of the blurs that say what of a difference is light and what is colour
FINE_COLOUR = (
    1 / 64
)  # of the blur of its colours: eyes see colour half as fine as light, at most, and networks fringe edges with it

LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
TONE_SIZE = 16  # pixels a side of the face in which its colours are looked at: noise is averaged away
TONE_WIDTH = 3.0  # levels of luminance that share a colour
# So far may nine tenths of the colours be from what their luminance says: real faces are at 7.5 and more, in sepia below 7 (19 of 20).
TONE_LEVELS = 7.0


@dataclass(frozen=True)
class Tone:
    """The colour of each luminance in a photograph of one tone, grey or sepia: float32 (256, 3) of differences from the luminance."""

    tint: np.ndarray

    def of(self, aligned: np.ndarray, restored: np.ndarray) -> np.ndarray:
        """A restored face in this tone: uint8 RGB (S, S, 3) of the face that has it and the grey face that a network made of it, both alike."""
        before, after = aligned @ LUMINANCE, restored @ LUMINANCE
        toned = aligned + (after - before)[:, :, None] + self._tint(after) - self._tint(before)
        return np.rint(np.clip(toned, 0, 255)).astype(np.uint8)

    def _tint(self, luminance: np.ndarray) -> np.ndarray:
        return np.stack([np.interp(luminance, np.arange(256), channel) for channel in self.tint.T], 2).astype(
            np.float32
        )


def tone(aligned: np.ndarray) -> Tone | None:
    """The tone of a face, uint8 RGB (S, S, 3), that has but one; None where there are colours."""
    small = cv2.resize(aligned, (TONE_SIZE, TONE_SIZE), interpolation=cv2.INTER_AREA).astype(np.float32).reshape(-1, 3)
    luminance = small @ LUMINANCE
    tint = small - luminance[:, None]
    away = np.abs(np.arange(256)[:, None] - luminance) / TONE_WIDTH
    near = np.exp(-0.5 * away**2) + 1e-6 * np.exp(-away / 10)  # the second where no pixel is that bright
    curve = (near @ tint / near.sum(1, keepdims=True)).astype(np.float32)
    off = np.abs(tint - curve[np.clip(np.rint(luminance), 0, 255).astype(int)]).max(1)
    return Tone(curve) if np.quantile(off, 0.9) <= TONE_LEVELS else None


def mask(regions: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How much of a restored face is laid back at each pixel, float32 (S, S) in [0, 1], by its region map.

    Args:
        regions: uint8 (S, S), labels.
        others: centre and size of the frame of each other face, complex (n, 2), in this frame, its side being 1; a pixel belongs to the nearest.
    """
    size = len(regions)
    row, column = np.mgrid[0:size, 0:size]
    place = (column + 0.5 + 1j * (row + 0.5)) / size
    face = np.isin(regions, FACE)
    for centre, side in others:
        face &= np.abs(place - (0.5 + 0.5j)) <= np.abs(place - centre) / abs(side)
    parts, count = ndimage.label(face)
    if count:
        face = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    if face.mean() < LEAST:
        face = (place.real - 0.5) ** 2 / 0.25**2 + (place.imag - 0.58) ** 2 / 0.32**2 < 1
    face = ndimage.binary_fill_holes(face)
    soft = cv2.GaussianBlur(face.astype(np.float32), (0, 0), size * EDGE)
    soft = np.clip(2 * soft - 1, 0, 1)  # inside the region alone
    inward = np.minimum.reduce([place.real, 1 - place.real, place.imag, 1 - place.imag]) - 0.5 / size
    border = np.clip(inward / BORDER, 0, 1)
    return (soft * border**2 * (3 - 2 * border)).astype(np.float32)


def difference(aligned: np.ndarray, restored: np.ndarray, soft: np.ndarray) -> np.ndarray:
    """What restoration adds to an aligned face but for light and colour, times the mask: float32 (S, S, 3) in levels.

    Args:
        aligned, restored: uint8 (S, S, 3).
        soft: the mask, float32 (S, S).
    """
    change = restored.astype(np.float32) - aligned
    light = np.repeat((change @ LUMINANCE)[:, :, None], 3, axis=2)
    colour = _smooth(change - light, soft, FINE_COLOUR)
    return (light - _smooth(light, soft, SLOW) + colour - _smooth(colour, soft, SLOW_COLOUR)) * soft[:, :, None]


def _smooth(change: np.ndarray, soft: np.ndarray, width: float) -> np.ndarray:
    """The mean of a difference (S, S, 3) around each pixel, as the mask weighs it."""
    sigma = width * len(soft)
    return cv2.GaussianBlur(change * soft[:, :, None], (0, 0), sigma) / (
        cv2.GaussianBlur(soft, (0, 0), sigma)[:, :, None] + 1e-3
    )


def paste(picture: np.ndarray, change: np.ndarray, of: Frame) -> None:
    """Lay a difference, float32 (S, S, 3) in levels of 0 to 255, where its frame is in a picture, uint8 or uint16 (H, W, 3), in place."""
    rows, columns = window(of, picture.shape[:2])
    part, of = picture[rows, columns], of.moved(columns.start, rows.start)
    unit = np.float32(257 if picture.dtype == np.uint16 else 1)
    after = part + unit * uncrop(change, of, part.shape[:2])
    part[:] = np.rint(np.clip(after, 0, 255 * unit))
