"""The frontal relief: one height field that carries the head, its hair and what is worn on it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from psfr.portraits.fields import Grid

EMPTY = -3.0
"""Height (z, eye distances) where the relief has no surface."""


class Region(IntEnum):
    """The labels of CelebAMask-HQ. "Left" is the person's left: the right side of the picture."""

    BACKGROUND = 0
    SKIN = 1
    NOSE = 2
    GLASSES = 3
    LEFT_EYE = 4
    RIGHT_EYE = 5
    LEFT_BROW = 6
    RIGHT_BROW = 7
    LEFT_EAR = 8
    RIGHT_EAR = 9
    MOUTH = 10
    UPPER_LIP = 11
    LOWER_LIP = 12
    HAIR = 13
    HAT = 14
    EARRING = 15
    NECKLACE = 16
    NECK = 17
    CLOTH = 18


@dataclass
class Relief:
    """Surface and material on a frontal grid of `shape`; painted in place by the modules that know each part.

    height: float32 z in eye distances, EMPTY outside; albedo: float32 (..., 3) linear RGB in [0, 1];
    label: uint8 Region; gloss: float32 strength of the highlights of skin-like surfaces; shade: float32 factor for
    painted darkness (lash roots, nostrils); glow: float32 added brightness (catch lights); flow: float32 slope dx/dy
    of the strands where label is HAIR; strand: float32 strand noise there.
    """

    grid: Grid
    height: np.ndarray
    albedo: np.ndarray
    label: np.ndarray
    gloss: np.ndarray
    shade: np.ndarray
    glow: np.ndarray
    flow: np.ndarray
    strand: np.ndarray

    @classmethod
    def blank(cls, grid: Grid) -> Relief:
        """A relief with no surface anywhere."""

        def full(value: float) -> np.ndarray:
            return np.full(grid.shape, value, np.float32)

        return cls(
            grid, full(EMPTY), np.zeros((*grid.shape, 3), np.float32), np.zeros(grid.shape, np.uint8),
            full(0), full(1), full(0), full(0), full(0),
        )  # fmt: skip

    def window(self, x_low: float, x_high: float, y_low: float, y_high: float) -> Relief:
        """A view of the cells that cover a rectangle; painting it paints this relief."""
        rows_columns, grid = self.grid.window(x_low, x_high, y_low, y_high)
        return Relief(
            grid, *(field[rows_columns] for field in (
                self.height, self.albedo, self.label, self.gloss, self.shade, self.glow, self.flow, self.strand,
            ))
        )  # fmt: skip

    def tint(self, color: tuple[float, ...] | np.ndarray, alpha: np.ndarray) -> None:
        """Mix linear RGB `color` (3,) or (..., 3) into the albedo with weight `alpha` in [0, 1]."""
        weight = alpha[..., None]
        self.albedo *= 1 - weight
        self.albedo += weight * np.asarray(color, np.float32)


def linear(color: tuple[float, ...] | np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] to linear light, float32, by the usual power 2.2."""
    return np.power(np.clip(np.asarray(color, np.float32), 0, 1), np.float32(2.2))


def edge(distance: np.ndarray, grid: Grid) -> np.ndarray:
    """Coverage in [0, 1] of a shape whose signed distance (positive inside, eye distances) is given: one cell of blend."""
    return np.clip(distance / np.float32(grid.step[0]) + np.float32(0.5), 0, 1)
