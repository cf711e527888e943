"""Levels of faded and dark photographs: the networks see a face at the levels of the faces they were trained on.

The levels of an aligned face are changed by one gain and one offset, and what restoration adds is divided by the gain,
so that the photograph stays as faded or dark as it was.
"""

from dataclasses import dataclass

import numpy as np

from psfr.photos.alignment import ellipse

LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # weights of red, green and blue (ITU-R BT.601)
FACE = (0.5, 0.58, 0.22, 0.28)  # ellipse within the face: center and half axes, as fractions of the side
# Luminance in the ellipse, in levels. Of 100 faces of CelebA-HQ, the mean is 149 and the standard deviation 42 on
# average. By the limits of the range from the 2nd to the 98th percentile, also relative to the 2nd, and of the 98th, 8
# of 700 faces of photographs are faded or dark, and 660 of them at 40 % of their contrast plus 100 levels. Blur reduces
# the range, too: higher limits would amplify blurred faces.
MEAN, STD = 149.0, 42.0
MIN_RANGE, MIN_RELATIVE_RANGE, MIN_HIGHEST = 80.0, 0.8, 130.0
MAX_GAIN = 12.0  # more would be noise


@dataclass(frozen=True)
class Levels:
    """Change of the levels of a face: `gain` times the level, plus `offset`."""

    gain: float = 1.0
    offset: float = 0.0

    def apply(self, aligned: np.ndarray) -> np.ndarray:
        """Return a face, uint8 (S, S, 3), at the changed levels. Normal levels return it unchanged."""
        if self == Levels():
            return aligned
        return np.rint(np.clip(aligned * np.float32(self.gain) + np.float32(self.offset), 0, 255)).astype(np.uint8)

    def revert(self, aligned: np.ndarray, restored: np.ndarray) -> np.ndarray:
        """Return a face that was restored at the changed levels at those of the photograph, uint8 (S, S, 3).

        Args:
            aligned: the aligned face in the photograph, uint8 (S, S, 3).
            restored: the restored face at the changed levels, uint8 (S, S, 3).
        """
        if self == Levels():
            return restored
        change = restored - self.apply(aligned).astype(np.float32)
        return np.rint(np.clip(aligned + change / np.float32(self.gain), 0, 255)).astype(np.uint8)


def estimate_levels(aligned: np.ndarray, visible: np.ndarray) -> Levels:
    """Return the change that gives a faded or dark face normal levels; no change for other faces.

    Args:
        aligned: uint8 RGB (S, S, 3).
        visible: which pixels lie in the photograph, bool (S, S).
    """
    face = ellipse(len(aligned), *FACE) & visible
    if not face.any():
        return Levels()
    luminance = aligned[face] @ LUMINANCE
    lowest, highest = np.percentile(luminance, (2, 98))
    if highest - lowest >= max(MIN_RANGE, MIN_RELATIVE_RANGE * lowest) and highest >= MIN_HIGHEST:
        return Levels()
    gain = float(np.clip(STD / max(luminance.std(), 1e-3), 1, MAX_GAIN))
    return Levels(gain, MEAN - gain * float(luminance.mean()))
