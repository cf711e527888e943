"""Hair: the cut on the relief, its strands, and the hair behind the head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from psfr.portraits.fields import Grid, Noise, smoothstep
from psfr.portraits.head import CROWN, dome
from psfr.portraits.person import HairLook, Person
from psfr.portraits.relief import EMPTY, Region, Relief, linear


@dataclass(frozen=True)
class Strands:
    """Hair as seen on a raster: noise of the strands, slope dx/dy of their run, and a coarse clump noise."""

    fine: np.ndarray
    clump: np.ndarray
    flow: np.ndarray


def comb(look: HairLook, noise: Noise, grid: Grid, layer: str) -> Strands:
    """Strands over `grid`: level sets of a stream function that spreads from the parting and then falls."""
    x, y = grid.x, grid.y
    root = CROWN - look.top - 0.25
    below = np.maximum(y - root, 0.02)
    spread = np.sqrt(np.minimum(below / 1.9, 1.0)) * (1 + 0.18 * np.maximum(below - 1.9, 0)) + 0.02
    slope = np.where(below < 1.9, 0.5 / np.sqrt(below * 1.9), 0.18)
    fade = smoothstep(y, 0.2, -1.2)
    wobble = noise.smooth(f"{layer} locks", grid, 1.6, 1.5)
    curl = noise.smooth(f"{layer} curl", grid, 4.5 if look.cut == "curly" else 2.5)
    phase = 2 * np.pi * y / look.wave_length + 2.2 * wobble
    swing = look.wave * smoothstep(y, -1.6, -0.2) if look.cut != "curly" else look.wave
    shift = swing * np.sin(phase) + look.frizz * 0.05 * curl + 0.05 * wobble
    psi = (x - look.part * fade + shift) / spread
    flow = psi * slope - swing * np.cos(phase) * 2 * np.pi / look.wave_length * 0.8
    along = (y - root) * 2.2 + 0.6 * wobble
    fine = 0.6 * noise.strands(f"{layer} fine", psi * 58 + 3.0 * curl * look.frizz, along * 1.6)
    fine += 0.5 * noise.strands(f"{layer} middle", psi * 24, along)
    clump = noise.strands(f"{layer} clump", psi * 8.5 + 100, along * 0.6)
    if look.cut == "curly":
        clump = 0.6 * clump + 0.9 * curl
    return Strands(fine.astype(np.float32), clump.astype(np.float32), flow.astype(np.float32))


def hair_albedo(look: HairLook, strands: Strands, noise: Noise, grid: Grid) -> np.ndarray:
    """Linear RGB of the strands, float32 (..., 3): lighter and darker locks, darker at the roots."""
    tone = 1 + look.contrast * (0.20 * strands.fine + 0.26 * strands.clump)
    tone *= 1 - 0.35 * look.streaks * smoothstep(grid.y, -0.6, -2.2)
    patches = noise.smooth("hair tone", grid, 1.0)
    light = np.clip(0.25 * look.streaks * strands.clump, 0, 0.5)[..., None]
    color = linear(look.color)
    return np.clip(color * np.clip(tone + 0.08 * patches, 0.12, 2.6)[..., None] * (1 + light), 0.001, 0.95).astype(
        np.float32
    )


def _hairline(look: HairLook, grid: Grid) -> np.ndarray:
    """Height y of the hair's lower edge over each x of the frontal plane, (1, width)."""
    x = grid.x
    away = np.abs(x)
    line = look.hairline + 0.10 * away**2 - look.recession * np.exp(-(((away - 0.55) / 0.22) ** 2))
    if look.cut == "receding":
        line = line - 0.45 * look.recession * np.exp(-((away / 0.5) ** 2))
    line = line + (look.sideburn - line) * smoothstep(away, 0.84, 1.12)
    if look.sweep > 0:
        side = -1.0 if look.part > 0 else 1.0
        run = np.clip((x - look.part) * side, 0, None)
        line = np.maximum(
            line,
            np.where(run > 0, np.minimum(look.hairline + look.sweep * 0.75 * run**1.4, look.hairline + 0.85), line),
        )
    if look.fringe < 0:
        line = np.maximum(line, look.fringe + 0.22 * away**2 + 0.08 * look.split * np.cos(5 * x))
    return line


def _outline(person: Person, grid: Grid, noise: Noise, layer: str) -> np.ndarray:
    """Signed distance (positive inside, roughly eye distances) to the silhouette of the whole cut."""
    look, x, y = person.hair, grid.x, grid.y
    crown = CROWN - look.top - 0.02
    volume = 0.8 * look.side + (0.35 + 0.4 * look.split) * look.side * smoothstep(y, -0.6, 1.4)
    rough = noise.smooth(f"{layer} outline", grid, 1.8, 1.5)
    wide = (
        1.23 * person.head.width
        + volume
        + 0.10 * look.side * rough
        + 0.6 * look.wave * np.sin(2 * np.pi * y / look.wave_length + np.sign(x) * 1.3 + rough)
    )
    rest = 1 - (np.abs(x) / wide) ** 2.2 - np.clip((-0.75 - y) / (-0.75 - crown), 0, None) ** 2.4
    return 0.5 * rest


def _curtains(look: HairLook, grid: Grid, noise: Noise) -> np.ndarray:
    """Signed distance (positive inside) to the hair that hangs beside the face, in front of ears and shoulders."""
    y, u = grid.y, np.abs(grid.x)
    cover = np.where(grid.x < 0, look.cover[0], look.cover[1]).astype(np.float32)
    face = PchipInterpolator(
        [-2.7, -1.7, -1.0, -0.5, 0.1, 0.8, 1.4, 2.7], [0.2, 0.25, 0.72, 0.95, 1.03, 0.98, 0.90, 0.95]
    )(y).astype(np.float32)
    bend = noise.smooth("curtain", grid, 0.9, 1.4)
    inner = face + 0.16 - 0.30 * cover + 0.05 * bend + 0.5 * look.wave * np.sin(2 * np.pi * y / look.wave_length + bend)
    inner = inner - 0.25 * cover * smoothstep(y, 0.7, 1.9)
    return np.minimum(u - inner, look.length - y + 0.08 * bend).astype(np.float32)


def grow_hair(person: Person, noise: Noise, relief: Relief) -> None:
    """Raise the hair in front of and upon the head of `relief`, with label HAIR, strand noise and flow."""
    look, grid = person.hair, relief.grid
    if look.cut == "bald":
        return
    strands = comb(look, noise, grid, "front")
    ragged = {"buzz": 0.25, "receding": 0.4, "short": 0.6, "updo": 0.35}.get(look.cut, 0.8)
    jag = ragged * ((0.02 + 0.035 * look.wisps) * strands.fine + 0.05 * strands.clump)
    shell = dome(person.head, grid, look.side + 0.02, look.top + 0.02)
    inside = _hairline(look, grid) - grid.y + jag * (1 + 0.7 * (look.fringe < 0))
    if look.length > 0:
        hanging = _curtains(look, grid, noise) + 0.6 * jag
        # A smooth union: no seam where hanging hair leaves the crown.
        blend = 0.16
        mixed = np.clip(0.5 + 0.5 * (hanging - inside) / blend, 0, 1)
        inside = inside * (1 - mixed) + hanging * mixed + blend * mixed * (1 - mixed)
    silhouette = _outline(person, grid, noise, "front") + 0.5 * jag
    growth = inside
    inside = np.minimum(inside, silhouette)
    # Combed back, hair lifts slowly from the hairline; a fringe ends in an edge.
    rise = smoothstep(inside, -0.02, 0.25 if look.fringe < 0 else 0.30 + 0.35 * look.top)
    far = np.maximum(shell, -0.1) - 0.25
    base = np.where(relief.height > EMPTY + 1, relief.height + np.maximum(far - relief.height, 0) * rise, far)
    top = base + (np.clip(shell - base, 0.02, 0.6) + 0.012 + 0.03 * look.top) * rise + 0.002
    if look.cut != "buzz":
        top += (0.025 * strands.clump + 0.010 * strands.fine) * (0.15 + 0.85 * rise)
    _lay(relief, inside > 0, growth, top, strands, look, noise)


def _lay(
    relief: Relief,
    where: np.ndarray,
    growth: np.ndarray,
    height: np.ndarray,
    strands: Strands,
    look: HairLook,
    noise: Noise,
) -> None:
    relief.label[where] = Region.HAIR
    relief.flow[where] = strands.flow[where]
    relief.strand[where] = (strands.fine + 0.6 * strands.clump)[where]
    # At the hairline, hair grows thinner and lets the skin through; so it does all over when cropped.
    depth, least = (0.12, 0.30) if look.fringe == 0 else (0.03, 0.6)
    alpha = least + (1 - least) * smoothstep(growth + 0.03 * strands.fine, 0.0, depth)
    if look.cut == "buzz":
        alpha = 0.8 * alpha
    on_skin = relief.height > EMPTY + 1
    relief.height[where] = np.maximum(relief.height, height)[where]
    albedo = hair_albedo(look, strands, noise, relief.grid)[where]
    alpha = np.where(on_skin, alpha, 1.0)[where][..., None].astype(np.float32)
    relief.albedo[where] = relief.albedo[where] * (1 - alpha) + alpha * albedo
    relief.gloss[where] = 0
    relief.glow[where] = 0
    relief.shade[where] = 1


def back_hair(person: Person, noise: Noise, grid: Grid) -> tuple[np.ndarray, Strands]:
    """Hair behind the head on a plane parallel to the face: mask (bool) and strands, both of `grid`'s shape."""
    look = person.hair
    strands = comb(look, noise, grid, "back")
    if look.cut == "bald":
        return np.zeros(grid.shape, bool), strands
    x, y = grid.x, grid.y
    jag = (0.02 + 0.03 * look.wisps + 0.05 * look.frizz) * strands.fine + 0.02 * strands.clump
    end = look.length + 0.1 if look.length > 0 else 0.6 + 0.4 * look.side
    inside = np.minimum(
        _outline(person, grid, noise, "back") + 0.6 * jag, end - y + 0.15 * strands.clump + 0.1 * strands.fine
    )
    if look.cut == "updo":
        bun = 0.50 - np.hypot(x - 0.6 * look.part, (y + 2.25) / 0.8) * (0.9 + 0.3 * look.split)
        inside = np.maximum(inside, bun + 0.4 * jag)
    return inside > 0, strands
