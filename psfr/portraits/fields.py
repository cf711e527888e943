"""Scalar fields on the head's frontal plane: the grid, smooth steps, bumps and reproducible noise.

Lengths are in eye distances (the distance between the two eye centres is 1), x grows to the right of the
picture, y downwards, z towards the viewer; the origin lies midway between the eyes.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

X_RANGE = (-2.4, 2.4)
Y_RANGE = (-2.6, 2.6)


def smoothstep(value: np.ndarray | float, low: float, high: float) -> np.ndarray:
    """Cubic ramp from 0 at `low` to 1 at `high` (`low` may be the greater); same shape as `value`."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


@dataclass(frozen=True)
class Grid:
    """A raster of `height` x `width` cells over X_RANGE x Y_RANGE, or over the part of it named by the ranges."""

    width: int
    height: int
    x_range: tuple[float, float] = X_RANGE
    y_range: tuple[float, float] = Y_RANGE

    @classmethod
    def with_density(cls, density: float) -> Grid:
        """The whole frontal plane at about `density` cells per eye distance."""
        width = round((X_RANGE[1] - X_RANGE[0]) * density)
        height = round((Y_RANGE[1] - Y_RANGE[0]) * density)
        return cls(width, height)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.height, self.width

    @property
    def step(self) -> tuple[float, float]:
        """Size of a cell (dx, dy) in eye distances."""
        return (self.x_range[1] - self.x_range[0]) / self.width, (self.y_range[1] - self.y_range[0]) / self.height

    @cached_property
    def x(self) -> np.ndarray:
        """Cell centres along x as a row, float32 (1, width)."""
        return ((np.arange(self.width, dtype=np.float32) + 0.5) * self.step[0] + self.x_range[0])[None, :]

    @cached_property
    def y(self) -> np.ndarray:
        """Cell centres along y as a column, float32 (height, 1)."""
        return ((np.arange(self.height, dtype=np.float32) + 0.5) * self.step[1] + self.y_range[0])[:, None]

    def columns(self, x: np.ndarray) -> np.ndarray:
        """Fractional column of positions `x`, for cv2.remap."""
        return (x - self.x_range[0]) / self.step[0] - 0.5

    def rows(self, y: np.ndarray) -> np.ndarray:
        """Fractional row of positions `y`, for cv2.remap."""
        return (y - self.y_range[0]) / self.step[1] - 0.5

    def window(self, x_low: float, x_high: float, y_low: float, y_high: float) -> tuple[tuple[slice, slice], Grid]:
        """The cells that cover a rectangle: their (rows, columns) slices and the grid of just these cells."""
        dx, dy = self.step
        left = int(np.clip(np.floor((x_low - self.x_range[0]) / dx), 0, self.width - 1))
        right = int(np.clip(np.ceil((x_high - self.x_range[0]) / dx), left + 1, self.width))
        top = int(np.clip(np.floor((y_low - self.y_range[0]) / dy), 0, self.height - 1))
        bottom = int(np.clip(np.ceil((y_high - self.y_range[0]) / dy), top + 1, self.height))
        part = Grid(
            right - left,
            bottom - top,
            (self.x_range[0] + left * dx, self.x_range[0] + right * dx),
            (self.y_range[0] + top * dy, self.y_range[0] + bottom * dy),
        )
        return (slice(top, bottom), slice(left, right)), part

    def bump(self, x: float, y: float, sigma_x: float, sigma_y: float) -> np.ndarray:
        """A Gaussian of height 1 centred at (x, y), float32 (height, width)."""
        return np.exp(-(((self.y - y) / sigma_y) ** 2) / 2) * np.exp(-(((self.x - x) / sigma_x) ** 2) / 2)

    def blur(self, field: np.ndarray, sigma: float) -> np.ndarray:
        """Gaussian blur of `field` (height, width[, channels]) by `sigma` eye distances.

        Wide blurs are made on a thinned raster: the result is as smooth and many times cheaper.
        """
        sigma_cells = sigma / self.step[0]
        factor = max(1, int(sigma_cells / 2.5))
        if factor > 1:
            small = cv2.resize(
                field, (max(self.width // factor, 4), max(self.height // factor, 4)), interpolation=cv2.INTER_AREA
            )
            sigma_small = sigma_cells * small.shape[1] / self.width
            small = cv2.GaussianBlur(small, (0, 0), sigma_small, borderType=cv2.BORDER_REPLICATE)
            return cv2.resize(small, (self.width, self.height), interpolation=cv2.INTER_LINEAR)
        return cv2.GaussianBlur(field, (0, 0), max(sigma_cells, 0.3), borderType=cv2.BORDER_REPLICATE)


class Noise:
    """Random fields that depend on (seed, index) and a name alone, never on the raster they are read at."""

    def __init__(self, seed: int, index: int) -> None:
        self._key = (seed, index)

    def rng(self, name: str) -> np.random.Generator:
        """The generator reserved for `name`."""
        return np.random.default_rng([*self._key, zlib.crc32(name.encode())])

    def lattice(self, name: str, rows: int, columns: int, channels: int | None = None) -> np.ndarray:
        """Standard normal values, float32 (rows, columns[, channels])."""
        shape = (rows, columns) if channels is None else (rows, columns, channels)
        return self.rng(name).standard_normal(shape, dtype=np.float32)

    def smooth(self, name: str, grid: Grid, cells: float, stretch: float = 1.0) -> np.ndarray:
        """Noise of about unit deviation over the frontal plane, float32, the shape of `grid` (a whole-plane grid).

        `cells`: lattice cells per eye distance along x; along y there are `stretch` times fewer.
        """
        columns = max(2, round((X_RANGE[1] - X_RANGE[0]) * cells))
        rows = max(2, round((Y_RANGE[1] - Y_RANGE[0]) * cells / stretch))
        return cv2.resize(self.lattice(name, rows, columns), (grid.width, grid.height), interpolation=cv2.INTER_CUBIC)

    def strands(
        self, name: str, across: np.ndarray, along: np.ndarray, shape: tuple[int, int] = (64, 512)
    ) -> np.ndarray:
        """Noise read at lattice coordinates `across`, `along` (float32 arrays of one shape), repeating at its ends."""
        across, along = np.broadcast_arrays(np.float32(across), np.float32(along))
        return cv2.remap(self.lattice(name, *shape), across, along, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
