"""Skin color, redness, blotches, freckles, wrinkles and beard, painted on the bare head."""

from __future__ import annotations

import numpy as np

from psfr.portraits.grid import Grid, Noise, smoothstep
from psfr.portraits.heightfield import HeightField, srgb_to_linear
from psfr.portraits.person import Person


def paint_skin(person: Person, noise: Noise, field: HeightField) -> None:
    """Paint the person's skin on the whole of `field`: albedo, gloss, and the height of pores and wrinkles."""
    skin, grid = person.skin, field.grid
    tone = srgb_to_linear(skin.tone)
    field.albedo[:] = tone
    red = _redness(person, grid) + 0.35 * skin.blotches * noise.smooth("blotches", grid, 3.0) * 0.5
    red += 0.25 * skin.blotches * noise.smooth("small blotches", grid, 9.0) * 0.5
    # Blood absorbs green and blue.
    absorption = np.array([0.06, 0.30, 0.28], np.float32)
    field.albedo *= np.clip(1 - red[..., None] * absorption, 0.4, 1.3)
    mottle = 1 + 0.04 * skin.blotches * noise.smooth("mottle", grid, 18.0) + 0.05 * noise.smooth("tone", grid, 1.2)
    if skin.pores > 0:
        pores = noise.smooth("pores", grid, 34.0)
        mottle += 0.03 * skin.pores * pores
        field.height += 0.0016 * skin.pores * pores
    if skin.freckles > 0:
        spots = noise.smooth("freckles", grid, 22.0)
        weight = grid.bump(0, 0.3, 0.75, 0.45)
        mottle -= 0.35 * skin.freckles * weight * smoothstep(spots, 1.0, 2.2)
    field.albedo *= np.clip(mottle, 0.3, 1.6)[..., None]
    field.gloss[:] = 0.35 + 0.65 * skin.oil * (0.4 + grid.bump(0, -0.7, 0.5, 0.4) + grid.bump(0, 0.4, 0.16, 0.3))
    _add_wrinkles(person, noise, field)
    if skin.beard > 0:
        _paint_beard(person, noise, field)


def _redness(person: Person, grid: Grid) -> np.ndarray:
    skin = person.skin
    red = np.zeros(grid.shape, np.float32)
    (rows, columns), face = grid.window(-1.6, 1.6, -0.6, 1.6)
    out = red[rows, columns]
    for side in (-1, 1):
        out += (0.5 * skin.redness + 0.9 * skin.blush) * face.bump(0.66 * side, 0.48, 0.24, 0.2)
        out += 0.6 * skin.redness * face.bump(1.2 * side, 0.3, 0.2, 0.4)
        out += 0.35 * face.bump(0.47 * side, 0.02, 0.24, 0.13)
    out += 0.55 * skin.redness * face.bump(0, 0.58, 0.2, 0.16)
    out += 0.25 * skin.redness * face.bump(0, 1.5, 0.25, 0.15)
    return red


def _add_wrinkles(person: Person, noise: Noise, field: HeightField) -> None:
    depth = person.skin.wrinkles
    if depth <= 0.05:
        return
    forehead = field.window(-0.9, 0.9, -1.15, -0.38)
    grid = forehead.grid
    rng = noise.rng("wrinkles")
    phase, bend = rng.uniform(0, 6.28), rng.normal(0, 0.03, 3)
    bow = grid.y + 0.10 * grid.x**2 + bend[0] * np.sin(5 * grid.x + phase) + bend[1] * np.sin(9 * grid.x)
    lines = np.maximum(np.sin(bow * rng.uniform(34, 46) + phase), 0) ** 4
    weight = grid.bump(0, -0.75, 0.45, 0.17) * (0.6 + 0.4 * np.sin(7 * grid.x + 3 * phase))
    forehead.height -= (0.014 * depth * lines * weight).astype(np.float32)
    forehead.shade *= (1 - 0.22 * depth * lines * weight).astype(np.float32)
    for side in (-1, 1):
        low, high = sorted((0.66 * side, 1.0 * side))
        crow = field.window(low, high, -0.22, 0.3)
        u, v = crow.grid.x * side - 0.66, crow.grid.y - 0.02
        rays = np.maximum(np.sin(np.arctan2(v, u + 0.12) * 13 + phase), 0) ** 3
        weight = np.exp(-(((u - 0.15) / 0.07) ** 2) - (v / 0.13) ** 2)
        crow.height -= (0.012 * depth * rays * weight).astype(np.float32)
        crow.shade *= (1 - 0.18 * depth * rays * weight).astype(np.float32)


def _paint_beard(person: Person, noise: Noise, field: HeightField) -> None:
    beard = field.window(-1.25, 1.25, 0.3, 2.0)
    grid, skin, mouth = beard.grid, person.skin, person.mouth
    x, y = np.abs(grid.x), grid.y
    cells, _ = field.grid.window(-1.25, 1.25, 0.3, 2.0)
    ragged = 0.28 * noise.smooth("beard edge", field.grid, 5.0)[cells]
    upper = smoothstep(y - (0.80 + 0.09 * ragged), 0.0, 0.10)
    beside_mouth = smoothstep(x, mouth.half_width + 0.16, mouth.half_width + 0.04)
    mustache = upper * beside_mouth * smoothstep(y, mouth.y + 0.08, mouth.y - 0.02)
    chin = smoothstep(y - (mouth.y + mouth.lower + mouth.gap + 0.02), 0.0, 0.08)
    mouth_sides = smoothstep(np.abs(x - mouth.half_width - 0.06), 0.09, 0.04) * smoothstep(y, mouth.y - 0.15, mouth.y)
    goatee = np.maximum(chin * smoothstep(x, 0.42, 0.30), mouth_sides + 0 * x)
    cheek_line = np.interp(x, [0.0, 0.4, 0.75, 1.0, 1.3], [1.3, 1.12, 0.9, 0.4, 0.2]).astype(np.float32)
    jaw = smoothstep(y - cheek_line - 0.25 * ragged, -0.08, 0.14)
    densities = {
        "stubble": np.maximum(np.maximum(jaw, chin), mustache) * 0.55,
        "full": np.maximum(np.maximum(jaw, chin * (x < 0.6)), mustache),
        "goatee": np.maximum(goatee, mustache),
        "mustache": mustache,
    }
    density = densities[skin.beard_kind] * skin.beard
    strands = noise.strands("beard", (grid.x * 95 + 6 * ragged) % 512 + 0 * y, y * 14 + 0 * grid.x + 3 * ragged)
    alpha = np.clip(density * (0.72 + 0.30 * strands), 0, 0.96).astype(np.float32)
    beard.tint(srgb_to_linear(person.hair.beard_color) * 0.8, alpha)
    beard.height += 0.02 * alpha + 0.006 * strands * density
    beard.gloss *= 1 - 0.7 * alpha
