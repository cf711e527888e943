"""Hair: strands, the hair on the height field, and the layer behind the head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from psfr.portraits.grid import Grid, Noise, smoothstep
from psfr.portraits.head import CROWN, dome
from psfr.portraits.heightfield import EMPTY, HeightField, Label, srgb_to_linear
from psfr.portraits.person import HairParams, Person


@dataclass(frozen=True)
class Strands:
    """Strand noise, coarser clump noise, and slope dx/dy of the strands; float32 (H, W) each."""

    fine: np.ndarray
    clump: np.ndarray
    flow: np.ndarray


def strand_field(hair: HairParams, noise: Noise, grid: Grid, layer: str) -> Strands:
    """Return the strands on `grid`, level sets of a stream function that spreads from the parting and then falls.

    `layer` ("front" or "back") seeds the noise.
    """
    x, y = grid.x, grid.y
    root = CROWN - hair.top - 0.25
    below = np.maximum(y - root, 0.02)
    spread = np.sqrt(np.minimum(below / 1.9, 1.0)) * (1 + 0.18 * np.maximum(below - 1.9, 0)) + 0.02
    slope = np.where(below < 1.9, 0.5 / np.sqrt(below * 1.9), 0.18)
    fade = smoothstep(y, 0.2, -1.2)
    wobble = noise.smooth(f"{layer} locks", grid, 1.6, 1.5)
    curl = noise.smooth(f"{layer} curl", grid, 4.5 if hair.cut == "curly" else 2.5)
    phase = 2 * np.pi * y / hair.wave_length + 2.2 * wobble
    swing = hair.wave * smoothstep(y, -1.6, -0.2) if hair.cut != "curly" else hair.wave
    shift = swing * np.sin(phase) + hair.frizz * 0.05 * curl + 0.05 * wobble
    psi = (x - hair.parting * fade + shift) / spread
    flow = psi * slope - swing * np.cos(phase) * 2 * np.pi / hair.wave_length * 0.8
    along = (y - root) * 2.2 + 0.6 * wobble
    fine = 0.6 * noise.strands(f"{layer} fine", psi * 58 + 3.0 * curl * hair.frizz, along * 1.6)
    fine += 0.5 * noise.strands(f"{layer} middle", psi * 24, along)
    clump = noise.strands(f"{layer} clump", psi * 8.5 + 100, along * 0.6)
    if hair.cut == "curly":
        clump = 0.6 * clump + 0.9 * curl
    return Strands(fine.astype(np.float32), clump.astype(np.float32), flow.astype(np.float32))


def hair_albedo(hair: HairParams, strands: Strands, noise: Noise, grid: Grid) -> np.ndarray:
    """Return the linear RGB of the strands, float32 (H, W, 3): lighter and darker locks, darker roots."""
    tone = 1 + hair.contrast * (0.20 * strands.fine + 0.26 * strands.clump)
    tone *= 1 - 0.35 * hair.streaks * smoothstep(grid.y, -0.6, -2.2)
    patches = noise.smooth("hair tone", grid, 1.0)
    light = np.clip(0.25 * hair.streaks * strands.clump, 0, 0.5)[..., None]
    color = srgb_to_linear(hair.color)
    albedo = color * np.clip(tone + 0.08 * patches, 0.12, 2.6)[..., None] * (1 + light)
    return np.clip(albedo, 0.001, 0.95).astype(np.float32)


def _hairline(hair: HairParams, grid: Grid) -> np.ndarray:
    """Return y of the lower edge of the hair for each x, float32 (1, W)."""
    x = grid.x
    abs_x = np.abs(x)
    line = hair.hairline + 0.10 * abs_x**2 - hair.recession * np.exp(-(((abs_x - 0.55) / 0.22) ** 2))
    if hair.cut == "receding":
        line = line - 0.45 * hair.recession * np.exp(-((abs_x / 0.5) ** 2))
    line = line + (hair.sideburn - line) * smoothstep(abs_x, 0.84, 1.12)
    if hair.sweep > 0:
        side = -1.0 if hair.parting > 0 else 1.0
        run = np.clip((x - hair.parting) * side, 0, None)
        swept = np.minimum(hair.hairline + hair.sweep * 0.75 * run**1.4, hair.hairline + 0.85)
        line = np.maximum(line, np.where(run > 0, swept, line))
    if hair.fringe < 0:
        line = np.maximum(line, hair.fringe + 0.22 * abs_x**2 + 0.08 * hair.split * np.cos(5 * x))
    return line


def _outline(person: Person, grid: Grid, noise: Noise, layer: str) -> np.ndarray:
    """Return the approximate signed distance (positive inside) to the silhouette of the hair, (H, W)."""
    hair, x, y = person.hair, grid.x, grid.y
    crown = CROWN - hair.top - 0.02
    volume = 0.8 * hair.side + (0.35 + 0.4 * hair.split) * hair.side * smoothstep(y, -0.6, 1.4)
    rough = noise.smooth(f"{layer} outline", grid, 1.8, 1.5)
    ripple = np.sin(2 * np.pi * y / hair.wave_length + np.sign(x) * 1.3 + rough)
    half_width = 1.23 * person.head.width + volume + 0.10 * hair.side * rough + 0.6 * hair.wave * ripple
    rest = 1 - (np.abs(x) / half_width) ** 2.2 - np.clip((-0.75 - y) / (-0.75 - crown), 0, None) ** 2.4
    return 0.5 * rest


def _curtains(hair: HairParams, grid: Grid, noise: Noise) -> np.ndarray:
    """Return the signed distance (positive inside) to the hair beside the face, in front of ears and shoulders."""
    y, u = grid.y, np.abs(grid.x)
    cover = np.where(grid.x < 0, hair.cover[0], hair.cover[1]).astype(np.float32)
    face_edge = PchipInterpolator(
        [-2.7, -1.7, -1.0, -0.5, 0.1, 0.8, 1.4, 2.7], [0.2, 0.25, 0.72, 0.95, 1.03, 0.98, 0.90, 0.95]
    )
    face = face_edge(y).astype(np.float32)
    bend = noise.smooth("curtain", grid, 0.9, 1.4)
    inner = face + 0.16 - 0.30 * cover + 0.05 * bend + 0.5 * hair.wave * np.sin(2 * np.pi * y / hair.wave_length + bend)
    inner = inner - 0.25 * cover * smoothstep(y, 0.7, 1.9)
    return np.minimum(u - inner, hair.length - y + 0.08 * bend).astype(np.float32)


def add_hair(person: Person, noise: Noise, field: HeightField) -> None:
    """Add the hair on and in front of the head to `field`: height, label HAIR, albedo, strand noise and flow."""
    hair, grid = person.hair, field.grid
    if hair.cut == "bald":
        return
    strands = strand_field(hair, noise, grid, "front")
    ragged = {"buzz": 0.25, "receding": 0.4, "short": 0.6, "updo": 0.35}.get(hair.cut, 0.8)
    jitter = ragged * ((0.02 + 0.035 * hair.wisps) * strands.fine + 0.05 * strands.clump)
    shell = dome(person.head, grid, hair.side + 0.02, hair.top + 0.02)
    inside = _hairline(hair, grid) - grid.y + jitter * (1 + 0.7 * (hair.fringe < 0))
    if hair.length > 0:
        hanging = _curtains(hair, grid, noise) + 0.6 * jitter
        # Smooth union, which leaves no seam between hanging hair and crown.
        blend = 0.16
        weight = np.clip(0.5 + 0.5 * (hanging - inside) / blend, 0, 1)
        inside = inside * (1 - weight) + hanging * weight + blend * weight * (1 - weight)
    silhouette = _outline(person, grid, noise, "front") + 0.5 * jitter
    growth = inside
    inside = np.minimum(inside, silhouette)
    # Hair that is combed back rises slowly from the hairline; a fringe has an edge.
    rise = smoothstep(inside, -0.02, 0.25 if hair.fringe < 0 else 0.30 + 0.35 * hair.top)
    far = np.maximum(shell, -0.1) - 0.25
    base = np.where(field.height > EMPTY + 1, field.height + np.maximum(far - field.height, 0) * rise, far)
    top = base + (np.clip(shell - base, 0.02, 0.6) + 0.012 + 0.03 * hair.top) * rise + 0.002
    if hair.cut != "buzz":
        top += (0.025 * strands.clump + 0.010 * strands.fine) * (0.15 + 0.85 * rise)
    _blend_hair(field, inside > 0, growth, top, strands, hair, noise)


def _blend_hair(
    field: HeightField,
    mask: np.ndarray,
    growth: np.ndarray,
    height: np.ndarray,
    strands: Strands,
    hair: HairParams,
    noise: Noise,
) -> None:
    field.seg[mask] = Label.HAIR
    field.flow[mask] = strands.flow[mask]
    field.strand[mask] = (strands.fine + 0.6 * strands.clump)[mask]
    # Hair is thinner at the hairline, and everywhere if it is cropped: the skin shows through.
    depth, min_alpha = (0.12, 0.30) if hair.fringe == 0 else (0.03, 0.6)
    alpha = min_alpha + (1 - min_alpha) * smoothstep(growth + 0.03 * strands.fine, 0.0, depth)
    if hair.cut == "buzz":
        alpha = 0.8 * alpha
    on_skin = field.height > EMPTY + 1
    field.height[mask] = np.maximum(field.height, height)[mask]
    albedo = hair_albedo(hair, strands, noise, field.grid)[mask]
    alpha = np.where(on_skin, alpha, 1.0)[mask][..., None].astype(np.float32)
    field.albedo[mask] = field.albedo[mask] * (1 - alpha) + alpha * albedo
    field.gloss[mask] = 0
    field.glow[mask] = 0
    field.shade[mask] = 1


def back_hair(person: Person, noise: Noise, grid: Grid) -> tuple[np.ndarray, Strands]:
    """Return mask (bool, the shape of `grid`) and strands of the hair on a plane behind the head."""
    hair = person.hair
    strands = strand_field(hair, noise, grid, "back")
    if hair.cut == "bald":
        return np.zeros(grid.shape, bool), strands
    x, y = grid.x, grid.y
    jitter = (0.02 + 0.03 * hair.wisps + 0.05 * hair.frizz) * strands.fine + 0.02 * strands.clump
    end = hair.length + 0.1 if hair.length > 0 else 0.6 + 0.4 * hair.side
    inside = np.minimum(
        _outline(person, grid, noise, "back") + 0.6 * jitter, end - y + 0.15 * strands.clump + 0.1 * strands.fine
    )
    if hair.cut == "updo":
        bun = 0.50 - np.hypot(x - 0.6 * hair.parting, (y + 2.25) / 0.8) * (0.9 + 0.3 * hair.split)
        inside = np.maximum(inside, bun + 0.4 * jitter)
    return inside > 0, strands
