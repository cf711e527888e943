"""Bare head: skull, facial features and ears as a height field."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import PchipInterpolator

from psfr.portraits.grid import Grid, Noise, smoothstep
from psfr.portraits.heightfield import EMPTY, HeightField, Label
from psfr.portraits.person import HeadShape, Person

CROWN = -2.12
"""y of the top of the head."""
CHIN = 1.83
"""y of the lowest point of an average chin."""

_WIDTH_Y = (-2.6, -1.5, -0.9, -0.3, 0.2, 0.6, 1.0, 1.3, 1.6, 2.6)
_WIDTH = (1.21, 1.21, 1.20, 1.13, 1.08, 1.05, 0.96, 0.84, 0.70, 0.5)


def chin_y(shape: HeadShape) -> float:
    """Return y of the lowest point of the chin."""
    return CHIN + shape.chin_length


def half_width(shape: HeadShape, y: np.ndarray) -> np.ndarray:
    """Return half the width of the head at `y`, before chin and crown are rounded; float32, the shape of `y`."""
    jaw = smoothstep(y, 0.3, 1.3)
    chin = smoothstep(y, 1.1, 1.7)
    profile = PchipInterpolator(_WIDTH_Y, _WIDTH)(y)
    return (shape.width * profile * (1 + (shape.jaw - 1) * jaw) * (1 + (shape.chin - 1) * chin)).astype(np.float32)


def _outline_falloff(shape: HeadShape, y: np.ndarray) -> np.ndarray:
    """Return how far the outline has narrowed at `y`: 0 in the middle of the face, 1 at crown and chin."""
    bottom = np.clip((y - 0.75) / (chin_y(shape) - 0.75), 0, None) ** 3.4
    top = np.clip((-0.75 - y) / (-0.75 - CROWN), 0, None) ** 2.5
    return (bottom + top).astype(np.float32)


def dome(shape: HeadShape, grid: Grid, side: float = 0.0, top: float = 0.0) -> np.ndarray:
    """Return the height of the smooth skull without features, float32 (H, W), EMPTY outside.

    `side` and `top` (eye distances) enlarge it, for hair and hats. An enlarged skull has no chin.
    """
    if side == 0.0 and top == 0.0:
        closing = _outline_falloff(shape, grid.y)
        width = half_width(shape, grid.y)
    else:
        closing = np.clip((-0.75 - grid.y) / (-0.75 - CROWN + top), 0, None) ** 2.5
        width = half_width(shape, np.minimum(grid.y, 0.4)) + side
    rest = 1 - closing - (np.abs(grid.x) / width) ** np.float32(2.15)
    depth = 1.45 * shape.depth + 0.5 * side
    return np.where(rest > 0, depth * np.sqrt(np.maximum(rest, 0)), EMPTY).astype(np.float32)


def eye_depth(shape: HeadShape) -> float:
    """Return z of the plane of the eyelids, by which the crop is aligned and in front of which glasses sit."""
    return 1.45 * shape.depth * float(np.sqrt(1 - (0.5 / (1.1 * shape.width)) ** 2.15)) - 0.10


def nose_half_width(y: np.ndarray, shape: HeadShape) -> np.ndarray:
    """Return half the width of the label NOSE at `y`, float32; 0 above the bridge and below the wings."""
    y_knots = np.array([-0.085, -0.07, 0.15, 0.34, 0.46, 0.57, 0.66, 0.735, 0.785, 0.80]) * shape.nose_length
    half_width_knots = np.array([0.0, 0.16, 0.165, 0.21, 0.255, 0.305, 0.275, 0.17, 0.06, 0.0]) * shape.nose_width
    return np.interp(y, y_knots, half_width_knots, left=0, right=0).astype(np.float32)


def build_head(person: Person, noise: Noise, grid: Grid) -> HeightField:
    """Return the bare head with heights and the labels SKIN, NOSE and ears; materials are still blank."""
    shape = person.head
    field = HeightField.blank(grid)
    height = dome(shape, grid)
    inside = height > EMPTY + 1
    height += _features(person, grid) * inside
    height += 0.012 * noise.smooth("head shape", grid, 1.3) * inside
    field.height[:] = height
    field.seg[inside] = Label.SKIN
    nose = field.window(-0.45, 0.45, -0.15, 0.95)
    nose.seg[np.abs(nose.grid.x) < nose_half_width(nose.grid.y, shape)] = Label.NOSE
    _add_ears(person, field)
    return field


def _features(person: Person, grid: Grid) -> np.ndarray:
    """Return the heights that the facial features add to the skull, float32 (H, W)."""
    shape, smile, age = person.head, max(person.mouth.smile, 0.0), person.age
    height = np.zeros(grid.shape, np.float32)
    cells, face = grid.window(-1.2, 1.2, -1.2, 1.9)
    out = height[cells]
    mouth_y = person.mouth.y
    for side in (-1, 1):
        out += 0.075 * shape.brow_ridge * face.bump(0.45 * side, -0.33, 0.26, 0.09)
        out -= 0.16 * shape.socket * face.bump(0.42 * side, -0.06, 0.24, 0.15)
        out += 0.085 * face.bump(0.5 * side, 0.0, 0.15, 0.095)
        cheek = face.bump((0.60 + 0.03 * smile) * side, 0.50 - 0.10 * smile, 0.20, 0.17)
        out += 0.085 * shape.cheek * cheek * (1 + 0.5 * smile)
        out -= 0.07 * (1.2 - shape.cheek) * face.bump(0.68 * side, 0.95, 0.20, 0.22)
        out -= 0.05 * face.bump(0.98 * side, -0.55, 0.14, 0.25)
        # Nasolabial folds deepen with age and with a smile.
        out -= _nasolabial_fold(face, side, mouth_y) * (0.010 + 0.035 * shape.folds + 0.035 * smile)
    out += 0.05 * face.bump(0, 1.58 + shape.chin_length, 0.22, 0.12)
    out -= 0.055 * face.bump(0, 1.36, 0.24, 0.055)
    out += 0.07 * face.bump(0, mouth_y, 0.33, 0.16)
    out += 0.03 * face.bump(0, -0.85, 0.5, 0.3) * (1 - 0.4 * age)
    _add_nose(shape, height, grid)
    return height


def _nasolabial_fold(grid: Grid, side: int, mouth_y: float) -> np.ndarray:
    y = grid.y
    path = PchipInterpolator([-3, 0.55, 0.78, mouth_y, mouth_y + 0.3, 4], [0.26, 0.28, 0.40, 0.54, 0.57, 0.57])
    center = path(y).astype(np.float32)
    strength = smoothstep(y, 0.48, 0.66) * smoothstep(y, mouth_y + 0.22, mouth_y - 0.1)
    return np.exp(-(((grid.x * side - center) / 0.07) ** 2)) * strength


def _add_nose(shape: HeadShape, height: np.ndarray, grid: Grid) -> None:
    cells, nose = grid.window(-0.7, 0.7, -0.5, 1.05)
    out = height[cells]
    length, width = shape.nose_length, shape.nose_width
    y = nose.y / length
    upper_bridge, lower_bridge = 0.15 + 0.02 * shape.nose_hump, 0.27 + 0.03 * shape.nose_hump
    profile = PchipInterpolator(
        (-0.5, -0.3, -0.1, 0.1, 0.3, 0.48, 0.585, 0.665, 0.735, 0.82, 1.2),
        (0.0, 0.0, 0.05, upper_bridge, lower_bridge, 0.385, 0.425, 0.37, 0.235, 0.085, 0.0),
    )
    ridge = profile(y).astype(np.float32)
    spread = np.interp(y, (-0.3, 0.0, 0.25, 0.5, 0.6, 0.7, 0.8), (0.19, 0.15, 0.165, 0.185, 0.18, 0.15, 0.11))
    spread = spread.astype(np.float32) * width * (1 + (shape.nose_bridge - 1) * smoothstep(y, 0.55, 0.2))
    out += shape.nose_projection * ridge * np.exp(-(np.abs(nose.x / spread) ** np.float32(2.0)))
    for side in (-1, 1):
        out += 0.20 * nose.bump(0.200 * width * side, 0.640 * length, 0.070 * width, 0.068)
        out -= 0.05 * nose.bump(0.30 * width * side, 0.60 * length, 0.05, 0.12)
    out -= 0.03 * nose.bump(0, 0.88 * length, 0.045, 0.08)


def ear_box(shape: HeadShape) -> tuple[float, float, float, float]:
    """Return attachment x, outer x, top y and bottom y of the left ear; the right one is its mirror image."""
    root = float(half_width(shape, np.array([0.3]))[0]) - 0.05
    return (
        root,
        root + (0.25 + 0.15 * shape.ear_protrusion) * shape.ear_size,
        0.32 - 0.47 * shape.ear_size,
        0.32 + 0.42 * shape.ear_size,
    )


def _add_ears(person: Person, field: HeightField) -> None:
    root, outer, top, bottom = ear_box(person.head)
    for side, region in ((1, Label.LEFT_EAR), (-1, Label.RIGHT_EAR)):
        low, high = sorted((side * (root - 0.1), side * (outer + 0.1)))
        ear = field.window(low, high, top - 0.1, bottom + 0.1)
        u = (ear.grid.x * side - root) / (outer - root)
        v = (ear.grid.y - top) / (bottom - top) * 2 - 1
        # The ear is widest above its middle and narrows toward the lobe.
        reach = np.sqrt(np.maximum(1 - v**2, 0)) * (1.0 - 0.28 * v) / 1.04
        r = np.abs(u / np.maximum(reach, 1e-3))
        z = 0.12 - 0.40 * (ear.grid.x * side - root)
        helix = 0.07 * np.exp(-(((r - 0.86) / 0.12) ** 2)) + 0.05 * np.exp(-(((r - 0.42) / 0.14) ** 2)) * (v < 0.45)
        concha = -0.10 * np.exp(-((u - 0.32) ** 2) / 0.03 - (v - 0.05) ** 2 / 0.10)
        lobe = 0.05 * np.exp(-((u - 0.3) ** 2) / 0.06 - (v - 0.8) ** 2 / 0.03)
        z = z + helix + concha + lobe
        inside = (np.abs(v) < 1) & (u < reach) & (u > -0.6) & (ear.height < z)
        ear.height[inside] = z[inside].astype(np.float32)
        ear.seg[inside] = region
        ear.shade[inside] *= (1 - 3.5 * np.clip(-concha, 0, 0.16))[inside].astype(np.float32)
