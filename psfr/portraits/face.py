"""Eyes, eyebrows, nostrils and mouth, painted on the skin with their labels."""

from __future__ import annotations

import numpy as np

from psfr.portraits.grid import Noise, smoothstep
from psfr.portraits.heightfield import HeightField, Label, coverage, srgb_to_linear
from psfr.portraits.person import Person

# Eyes turn against the head to look at the camera: the iris moves by the sine of the yaw on a ball of this radius.
_EYEBALL_RADIUS = 0.19


def paint_face(person: Person, noise: Noise, field: HeightField) -> None:
    """Paint nostrils, eyes, eyebrows and mouth on `field`, which must have skin already."""
    _paint_nostrils(person, field)
    for side in (-1, 1):
        _paint_eye(person, noise, field, side)
        _paint_brow(person, noise, field, side)
    _paint_mouth(person, noise, field)


def _paint_nostrils(person: Person, field: HeightField) -> None:
    part = field.window(-0.45, 0.45, 0.4, 0.95)
    grid, shape = part.grid, person.head
    nostril_tilt = np.clip(-person.pose.pitch / 12, -1, 1)
    dark = np.zeros(grid.shape, np.float32)
    for side in (-1, 1):
        x = (grid.x * side - 0.115 * shape.nose_width) / (0.068 * shape.nose_width)
        y = (grid.y - 0.722 * shape.nose_length - 0.25 * (grid.x * side - 0.115)) / (0.036 + 0.012 * nostril_tilt)
        dark += np.exp(-((x**2 + y**2) ** 2))
        # The groove behind each wing of the nose.
        wing = np.hypot((grid.x * side - 0.17 * shape.nose_width) / 1.05, grid.y - 0.63 * shape.nose_length)
        groove = np.exp(-(((wing - 0.118 * shape.nose_width) / 0.02) ** 2))
        dark += 0.25 * groove * (grid.x * side > 0.2 * shape.nose_width)
    part.shade *= 1 - 0.8 * np.minimum(dark, 1)
    part.gloss *= 1 - np.minimum(dark, 1)


def _paint_eye(person: Person, noise: Noise, field: HeightField, side: int) -> None:
    low, high = sorted((side * 0.06, side * 0.98))
    eye = field.window(low, high, -0.4, 0.42)
    eyes, grid, skin = person.eyes, eye.grid, srgb_to_linear(person.skin.tone)
    u, y = grid.x * side, grid.y
    t = (u - 0.5) / eyes.half_width
    arc = np.sqrt(np.maximum(1 - t**2, 0))
    corner = -eyes.tilt * t + 0.012 * (t < 0) * t**2
    upper = corner - eyes.upper * arc**1.35 * (1 - 0.10 * t)
    lower = corner + eyes.lower * arc**1.6 * (1 + 0.18 * t)
    inside = np.minimum(y - upper, lower - y)
    inside = np.where(np.abs(t) < 1, inside, -1.0).astype(np.float32)

    def band(center: np.ndarray, width: float) -> np.ndarray:
        return np.exp(-(((y - center) / width) ** 2))

    # Lid, eye shadow, crease, bags and the roots of the lashes.
    lid = smoothstep(y, -0.20, -0.06) * smoothstep(y - lower, 0.03, -0.02) * smoothstep(np.abs(t), 1.6, 0.7)
    eye.tint(skin * (0.86, 0.70, 0.68), (0.35 * lid).astype(np.float32))
    eye.tint(srgb_to_linear(eyes.shadow_hue) * 0.5 + skin * 0.2, (0.75 * eyes.shadow * lid).astype(np.float32))
    eye.shade *= 1 - 0.38 * eyes.crease * band(upper - 0.062 - 0.02 * arc, 0.018) * smoothstep(np.abs(t), 1.35, 0.8)
    eye.shade *= 1 - 0.22 * eyes.bags * band(lower + 0.13 + 0.03 * arc, 0.045) * smoothstep(np.abs(t), 1.5, 0.5)
    eye.height -= (0.025 * smoothstep(inside, -0.03, 0.0)).astype(np.float32)
    outwards = 0.75 + 0.35 * np.clip(t, -1, 1.1)
    lashes = eyes.lashes * outwards * band(upper - 0.010 - 0.012 * eyes.lashes, 0.016 + 0.014 * eyes.lashes)
    lashes += 0.4 * eyes.lashes * outwards * band(lower + 0.012, 0.012)
    lashes *= smoothstep(np.abs(t - 0.06), 1.22, 0.95)
    eye.tint((0.012, 0.009, 0.008), np.clip(lashes, 0, 0.95).astype(np.float32))

    # Eyeball: sclera, iris, pupil and highlight.
    turn = -np.sin(np.radians(person.pose.yaw)) * _EYEBALL_RADIUS * 0.8 + eyes.gaze[0] * 0.5 * eyes.iris_radius
    lift = np.sin(np.radians(person.pose.pitch)) * -_EYEBALL_RADIUS * 0.6 + eyes.gaze[1] * eyes.iris_radius
    cx, cy = 0.5 + side * turn, lift - 0.5 * (eyes.upper - eyes.lower)
    r = np.hypot(u - cx, y - cy) / eyes.iris_radius
    angle = np.arctan2(y - cy, u - cx)
    sclera = np.array([0.50, 0.41, 0.38], np.float32) * (0.62 + 0.38 * np.clip(1 - t**2, 0, 1))[..., None]
    rays = noise.strands(f"iris {side}", (angle + 3.2) * 9, r * 2)
    iris = srgb_to_linear(eyes.iris) * (0.75 + 0.25 * rays + 0.5 * np.exp(-(((r - 0.5) / 0.18) ** 2)))[..., None]
    blur = grid.step[0] / eyes.iris_radius
    disc = smoothstep(r, 1 + blur, 1 - blur)
    iris_alpha = disc * (1 - 0.7 * smoothstep(r, 0.78, 1.0))
    ball = sclera * (1 - disc[..., None]) + np.clip(iris, 0.005, 1) * iris_alpha[..., None]
    pupil = smoothstep(r, 0.40 + blur, 0.40 - blur)
    ball = ball * (1 - 0.97 * pupil[..., None])
    ball = ball * (0.35 + 0.65 * smoothstep(y - upper, 0.0, 0.07))[..., None]
    alpha = coverage(inside, grid)
    eye.tint(ball.astype(np.float32), alpha)
    eye.shade[:] = eye.shade * (1 - alpha) + alpha
    eye.gloss *= 1 - 0.6 * alpha
    key = person.light.key
    spot = np.hypot(
        grid.x - side * cx - 0.42 * eyes.iris_radius * np.clip(key[0] * 1.3, -1, 1), y - cy + 0.36 * eyes.iris_radius
    )
    size = 0.20 * eyes.iris_radius
    eye.glow += (0.8 * alpha * smoothstep(spot, size + grid.step[0], size * 0.7)).astype(np.float32)
    eye.seg[alpha > 0.5] = Label.LEFT_EYE if side > 0 else Label.RIGHT_EYE


def _paint_brow(person: Person, noise: Noise, field: HeightField, side: int) -> None:
    low, high = sorted((side * 0.02, side * 1.12))
    brow = field.window(low, high, -0.75, 0.0)
    brows, grid = person.brows, brow.grid
    u, y = grid.x * side, grid.y
    t = (u - brows.inner) / (brows.outer - brows.inner)
    c = np.clip(t, 0, 1)
    center = (
        -brows.height
        - 0.10 * brows.arch * np.sin(np.pi * c**1.25)
        - brows.tilt * (c - 0.4)
        + brows.frown * (1 - c) ** 2
        + 0.07 * c**3
    )
    taper = np.where(c < 0.55, 0.9 + 0.2 * c, 1.01 * (1 - (np.maximum(c - 0.55, 0) / 0.5) ** 1.5))
    half = 0.5 * brows.thickness * taper * smoothstep(t, -0.06, 0.08)
    hairs = noise.strands(f"brow {side}", (u * 62 - y * 40), y * 22 + u * 12)
    inside = np.maximum(half, 0) - np.abs(y - center) + 0.010 * hairs
    inside = np.where((t > -0.05) & (t < 1.03), inside, -1.0).astype(np.float32)
    body = smoothstep(inside, -0.012, 0.03)
    alpha = np.clip(body * (0.30 + 0.65 * brows.density) * (0.85 + 0.28 * hairs), 0, 0.97).astype(np.float32)
    color = srgb_to_linear(person.hair.beard_color) * 0.55
    brow.tint(np.minimum(color, srgb_to_linear(person.skin.tone) * 0.55), alpha)
    brow.gloss *= 1 - 0.8 * alpha
    brow.height += 0.012 * alpha
    brow.seg[body > 0.3] = Label.LEFT_BROW if side > 0 else Label.RIGHT_BROW


def _paint_mouth(person: Person, noise: Noise, field: HeightField) -> None:
    mouth = person.mouth
    part = field.window(-0.75, 0.75, mouth.y - 0.45, mouth.y + 0.62)
    grid = part.grid
    x, smile, w = grid.x, mouth.smile, mouth.half_width
    t = np.clip(np.abs(x) / w, 0, 1.4)
    inside_t = np.clip(t, 0, 1)
    y = grid.y - mouth.y + 0.16 * smile * inside_t**2 - 0.05 * smile
    opening = mouth.gap * np.sqrt(np.maximum(1 - inside_t**2, 0)) ** 1.2
    bow = 1 - 0.17 * np.exp(-((x / (0.15 * w)) ** 2)) + 0.06 * np.exp(-(((np.abs(x) - 0.22 * w) / (0.14 * w)) ** 2))
    line = 0.010 * np.cos(inside_t * 6.0) * (1 - inside_t)
    top = line - 0.35 * opening - mouth.upper * bow * (1 - inside_t**1.5) ** 0.9
    seam_up, seam_low = line - 0.35 * opening, line + 0.65 * opening
    bottom = seam_low + mouth.lower * (1 - inside_t**2.2) ** 0.85
    upper = np.where(t < 1, np.minimum(y - top, seam_up - y), -1).astype(np.float32)
    lower = np.where(t < 1, np.minimum(y - seam_low, bottom - y), -1).astype(np.float32)

    bulge = 0.055 * np.sqrt(np.clip(upper / 0.06, 0, 1)) + 0.075 * np.sqrt(np.clip(lower / 0.08, 0, 1))
    part.height += bulge.astype(np.float32)
    grooves = noise.strands("lips", x * 55 + 0 * y, y * 8 + 0 * x)
    lips = coverage(np.maximum(upper, lower), grid)
    blend = lips * (0.80 + 0.20 * mouth.lipstick)
    color = srgb_to_linear(mouth.lip_color) * (1 + 0.10 * grooves * (1 - 0.5 * mouth.lipstick))[..., None]
    color = color * np.where(y < 0.5 * (seam_up + seam_low), 0.82, 1.0)[..., None]
    part.tint(color.astype(np.float32), blend.astype(np.float32))
    part.gloss[:] = part.gloss * (1 - lips) + lips * (0.5 + 1.6 * mouth.gloss)

    seam = np.exp(-(((y - 0.5 * (seam_up + seam_low)) / (0.013 + 0.4 * opening)) ** 2)) * smoothstep(t, 1.12, 0.85)
    part.shade *= 1 - 0.62 * seam
    corner = np.exp(-(((np.abs(x) - w) / 0.045) ** 2) - (y / 0.04) ** 2)
    part.shade *= 1 - 0.35 * corner
    part.shade *= 1 - 0.20 * np.exp(-(((y - bottom - 0.05) / 0.04) ** 2)) * smoothstep(t, 0.9, 0.4)

    if mouth.gap > 0:
        _paint_mouth_interior(person, noise, part, inside_t, y, seam_up, seam_low)
    part.seg[(upper > 0) & (part.seg != Label.MOUTH)] = Label.UPPER_LIP
    part.seg[(lower > 0) & (part.seg != Label.MOUTH)] = Label.LOWER_LIP


def _paint_mouth_interior(
    person: Person,
    noise: Noise,
    part: HeightField,
    inside_t: np.ndarray,
    y: np.ndarray,
    seam_up: np.ndarray,
    seam_low: np.ndarray,
) -> None:
    """Paint teeth and tongue between the lips' inner edges `seam_up` and `seam_low`; `inside_t` is 1 at the corners."""
    mouth, grid = person.mouth, part.grid
    x = grid.x
    gap = np.where(np.abs(x) < mouth.half_width, np.minimum(y - seam_up, seam_low - y), -1).astype(np.float32)
    alpha = coverage(gap, grid)
    rng = noise.rng("teeth")
    width = 0.088 + 0.006 * float(rng.standard_normal())
    tooth = np.abs(np.mod(x / width + 0.5, 1.0) - 0.5) * 2
    gums = seam_up - 0.03
    length = 0.155 - 0.05 * inside_t**2
    enamel = mouth.teeth * smoothstep(y - gums - length, 0.012, -0.012) * smoothstep(y - gums, -0.01, 0.02)
    enamel = enamel * (1 - 0.35 * smoothstep(tooth, 0.86, 1.0)) * (1 - 0.6 * inside_t**4)
    dark = np.array([0.055, 0.016, 0.014], np.float32)
    tongue = smoothstep(y - (seam_low - 0.05), -0.03, 0.05) * smoothstep(inside_t, 0.8, 0.3)
    depth = dark + np.array([0.20, 0.05, 0.05], np.float32) * tongue[..., None]
    white = np.array([0.92, 0.86, 0.78], np.float32) * (0.65 + 0.35 * smoothstep(y - seam_up, -0.01, 0.05))[..., None]
    inner = depth * (1 - enamel[..., None]) + white * enamel[..., None]
    part.tint(inner.astype(np.float32), alpha)
    part.shade[:] = part.shade * (1 - alpha) + alpha * (1.15 - 0.4 * inside_t**2)
    part.height -= 0.015 * alpha
    part.gloss[:] = part.gloss * (1 - 0.5 * alpha)
    part.seg[alpha > 0.5] = Label.MOUTH
