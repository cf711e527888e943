"""Hats, earrings and the temples of glasses on the height field; glasses on a plane in front of the eyes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from psfr.portraits.grid import Grid, Noise, smoothstep
from psfr.portraits.head import dome, ear_box, eye_depth
from psfr.portraits.heightfield import EMPTY, HeightField, Label, coverage, srgb_to_linear
from psfr.portraits.person import Person


def add_hat(person: Person, noise: Noise, field: HeightField) -> None:
    """Cover the top of the head with the person's hat, if any."""
    accessories, grid = person.accessories, field.grid
    if accessories.hat == "none":
        return
    x, y = grid.x, grid.y
    margin = 0.10 + 0.5 * person.hair.side
    shell = dome(person.head, grid, margin, accessories.hat_height if accessories.hat != "brim" else 0.15)
    line = accessories.hat_line + 0.18 * x**2
    cover = (shell > EMPTY + 1) & (y < line)
    texture = 1 + 0.05 * noise.smooth("hat cloth", grid, 30.0) + 0.10 * noise.smooth("hat folds", grid, 1.5)
    color = srgb_to_linear(accessories.hat_color) * texture[..., None]
    raised = shell + 0.05 + 0.03 * noise.smooth("hat folds", grid, 1.5)
    if accessories.hat == "beanie":
        knit = np.sin(x * 60)
        raised = raised + 0.012 * knit + 0.05 * smoothstep(y - line, -0.42, -0.36)
        color = color * (1 + 0.12 * knit)[..., None]
    elif accessories.hat == "cap":
        seam = (np.abs(np.mod(x + 0.45, 0.9) - 0.45) < 0.012) * (y < line - 0.2)
        color = color * (1 - 0.3 * seam)[..., None]
        peak = (np.abs(x) < 0.95) & (y < line + 0.05) & (y > line - 0.30 + 0.3 * x**2)
        raised = np.where(peak, 1.55 + 1.4 * (y - line + 0.30), raised)
        cover = cover | peak
    else:
        band = (y > line - 0.32) & (y < line - 0.02)
        color = color * (1 - 0.6 * band)[..., None]
        brim = ((x / 1.95) ** 2 + ((y - line + 0.10) / 0.26) ** 2) < 1
        raised = np.where(brim, 1.35 - 0.25 * x**2 + 0.8 * (y - line), raised)
        cover = cover | brim
    field.height[cover] = np.maximum(field.height, raised.astype(np.float32))[cover]
    field.seg[cover] = Label.HAT
    field.albedo[cover] = np.clip(color, 0.002, 0.95).astype(np.float32)[cover]
    field.gloss[cover] = 0.1
    field.shade[cover] = 1
    field.glow[cover] = 0
    field.flow[cover] = 0


def add_earrings(person: Person, field: HeightField) -> None:
    """Add earrings at the lobes. Hair is added later and covers them."""
    accessories = person.accessories
    if accessories.earrings == "none":
        return
    root, outer, _, bottom = ear_box(person.head)
    lobe_x, size = root + 0.35 * (outer - root), accessories.earring_size
    for side in (-1, 1):
        low, high = sorted((side * (lobe_x - 0.4), side * (lobe_x + 0.4)))
        part = field.window(low, high, bottom - 0.2, bottom + 1.0)
        grid = part.grid
        u, v = grid.x * side - lobe_x, grid.y - bottom + 0.06
        if accessories.earrings == "stud":
            distance = 0.055 * size - np.hypot(u, v)
        elif accessories.earrings == "hoop":
            radius = 0.20 * size
            distance = 0.022 + 0.006 * size - np.abs(np.hypot(u, v - radius) - radius)
        else:
            drop = 0.28 * size
            bead = 0.075 * size - np.hypot(u, (v - drop) * 0.75)
            wire = np.minimum(0.022 - np.abs(u), np.minimum(v, drop - v))
            stone = 0.045 * size - np.hypot(u, v)
            distance = np.maximum(np.maximum(bead, wire), stone)
        mask = (distance > 0) & (part.seg != Label.HAIR) & (part.seg != Label.SKIN)
        part.height[mask] = (0.18 + 0.8 * np.sqrt(np.clip(distance, 0, 0.02)))[mask]
        part.albedo[mask] = srgb_to_linear(accessories.metal)
        part.gloss[mask] = 6.0
        part.seg[mask] = Label.EARRING
        part.shade[mask] = 1


@dataclass(frozen=True)
class Glasses:
    """Glasses on the plane z = `depth` in head coordinates.

    Attributes:
        depth: z of the plane.
        color: linear RGB, float32 (H, W, 3).
        alpha: opacity, float32 (H, W) in [0, 1].
        mask: cells of the label GLASSES, bool (H, W).
        opaque: whether the lenses hide the eyes' labels.
    """

    depth: float
    color: np.ndarray
    alpha: np.ndarray
    mask: np.ndarray
    opaque: bool


def make_glasses(person: Person, grid: Grid) -> Glasses | None:
    """Return the person's glasses on `grid`, or None."""
    accessories = person.accessories
    if accessories.glasses == "none":
        return None
    x, y = np.abs(grid.x), grid.y
    power, frame_width = accessories.lens_round, accessories.frame_width
    half_w, half_h = 0.40 * accessories.lens_size, 0.27 * accessories.lens_size
    r = (np.abs((x - 0.53) / half_w) ** power + np.abs((y - 0.06) / half_h) ** power) ** (1 / power)
    distance = (1 - r) * half_h
    lens = coverage(distance, grid)
    rim = coverage(frame_width - np.abs(distance + frame_width), grid)
    bridge = coverage(
        np.minimum(0.9 * frame_width + 0.008 - np.abs(y + 0.04 - 0.25 * (0.13 - x)), 0.53 - half_w + 0.02 - x), grid
    )
    hinge = coverage(
        np.minimum(frame_width + 0.012 - np.abs(y + 0.08), np.minimum(x - 0.53 - half_w + 0.03, 1.06 - x)), grid
    )
    frame = np.maximum(np.maximum(rim, bridge), hinge)
    stripes = np.sin(2.2 * grid.x + 1.8 * y + 8 * person.hair.split)
    glare = 0.25 * smoothstep(stripes, 0.75, 1.0) * (1 - accessories.lens_opacity)
    tint = lens * np.maximum(accessories.lens_opacity, glare)
    shade = srgb_to_linear(accessories.lens_color) * (1 + 0.8 * smoothstep(y, -0.3, 0.4))[..., None]
    color = shade * (1 - glare[..., None]) + 0.9 * glare[..., None]
    color = color * (1 - frame[..., None]) + srgb_to_linear(accessories.frame_color) * frame[..., None]
    alpha = np.maximum(tint * (1 - frame), frame)
    return Glasses(
        depth=eye_depth(person.head) + 0.27,
        color=color.astype(np.float32),
        alpha=alpha.astype(np.float32),
        mask=np.maximum(lens, frame) > 0.5,
        opaque=accessories.lens_opacity > 0.6,
    )


def add_temples(person: Person, field: HeightField) -> None:
    """Paint the temples (side arms) of the glasses on the sides of the head. Hair is added later and covers them."""
    accessories = person.accessories
    if accessories.glasses == "none":
        return
    for side in (-1, 1):
        low, high = sorted((side * 0.98, side * 1.3))
        part = field.window(low, high, -0.2, 0.1)
        grid = part.grid
        near_temple = np.abs(grid.y + 0.07) < accessories.frame_width + 0.01
        mask = near_temple & (part.seg == Label.SKIN) & (grid.x * side > 0.98)
        part.albedo[mask] = srgb_to_linear(accessories.frame_color)
        part.height[mask] += 0.03
        part.seg[mask] = Label.GLASSES
