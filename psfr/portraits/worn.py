"""What is worn on the head: hats and ear rings on the relief, glasses on a plane before the eyes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from psfr.portraits.fields import Grid, Noise, smoothstep
from psfr.portraits.head import dome, ear_box, eye_depth
from psfr.portraits.person import Person
from psfr.portraits.relief import EMPTY, Region, Relief, edge, linear


def put_on_hat(person: Person, noise: Noise, relief: Relief) -> None:
    """Cover the top of `relief` with the person's hat, if there is one."""
    worn, grid = person.worn, relief.grid
    if worn.hat == "none":
        return
    x, y = grid.x, grid.y
    grow = 0.10 + 0.5 * person.hair.side
    shell = dome(person.head, grid, grow, worn.hat_height if worn.hat != "brim" else 0.15)
    line = worn.hat_line + 0.18 * x**2
    cover = (shell > EMPTY + 1) & (y < line)
    color = (
        linear(worn.hat_color)
        * (1 + 0.05 * noise.smooth("hat cloth", grid, 30.0) + 0.10 * noise.smooth("hat folds", grid, 1.5))[..., None]
    )
    raised = shell + 0.05 + 0.03 * noise.smooth("hat folds", grid, 1.5)
    if worn.hat == "beanie":
        knit = np.sin(x * 60)
        raised = raised + 0.012 * knit + 0.05 * smoothstep(y - line, -0.42, -0.36)
        color = color * (1 + 0.12 * knit)[..., None]
    elif worn.hat == "cap":
        color = color * (1 - 0.3 * (np.abs(np.mod(x + 0.45, 0.9) - 0.45) < 0.012) * (y < line - 0.2))[..., None]
        peak = (np.abs(x) < 0.95) & (y < line + 0.05) & (y > line - 0.30 + 0.3 * x**2)
        raised = np.where(peak, 1.55 + 1.4 * (y - line + 0.30), raised)
        cover = cover | (peak & (np.abs(x) < 0.95))
    else:
        band = (y > line - 0.32) & (y < line - 0.02)
        color = color * (1 - 0.6 * band)[..., None]
        brim = ((x / 1.95) ** 2 + ((y - line + 0.10) / 0.26) ** 2) < 1
        raised = np.where(brim, 1.35 - 0.25 * x**2 + 0.8 * (y - line), raised)
        cover = cover | brim
    relief.height[cover] = np.maximum(relief.height, raised.astype(np.float32))[cover]
    relief.label[cover] = Region.HAT
    relief.albedo[cover] = np.clip(color, 0.002, 0.95).astype(np.float32)[cover]
    relief.gloss[cover] = 0.1
    relief.shade[cover] = 1
    relief.glow[cover] = 0
    relief.flow[cover] = 0


def hang_earrings(person: Person, relief: Relief) -> None:
    """Hang ear rings from the lobes of `relief`, behind hair that lies in front of them."""
    worn = person.worn
    if worn.earrings == "none":
        return
    root, outer, _, bottom = ear_box(person.head)
    lobe_x, size = root + 0.35 * (outer - root), worn.earring_size
    for side in (-1, 1):
        part = relief.window(*sorted((side * (lobe_x - 0.4), side * (lobe_x + 0.4))), bottom - 0.2, bottom + 1.0)
        grid = part.grid
        u, v = grid.x * side - lobe_x, grid.y - bottom + 0.06
        if worn.earrings == "stud":
            inside = 0.055 * size - np.hypot(u, v)
            round_height = inside
        elif worn.earrings == "hoop":
            radius = 0.20 * size
            inside = 0.022 + 0.006 * size - np.abs(np.hypot(u, v - radius) - radius)
            round_height = inside
        else:
            drop = 0.28 * size
            bead = 0.075 * size - np.hypot(u, (v - drop) * 0.75)
            wire = np.minimum(0.022 - np.abs(u), np.minimum(v, drop - v))
            stone = 0.045 * size - np.hypot(u, v)
            inside = np.maximum(np.maximum(bead, wire), stone)
            round_height = inside
        on = (inside > 0) & (part.label != Region.HAIR) & (part.label != Region.SKIN)
        part.height[on] = (0.18 + 0.8 * np.sqrt(np.clip(round_height, 0, 0.02)))[on]
        part.albedo[on] = linear(worn.metal)
        part.gloss[on] = 6.0
        part.label[on] = Region.EARRING
        part.shade[on] = 1


@dataclass(frozen=True)
class Glasses:
    """Glasses on the plane z = `depth`: linear RGB with coverage, and the area their label fills."""

    depth: float
    color: np.ndarray
    alpha: np.ndarray
    area: np.ndarray
    opaque: bool


def make_glasses(person: Person, grid: Grid) -> Glasses | None:
    """The person's glasses on `grid`, or None."""
    worn = person.worn
    if worn.glasses == "none":
        return None
    x, y = np.abs(grid.x), grid.y
    power = worn.lens_round
    half_w, half_h = 0.40 * worn.lens_size, 0.27 * worn.lens_size
    r = (np.abs((x - 0.53) / half_w) ** power + np.abs((y - 0.06) / half_h) ** power) ** (1 / power)
    distance = (1 - r) * half_h
    lens = edge(distance, grid)
    rim = edge(worn.frame_width - np.abs(distance + worn.frame_width), grid)
    bridge = edge(
        np.minimum(0.9 * worn.frame_width + 0.008 - np.abs(y + 0.04 - 0.25 * (0.13 - x)), 0.53 - half_w + 0.02 - x),
        grid,
    )
    hinge = edge(
        np.minimum(worn.frame_width + 0.012 - np.abs(y + 0.08), np.minimum(x - 0.53 - half_w + 0.03, 1.06 - x)), grid
    )
    frame = np.maximum(np.maximum(rim, bridge), hinge)
    glare = (
        0.25 * smoothstep(np.sin(2.2 * grid.x + 1.8 * y + 8 * person.hair.split), 0.75, 1.0) * (1 - worn.lens_opacity)
    )
    tint = lens * np.maximum(worn.lens_opacity, glare)
    shade = linear(worn.lens_color) * (1 + 0.8 * smoothstep(y, -0.3, 0.4))[..., None]
    color = shade * (1 - glare[..., None]) + 0.9 * glare[..., None]
    color = color * (1 - frame[..., None]) + linear(worn.frame_color) * frame[..., None]
    alpha = np.maximum(tint * (1 - frame), frame)
    return Glasses(
        eye_depth(person.head) + 0.27, color.astype(np.float32), alpha.astype(np.float32),
        (np.maximum(lens, frame) > 0.5), worn.lens_opacity > 0.6,
    )  # fmt: skip


def put_on_temples(person: Person, relief: Relief) -> None:
    """Draw the arms of the glasses on the sides of the head of `relief`, under the hair."""
    worn = person.worn
    if worn.glasses == "none":
        return
    for side in (-1, 1):
        part = relief.window(*sorted((side * 0.98, side * 1.3)), -0.2, 0.1)
        grid = part.grid
        on = (np.abs(grid.y + 0.07) < worn.frame_width + 0.01) & (part.label == Region.SKIN) & (grid.x * side > 0.98)
        part.albedo[on] = linear(worn.frame_color)
        part.height[on] += 0.03
        part.label[on] = Region.GLASSES
