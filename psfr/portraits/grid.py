"""Raster of the head's frontal plane, smooth steps, Gaussian bumps and reproducible noise.

Head coordinates: lengths are in eye distances (the eye centers are 1 apart). The origin lies midway between the eyes,
x grows to the right of the image, y down, z toward the viewer.
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
    """Return the cubic ramp from 0 at `low` to 1 at `high`, in the shape of `value`; `low` may exceed `high`."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


@dataclass(frozen=True)
class Grid:
    """Raster of `height` x `width` cells over the rectangle `x_range` x `y_range`, by default the frontal plane."""

    width: int
    height: int
    x_range: tuple[float, float] = X_RANGE
    y_range: tuple[float, float] = Y_RANGE

    @classmethod
    def with_density(cls, density: float) -> Grid:
        """Return a grid of the whole frontal plane with about `density` cells per eye distance."""
        width = round((X_RANGE[1] - X_RANGE[0]) * density)
        height = round((Y_RANGE[1] - Y_RANGE[0]) * density)
        return cls(width, height)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.height, self.width

    @property
    def step(self) -> tuple[float, float]:
        """Cell size (dx, dy) in eye distances."""
        return (self.x_range[1] - self.x_range[0]) / self.width, (self.y_range[1] - self.y_range[0]) / self.height

    @cached_property
    def x(self) -> np.ndarray:
        """x of the cell centers as a row, float32 (1, width)."""
        return ((np.arange(self.width, dtype=np.float32) + 0.5) * self.step[0] + self.x_range[0])[None, :]

    @cached_property
    def y(self) -> np.ndarray:
        """y of the cell centers as a column, float32 (height, 1)."""
        return ((np.arange(self.height, dtype=np.float32) + 0.5) * self.step[1] + self.y_range[0])[:, None]

    def columns(self, x: np.ndarray) -> np.ndarray:
        """Return the fractional column of each `x`, as `cv2.remap` expects it."""
        return (x - self.x_range[0]) / self.step[0] - 0.5

    def rows(self, y: np.ndarray) -> np.ndarray:
        """Return the fractional row of each `y`, as `cv2.remap` expects it."""
        return (y - self.y_range[0]) / self.step[1] - 0.5

    def window(self, x_low: float, x_high: float, y_low: float, y_high: float) -> tuple[tuple[slice, slice], Grid]:
        """Return the (rows, columns) slices of the cells that cover a rectangle, and the grid of these cells."""
        dx, dy = self.step
        left = int(np.clip(np.floor((x_low - self.x_range[0]) / dx), 0, self.width - 1))
        right = int(np.clip(np.ceil((x_high - self.x_range[0]) / dx), left + 1, self.width))
        top = int(np.clip(np.floor((y_low - self.y_range[0]) / dy), 0, self.height - 1))
        bottom = int(np.clip(np.ceil((y_high - self.y_range[0]) / dy), top + 1, self.height))
        window = Grid(
            right - left,
            bottom - top,
            (self.x_range[0] + left * dx, self.x_range[0] + right * dx),
            (self.y_range[0] + top * dy, self.y_range[0] + bottom * dy),
        )
        return (slice(top, bottom), slice(left, right)), window

    def bump(self, x: float, y: float, sigma_x: float, sigma_y: float) -> np.ndarray:
        """Return a Gaussian of height 1 centered at (x, y), float32 (height, width)."""
        return np.exp(-(((self.y - y) / sigma_y) ** 2) / 2) * np.exp(-(((self.x - x) / sigma_x) ** 2) / 2)

    def blur(self, values: np.ndarray, sigma: float) -> np.ndarray:
        """Blur `values` (height, width[, channels]) with a Gaussian of `sigma` eye distances."""
        sigma_cells = sigma / self.step[0]
        # A wide blur runs on a downsampled copy: equally smooth and much cheaper.
        factor = max(1, int(sigma_cells / 2.5))
        if factor > 1:
            small_size = (max(self.width // factor, 4), max(self.height // factor, 4))
            small = cv2.resize(values, small_size, interpolation=cv2.INTER_AREA)
            sigma_small = sigma_cells * small.shape[1] / self.width
            small = cv2.GaussianBlur(small, (0, 0), sigma_small, borderType=cv2.BORDER_REPLICATE)
            return cv2.resize(small, (self.width, self.height), interpolation=cv2.INTER_LINEAR)
        return cv2.GaussianBlur(values, (0, 0), max(sigma_cells, 0.3), borderType=cv2.BORDER_REPLICATE)


class Noise:
    """Named random arrays that depend only on seed, index and name, so that images of all sizes show the same ones."""

    def __init__(self, seed: int, index: int) -> None:
        self._key = (seed, index)

    def rng(self, name: str) -> np.random.Generator:
        """Return a new random number generator seeded by (seed, index) and `name`."""
        return np.random.default_rng([*self._key, zlib.crc32(name.encode())])

    def lattice(self, name: str, rows: int, columns: int, channels: int | None = None) -> np.ndarray:
        """Return standard normal values, float32 (rows, columns[, channels])."""
        shape = (rows, columns) if channels is None else (rows, columns, channels)
        return self.rng(name).standard_normal(shape, dtype=np.float32)

    def smooth(self, name: str, grid: Grid, cells: float, stretch: float = 1.0) -> np.ndarray:
        """Return smooth noise with a standard deviation of about 1 over the frontal plane.

        Args:
            name: seeds the noise.
            grid: a grid of the whole frontal plane.
            cells: noise cells per eye distance along x.
            stretch: there are `stretch` times fewer cells along y.

        Returns:
            float32 array of the shape of `grid`.
        """
        columns = max(2, round((X_RANGE[1] - X_RANGE[0]) * cells))
        rows = max(2, round((Y_RANGE[1] - Y_RANGE[0]) * cells / stretch))
        return cv2.resize(self.lattice(name, rows, columns), (grid.width, grid.height), interpolation=cv2.INTER_CUBIC)

    def strands(
        self, name: str, across: np.ndarray, along: np.ndarray, shape: tuple[int, int] = (64, 512)
    ) -> np.ndarray:
        """Return periodic noise of `shape` (rows, columns), float32, sampled at columns `across` and rows `along`."""
        across, along = np.broadcast_arrays(np.float32(across), np.float32(along))
        return cv2.remap(self.lattice(name, *shape), across, along, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
