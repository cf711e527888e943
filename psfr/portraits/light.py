"""Light on the relief: normals, cast shadows, ambient occlusion, skin and hair reflection."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from psfr.portraits.fields import Grid
from psfr.portraits.person import Light
from psfr.portraits.relief import EMPTY, Region, Relief


def normals(height: np.ndarray, grid: Grid) -> np.ndarray:
    """Unit normals of a height field (H, W), float32 (H, W, 3) in head coordinates (y down, z to the viewer)."""
    gx = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=1 / (8 * grid.step[0]), borderType=cv2.BORDER_REPLICATE)
    gy = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=1 / (8 * grid.step[1]), borderType=cv2.BORDER_REPLICATE)
    length = np.sqrt(gx * gx + gy * gy + 1)
    return np.stack([-gx / length, -gy / length, 1 / length], axis=-1)


def cast_shadow(height: np.ndarray, grid: Grid, towards: np.ndarray, hardness: float) -> np.ndarray:
    """Share of a lamp in direction `towards` (head coordinates) that reaches each cell, float32 (H, W) in [0, 1].

    Traced at half resolution: penumbras are wider than that.
    """
    lx, ly, lz = (float(v) for v in towards / np.linalg.norm(towards))
    small = cv2.resize(height, (max(grid.width // 2, 2), max(grid.height // 2, 2)), interpolation=cv2.INTER_AREA)
    dx, dy = grid.step[0] * grid.width / small.shape[1], grid.step[1] * grid.height / small.shape[0]
    dark = np.zeros_like(small)
    for distance in (0.05, 0.10, 0.17, 0.26, 0.38, 0.54, 0.76):
        move = np.array([[1, 0, -distance * lx / dx], [0, 1, -distance * ly / dy]], np.float32)
        blocker = cv2.warpAffine(small, move, (small.shape[1], small.shape[0]), borderMode=cv2.BORDER_REPLICATE)
        above = blocker - small - np.float32(distance * lz)
        np.maximum(dark, np.clip(above / np.float32(0.03 + 0.22 * distance * (1.4 - hardness)), 0, 1), out=dark)
    dark = cv2.GaussianBlur(dark, (0, 0), max(0.035 / dx, 0.4))
    return np.clip(1 - cv2.resize(dark, (grid.width, grid.height), interpolation=cv2.INTER_LINEAR), 0, 1)


def openness(height: np.ndarray, grid: Grid) -> np.ndarray:
    """How freely ambient light reaches each cell, float32 (H, W) in (0, 1]: less in hollows of three sizes."""
    hollow = np.zeros_like(height)
    for sigma, weight in ((0.04, 5.0), (0.13, 2.4), (0.40, 1.0)):
        hollow += weight * np.maximum(grid.blur(height, sigma) - height, 0)
    return np.exp(-np.minimum(hollow, 3.0))


@dataclass
class _Cells:
    """The lit cells of a relief, one row each: what the reflection formulas need of them."""

    normal: np.ndarray
    albedo: np.ndarray
    gloss: np.ndarray
    strand: np.ndarray
    openness: np.ndarray
    hair: np.ndarray
    metal: np.ndarray
    tangent: np.ndarray


def shade(relief: Relief, light: Light, rotation: np.ndarray, hair_gloss: float) -> np.ndarray:
    """Linear RGB of the lit relief, float32 (H, W, 3); black where there is no surface nearby.

    `rotation`: 3x3 head-to-camera matrix; the lamps stand in camera coordinates.
    """
    grid = relief.grid
    to_head = rotation.T.astype(np.float32)
    view = to_head @ np.array([0, 0, 1], np.float32)
    up = to_head @ np.array([0, -1, 0], np.float32)
    surface = np.maximum(relief.height, -0.5)
    # One cell beyond the edge is lit too, since pictures of the relief interpolate there.
    lit = cv2.dilate((relief.height > EMPTY + 1).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    cells = _gather(relief, surface, lit)

    ambient = light.ambient * cells.openness * (0.75 + 0.25 * (cells.normal @ up))
    total = (
        ambient[:, None]
        * (np.array(light.key_color, np.float32) + np.array(light.fill_color, np.float32))
        / 2
        * cells.albedo
    )
    lamps = [(light.key, light.key_color, light.key_strength), (light.fill, light.fill_color, light.fill_strength)]
    if light.rim_strength > 0:
        lamps.append(((-light.key[0] * 1.3, -0.3, -0.35), light.fill_color, light.rim_strength))
    for number, (direction, color, strength) in enumerate(lamps):
        towards = to_head @ np.array(direction, np.float32)
        towards /= np.linalg.norm(towards)
        reach = (
            cast_shadow(surface, grid, towards, light.hardness)[lit] if number == 0 else 0.35 + 0.65 * cells.openness
        )
        lamp = np.float32(strength) * np.array(color, np.float32)
        # The edge of a shadow falls softer in red than in blue.
        softened = reach[:, None] + (reach * (1 - reach))[:, None] * np.array([0.30, 0.0, -0.06], np.float32)
        total += lamp * softened * _reflect(cells, towards, view, np.float32(hair_gloss))
    total *= (relief.shade[lit] * (0.55 + 0.45 * cells.openness))[:, None]
    image = np.zeros((*grid.shape, 3), np.float32)
    image[lit] = total + relief.glow[lit][:, None]
    return image


def _gather(relief: Relief, surface: np.ndarray, lit: np.ndarray) -> _Cells:
    normal = normals(surface, relief.grid)[lit]
    label = relief.label[lit]
    hair = np.flatnonzero(label == Region.HAIR)
    run = relief.flow[lit][hair]
    rise = -(normal[hair, 0] * run + normal[hair, 1]) / np.maximum(normal[hair, 2], 0.15)
    tangent = np.stack([run, np.ones_like(run), np.clip(rise, -3, 3)], axis=-1)
    tangent /= np.sqrt((tangent**2).sum(axis=-1, keepdims=True))
    return _Cells(
        normal, relief.albedo[lit], relief.gloss[lit], relief.strand[lit][hair], openness(surface, relief.grid)[lit],
        hair, np.flatnonzero(label == Region.EARRING), tangent,
    )  # fmt: skip


def _reflect(cells: _Cells, towards: np.ndarray, view: np.ndarray, hair_gloss: np.float32) -> np.ndarray:
    """Linear RGB that each cell sends to the viewer of a white lamp of strength 1 in direction `towards`, float32 (N, 3)."""
    half = towards + view
    half /= np.linalg.norm(half)
    cosine = cells.normal @ towards
    facing = np.maximum(cells.normal @ half, 0)
    facing8 = np.square(np.square(np.square(facing)))
    facing32 = np.square(np.square(facing8))
    sheen = cells.gloss * (np.float32(0.035) * facing8 + np.float32(0.075) * facing32) * (cosine > -0.1)
    # Light that enters skin comes out beside its place: red reaches farthest round into the shade.
    wrap = np.array([0.30, 0.14, 0.10], np.float32)
    result = np.maximum(cosine[:, None] + wrap, 0) / (1 + wrap) * cells.albedo + sheen[:, None]

    metal = cells.metal
    result[metal] += (sheen[metal, None] * (np.minimum(cells.albedo[metal] * 2, 1) - 1)).astype(np.float32)
    hair, tangent = cells.hair, cells.tangent
    own = cells.albedo[hair]
    around = np.sqrt(np.maximum(1 - (tangent @ towards) ** 2, 0))
    diffuse = 0.45 * around * (cosine[hair] > -0.08) + 0.60 * np.maximum(cosine[hair] + 0.08, 0)
    bright = hair_gloss * _hair_sheen(tangent @ half, cells.strand) * np.clip(cosine[hair] + 0.25, 0, 1)
    result[hair] = diffuse[:, None] * own + bright[:, None] * (0.25 + 0.75 * np.minimum(own * 2.2 + 0.06, 1))
    return result


def _hair_sheen(along: np.ndarray, strand: np.ndarray) -> np.ndarray:
    """Two highlights along the strands (Kajiya and Kay), shifted from strand to strand."""
    result = np.zeros_like(along)
    for shift, power, weight in ((0.10, 25, 0.24), (-0.12, 7, 0.12)):
        across = np.maximum(1 - (along + shift + 0.10 * strand) ** 2, 0)
        result += np.float32(weight) * across ** np.float32(power)
    return result * np.clip(0.8 + 0.35 * strand, 0.1, 2)
