"""Shading of the height field: normals, cast shadows, ambient occlusion, reflection of skin, hair and metal."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from psfr.portraits.grid import Grid
from psfr.portraits.heightfield import EMPTY, HeightField, Label
from psfr.portraits.person import Light


def normals(height: np.ndarray, grid: Grid) -> np.ndarray:
    """Return the unit normals of `height` (H, W) in head coordinates, float32 (H, W, 3)."""
    gx = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=1 / (8 * grid.step[0]), borderType=cv2.BORDER_REPLICATE)
    gy = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=1 / (8 * grid.step[1]), borderType=cv2.BORDER_REPLICATE)
    length = np.sqrt(gx * gx + gy * gy + 1)
    return np.stack([-gx / length, -gy / length, 1 / length], axis=-1)


def cast_shadow(height: np.ndarray, grid: Grid, direction: np.ndarray, hardness: float) -> np.ndarray:
    """Return the fraction of a lamp's light that reaches each cell, float32 (H, W) in [0, 1].

    `direction` points to the lamp in head coordinates. Half resolution suffices: penumbras are wider than that.
    """
    lx, ly, lz = (float(v) for v in direction / np.linalg.norm(direction))
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


def ambient_occlusion(height: np.ndarray, grid: Grid) -> np.ndarray:
    """Return the fraction of ambient light that reaches each cell, float32 (H, W) in (0, 1]; lower in hollows."""
    hollow = np.zeros_like(height)
    for sigma, weight in ((0.04, 5.0), (0.13, 2.4), (0.40, 1.0)):
        hollow += weight * np.maximum(grid.blur(height, sigma) - height, 0)
    return np.exp(-np.minimum(hollow, 3.0))


@dataclass
class _Cells:
    """Materials and normals of the N lit cells; `strand` and `tangent` are of the hair cells only.

    `hair` and `metal` are the indices of the hair and metal cells among the N.
    """

    normal: np.ndarray
    albedo: np.ndarray
    gloss: np.ndarray
    strand: np.ndarray
    ambient_occlusion: np.ndarray
    hair: np.ndarray
    metal: np.ndarray
    tangent: np.ndarray


def shade(field: HeightField, light: Light, rotation: np.ndarray, hair_gloss: float) -> np.ndarray:
    """Return the linear RGB of the lit height field, float32 (H, W, 3); black if there is no surface nearby.

    Args:
        field: the head with its hair and accessories.
        light: lamps in camera coordinates.
        rotation: head-to-camera rotation, (3, 3).
        hair_gloss: strength of the highlights of hair.
    """
    grid = field.grid
    to_head = rotation.T.astype(np.float32)
    view = to_head @ np.array([0, 0, 1], np.float32)
    up = to_head @ np.array([0, -1, 0], np.float32)
    surface = np.maximum(field.height, -0.5)
    # One more cell at the edge is lit, because the image interpolates there.
    lit = cv2.dilate((field.height > EMPTY + 1).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    cells = _gather(field, surface, lit)

    ambient = light.ambient * cells.ambient_occlusion * (0.75 + 0.25 * (cells.normal @ up))
    lamp_sum = np.array(light.key_color, np.float32) + np.array(light.fill_color, np.float32)
    total = ambient[:, None] * lamp_sum / 2 * cells.albedo
    lamps = [(light.key, light.key_color, light.key_strength), (light.fill, light.fill_color, light.fill_strength)]
    if light.rim_strength > 0:
        lamps.append(((-light.key[0] * 1.3, -0.3, -0.35), light.fill_color, light.rim_strength))
    for index, (camera_direction, color, strength) in enumerate(lamps):
        direction = to_head @ np.array(camera_direction, np.float32)
        direction /= np.linalg.norm(direction)
        # Only the key light casts shadows.
        if index == 0:
            reach = cast_shadow(surface, grid, direction, light.hardness)[lit]
        else:
            reach = 0.35 + 0.65 * cells.ambient_occlusion
        lamp = np.float32(strength) * np.array(color, np.float32)
        # Subsurface scattering: the edge of a shadow is softer in red than in blue.
        softened = reach[:, None] + (reach * (1 - reach))[:, None] * np.array([0.30, 0.0, -0.06], np.float32)
        total += lamp * softened * _reflect(cells, direction, view, np.float32(hair_gloss))
    total *= (field.shade[lit] * (0.55 + 0.45 * cells.ambient_occlusion))[:, None]
    image = np.zeros((*grid.shape, 3), np.float32)
    image[lit] = total + field.glow[lit][:, None]
    return image


def _gather(field: HeightField, surface: np.ndarray, lit: np.ndarray) -> _Cells:
    normal = normals(surface, field.grid)[lit]
    seg = field.seg[lit]
    hair = np.flatnonzero(seg == Label.HAIR)
    run = field.flow[lit][hair]
    rise = -(normal[hair, 0] * run + normal[hair, 1]) / np.maximum(normal[hair, 2], 0.15)
    tangent = np.stack([run, np.ones_like(run), np.clip(rise, -3, 3)], axis=-1)
    tangent /= np.sqrt((tangent**2).sum(axis=-1, keepdims=True))
    return _Cells(
        normal=normal,
        albedo=field.albedo[lit],
        gloss=field.gloss[lit],
        strand=field.strand[lit][hair],
        ambient_occlusion=ambient_occlusion(surface, field.grid)[lit],
        hair=hair,
        metal=np.flatnonzero(seg == Label.EARRING),
        tangent=tangent,
    )


def _reflect(cells: _Cells, direction: np.ndarray, view: np.ndarray, hair_gloss: np.float32) -> np.ndarray:
    """Return the linear RGB that cells reflect toward `view` from a white lamp of strength 1, float32 (N, 3)."""
    half = direction + view
    half /= np.linalg.norm(half)
    cosine = cells.normal @ direction
    facing = np.maximum(cells.normal @ half, 0)
    facing8 = np.square(np.square(np.square(facing)))
    facing32 = np.square(np.square(facing8))
    sheen = cells.gloss * (np.float32(0.035) * facing8 + np.float32(0.075) * facing32) * (cosine > -0.1)
    # Wrapped diffuse light approximates subsurface scattering, which is strongest in red.
    wrap = np.array([0.30, 0.14, 0.10], np.float32)
    result = np.maximum(cosine[:, None] + wrap, 0) / (1 + wrap) * cells.albedo + sheen[:, None]

    metal = cells.metal
    result[metal] += (sheen[metal, None] * (np.minimum(cells.albedo[metal] * 2, 1) - 1)).astype(np.float32)
    hair, tangent = cells.hair, cells.tangent
    albedo = cells.albedo[hair]
    sine = np.sqrt(np.maximum(1 - (tangent @ direction) ** 2, 0))
    diffuse = 0.45 * sine * (cosine[hair] > -0.08) + 0.60 * np.maximum(cosine[hair] + 0.08, 0)
    bright = hair_gloss * _hair_sheen(tangent @ half, cells.strand) * np.clip(cosine[hair] + 0.25, 0, 1)
    result[hair] = diffuse[:, None] * albedo + bright[:, None] * (0.25 + 0.75 * np.minimum(albedo * 2.2 + 0.06, 1))
    return result


def _hair_sheen(along: np.ndarray, strand: np.ndarray) -> np.ndarray:
    """Return two highlights along the strands (Kajiya and Kay, 1989), shifted from strand to strand."""
    result = np.zeros_like(along)
    for shift, power, weight in ((0.10, 25, 0.24), (-0.12, 7, 0.12)):
        across = np.maximum(1 - (along + shift + 0.10 * strand) ** 2, 0)
        result += np.float32(weight) * across ** np.float32(power)
    return result * np.clip(0.8 + 0.35 * strand, 0.1, 2)
