"""Frontal height field that carries the head, its hair and accessories, with a material for each cell."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from psfr.portraits.grid import Grid

EMPTY = -3.0
"""Height (z, eye distances) of cells without a surface."""


class Label(IntEnum):
    """Label ids of CelebAMask-HQ. "Left" is the person's left, that is the right side of the image."""

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
class HeightField:
    """Surface and material of each cell of a frontal grid; the modules of the face's parts paint on it in place.

    Attributes:
        grid: the grid, of shape (H, W).
        height: float32 (H, W), z in eye distances, EMPTY without a surface.
        albedo: float32 (H, W, 3), linear RGB in [0, 1].
        seg: uint8 (H, W), parsing map of `Label`.
        gloss: float32 (H, W), strength of the specular highlights of skin, lips and metal.
        shade: float32 (H, W), factor for painted darkness (roots of the lashes, nostrils).
        glow: float32 (H, W), added radiance (highlights of the eyes).
        flow: float32 (H, W), slope dx/dy of the strands where `seg` is HAIR.
        strand: float32 (H, W), strand noise where `seg` is HAIR.
    """

    grid: Grid
    height: np.ndarray
    albedo: np.ndarray
    seg: np.ndarray
    gloss: np.ndarray
    shade: np.ndarray
    glow: np.ndarray
    flow: np.ndarray
    strand: np.ndarray

    @classmethod
    def blank(cls, grid: Grid) -> HeightField:
        """Return a height field without any surface."""

        def full(value: float) -> np.ndarray:
            return np.full(grid.shape, value, np.float32)

        return cls(
            grid=grid,
            height=full(EMPTY),
            albedo=np.zeros((*grid.shape, 3), np.float32),
            seg=np.zeros(grid.shape, np.uint8),
            gloss=full(0),
            shade=full(1),
            glow=full(0),
            flow=full(0),
            strand=full(0),
        )

    def window(self, x_low: float, x_high: float, y_low: float, y_high: float) -> HeightField:
        """Return a view of the cells that cover a rectangle; painting on the view paints on this height field."""
        cells, grid = self.grid.window(x_low, x_high, y_low, y_high)
        return HeightField(
            grid=grid,
            height=self.height[cells],
            albedo=self.albedo[cells],
            seg=self.seg[cells],
            gloss=self.gloss[cells],
            shade=self.shade[cells],
            glow=self.glow[cells],
            flow=self.flow[cells],
            strand=self.strand[cells],
        )

    def tint(self, color: tuple[float, ...] | np.ndarray, alpha: np.ndarray) -> None:
        """Blend the linear RGB `color` (3,) or (..., 3) into the albedo with opacity `alpha` in [0, 1]."""
        weight = alpha[..., None]
        self.albedo *= 1 - weight
        self.albedo += weight * np.asarray(color, np.float32)


def srgb_to_linear(color: tuple[float, ...] | np.ndarray) -> np.ndarray:
    """Convert sRGB in [0, 1] to linear RGB, float32, with the gamma approximation 2.2."""
    return np.power(np.clip(np.asarray(color, np.float32), 0, 1), np.float32(2.2))


def coverage(distance: np.ndarray, grid: Grid) -> np.ndarray:
    """Return the anti-aliased coverage in [0, 1] of a shape, given its signed distance (positive inside)."""
    return np.clip(distance / np.float32(grid.step[0]) + np.float32(0.5), 0, 1)
