"""Background, neck, clothes and necklace, and the photographic finish of the image."""

from __future__ import annotations

import cv2
import numpy as np

from psfr.portraits.grid import Noise, smoothstep
from psfr.portraits.heightfield import Label, srgb_to_linear
from psfr.portraits.person import Person, Scene


def paint_backdrop(scene: Scene, noise: Noise, pixels: int) -> np.ndarray:
    """Return the background, linear RGB float32 (pixels, pixels, 3)."""
    rng = noise.rng("backdrop")
    first, second = srgb_to_linear(scene.backdrop_color), srgb_to_linear(scene.backdrop_second)
    coords = (np.arange(pixels, dtype=np.float32) + 0.5) / pixels
    x, y = coords[None, :], coords[:, None]

    def mix(weight: np.ndarray) -> np.ndarray:
        return first + np.clip(weight, 0, 1)[..., None] * (second - first)

    def clouds(name: str, cells: int, channels: int | None = None) -> np.ndarray:
        return cv2.resize(noise.lattice(name, cells, cells, channels), (pixels, pixels), interpolation=cv2.INTER_CUBIC)

    if scene.backdrop == "plain":
        shade = rng.choice([0.0, 0.02, 0.95, rng.random()])
        return np.full((pixels, pixels, 3), shade, np.float32) * (0.9 + 0.1 * first)
    if scene.backdrop == "studio":
        center = rng.uniform(0.2, 0.8, 2)
        radius = np.hypot(x - np.float32(center[0]), y - np.float32(center[1]))
        falloff = 1.15 - np.float32(rng.uniform(0.3, 1.1)) * radius
        return (first * falloff[..., None]).clip(0.002, 1).astype(np.float32)
    if scene.backdrop == "blobs":
        image = mix(0.5 + 0.5 * clouds("blobs", int(rng.integers(3, 9))))
        image = image * (1 + 0.35 * clouds("blob hues", int(rng.integers(3, 14)), 3))
        return np.clip(image, 0.003, 1.2).astype(np.float32)
    if scene.backdrop == "bokeh":
        image = mix(0.5 + 0.5 * clouds("blobs", 4)).astype(np.float32)
        for _ in range(int(rng.integers(8, 40))):
            cx, cy, radius = rng.random(), rng.random(), rng.uniform(0.015, 0.09)
            disc = smoothstep(np.hypot(x - cx, y - cy), radius, radius * 0.8)[..., None]
            image += disc * (rng.random(3).astype(np.float32) * np.float32(rng.uniform(0.05, 0.5)))
        return np.clip(image, 0.003, 1.5)
    if scene.backdrop == "panels":
        image = mix(y + 0 * x)
        for _ in range(int(rng.integers(3, 12))):
            angle = rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)])
            dx = x - np.float32(rng.random())
            dy = y - np.float32(rng.random())
            distance = dx * np.float32(np.cos(angle)) + dy * np.float32(np.sin(angle))
            band = np.abs(distance) < rng.uniform(0.01, 0.2)
            image[band] = srgb_to_linear(rng.random(3)) * np.float32(rng.uniform(0.2, 1.0))
        sigma = rng.uniform(0.002, 0.035) * pixels
        return cv2.GaussianBlur(np.clip(image, 0.003, 1).astype(np.float32), (0, 0), max(sigma, 0.5))
    texture = 0.6 * clouds("grain", int(rng.integers(20, 120))) + 0.8 * clouds("blobs", int(rng.integers(4, 20)))
    image = mix(0.5 + 0.4 * texture)
    sigma = rng.uniform(0.001, 0.012) * pixels
    return cv2.GaussianBlur(np.clip(image, 0.003, 1).astype(np.float32), (0, 0), max(sigma, 0.4))


def paint_body(
    person: Person, noise: Noise, image: np.ndarray, seg: np.ndarray, chin: np.ndarray, scale: float, gain: float
) -> None:
    """Paint neck, shoulders, clothes and necklace on `image` and `seg` in place.

    Args:
        person: the person to paint.
        noise: seeds skin and cloth.
        image: linear RGB, float32 (H, H, 3).
        seg: parsing map, uint8 (H, H).
        chin: image coordinates in [0, 1] of the point of the chin, (2,).
        scale: an eye distance as a fraction of the image side.
        gain: exposure of the lamps' light.
    """
    pixels = image.shape[0]
    scene, light = person.scene, person.light
    top = max(0, int((chin[1] - 1.1 * scale) * pixels))
    coords = (np.arange(pixels, dtype=np.float32) + 0.5) / pixels
    lean = person.pose.yaw / 90
    x = (coords[None, :] - np.float32(chin[0] - 0.45 * lean * scale)) / np.float32(scale)
    y = (coords[top:, None] - np.float32(chin[1])) / np.float32(scale)
    y = y + np.float32(scene.body_tilt) * x * smoothstep(np.abs(x), 0.6, 1.2)
    x = x - np.float32(scene.body_shift) * smoothstep(y, -0.3, 1.5)
    # The neck narrows upward, so that it ends behind the jaw.
    half = scene.neck_width - 0.8 * np.clip(-0.30 - y, 0, None) ** 1.3
    spread = np.clip(y + 0.20 + 0.35 * scene.shoulder, 0, None)
    half = half + 1.7 * spread**1.2 + 3.5 * np.clip(spread - 0.3, 0, None)
    inside = half - np.abs(x)
    flatness = smoothstep(y, 0.0, 0.5)
    nx = np.clip(x / half, -1, 1) * (0.95 - 0.35 * flatness)
    ny = -0.05 - 0.35 * flatness + 0.30 * smoothstep(y, 0.5, -0.1)
    nz = np.sqrt(np.clip(1 - nx**2 - ny**2, 0.05, 1))
    # Sternocleidomastoid muscles, from behind the ears to the pit of the neck.
    for side in (-1, 1):
        cord = x * side - 0.62 + 0.75 * (y + 0.2)
        nx = nx + side * 0.22 * (cord / 0.1) * np.exp(-((cord / 0.12) ** 2)) * smoothstep(y, 0.75, 0.1)
    key = [float(v) for v in light.key]
    diffuse = np.maximum(nx * key[0] + ny * key[1] + nz * key[2] + 0.15, 0) / 1.15
    under = smoothstep(y, 0.55 + 0.25 * key[1], -0.15) * np.exp(-((x / 0.95) ** 2))
    fill = np.maximum(nx * light.fill[0] + ny * light.fill[1] + nz * light.fill[2], 0)
    ambient_light = light.ambient * (1 - 0.55 * under)
    key_light = light.key_strength * diffuse * (1 - 0.80 * under)
    fill_light = light.fill_strength * fill * (1 - 0.5 * under)
    amount = ambient_light + key_light + fill_light
    amount = amount * (0.72 + 0.28 * smoothstep(inside, 0.0, 0.25))
    amount = amount * np.float32(gain)
    rows = slice(top, None)
    tone = srgb_to_linear(person.skin.tone) * np.array([0.92, 0.86, 0.84], np.float32)
    mottle = cv2.resize(noise.lattice("neck", 24, 24), (pixels, pixels), interpolation=cv2.INTER_CUBIC)[rows]
    skin = tone * (amount * (1 + 0.05 * mottle))[..., None] * np.array(light.key_color, np.float32)
    mask = inside > 0
    image[rows][mask] = skin.astype(np.float32)[mask]
    seg[rows][mask] = Label.NECK
    if scene.clothes != "none":
        _paint_clothes(person, noise, image[rows], seg[rows], x, y, half, amount)
    if person.accessories.necklace:
        _paint_necklace(person, image[rows], seg[rows], x, y, gain)


def _paint_clothes(
    person: Person,
    noise: Noise,
    image: np.ndarray,
    seg: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    half: np.ndarray,
    amount: np.ndarray,
) -> None:
    scene = person.scene
    abs_x, rng = np.abs(x), noise.rng("clothes")
    low = rng.uniform(-0.35, 0.3)
    neck = scene.neck_width
    edge_y = {
        "crew": 0.08 + low + 0.32 * np.sqrt(np.clip(1 - (abs_x / (neck + 0.35)) ** 2, 0, 1)),
        "v_neck": 0.70 + low - 1.0 * abs_x,
        "shirt": 0.40 + low - 0.75 * abs_x,
        "suit": 0.38 + 0.5 * low - 0.6 * abs_x,
        "turtleneck": 0.0 + 0.4 * low - 0.06 * abs_x**2 + 0 * abs_x,
        "straps": 0.65 + low - 0.15 * abs_x**2,
    }[scene.clothes]
    thick = 0.07 if scene.clothes in ("crew", "v_neck", "turtleneck") else 0.12
    inside = np.minimum(y - edge_y, half + thick - abs_x)
    inside = np.where(y > -0.5, inside, -1)
    if scene.clothes == "straps":
        inside = np.where((abs_x > neck + 0.55) & (abs_x < neck + 0.80), half + 0.02 - abs_x, inside)
    height, width = image.shape[:2]
    folds = cv2.resize(noise.lattice("folds", 9, 9), (width, width), interpolation=cv2.INTER_CUBIC)[-height:]
    weave = cv2.resize(noise.lattice("weave", 110, 110), (width, width), interpolation=cv2.INTER_CUBIC)[-height:]
    color = np.broadcast_to(srgb_to_linear(scene.cloth_color), image.shape).copy()
    second = srgb_to_linear(scene.cloth_second)
    size = rng.uniform(6, 22)
    if scene.cloth_pattern == "stripes":
        angle = rng.choice([0.0, np.pi / 2, 0.6])
        across = x * np.cos(angle) + y * np.sin(angle) + 0.05 * folds
        color[np.sin(across * size) > 0.3] = second
    elif scene.cloth_pattern == "plaid":
        bands = (np.sin(x * size) > 0.2).astype(np.float32) + (np.sin(y * size) > 0.2)
        color = 0.5 * color + 0.25 * second * bands[..., None]
    elif scene.cloth_pattern == "spots":
        color[np.sin(x * size) * np.sin(y * size) > 0.5] = second
    elif scene.cloth_pattern == "knit":
        color = color * (1 + 0.3 * np.sin((y + 0.02 * np.sin(x * 70)) * 60))[..., None]
    if scene.clothes == "suit":
        # Shirt and tie between the lapels.
        opening = (abs_x < 0.10 + 0.55 * np.clip(1.7 - y, 0, 1) * 0.8) & (y > edge_y)
        color[opening] = (0.75, 0.76, 0.8) if rng.random() < 0.7 else second
        tie = (abs_x < 0.11 + 0.04 * y) & (y > edge_y + 0.05) & (rng.random() < 0.7)
        color[tie & opening] = second * 0.8
    lit = amount * (1 + 0.16 * folds + 0.05 * weave) * (1 - 0.45 * np.exp(-np.clip(inside, 0, None) / 0.06))
    collar = scene.clothes in ("shirt", "suit") and rng.random() < 0.9
    if collar:
        flap = np.minimum(inside, 0.30 - inside) - 0.4 * np.clip(abs_x - neck, 0, None)
        lit = np.where(flap > 0, lit * 1.15, lit * (1 - 0.3 * np.exp(-((flap / 0.05) ** 2))))
    mask = inside > 0
    cloth = np.clip(color * lit[..., None] * np.array(person.light.key_color, np.float32), 0.002, 1.5)
    image[mask] = cloth.astype(np.float32)[mask]
    seg[mask] = Label.CLOTH


def _paint_necklace(
    person: Person, image: np.ndarray, seg: np.ndarray, x: np.ndarray, y: np.ndarray, gain: float
) -> None:
    accessories, neck = person.accessories, person.scene.neck_width
    sag = 0.12 + 0.5 * accessories.necklace_drop
    line = 0.08 + accessories.necklace_drop - sag * (x / (neck + 0.1)) ** 2
    thick = accessories.necklace_size * (1.3 if accessories.pearls else 1.0)
    distance = np.abs(y - line) / np.sqrt(1 + (2 * sag * x / (neck + 0.1) ** 2) ** 2)
    if accessories.pearls:
        bead = np.abs(np.mod(x / (2 * thick), 1.0) - 0.5) * 2 * thick
        distance = np.hypot(distance, bead * 0.6)
    pendant = np.hypot(x, (y - line - 1.5 * thick - 0.04) * 0.8) < (0.05 + thick) * (not accessories.pearls)
    open_collar = person.scene.clothes not in ("shirt", "suit", "turtleneck")
    below = (seg == Label.NECK) | ((seg == Label.CLOTH) & open_collar)
    mask = ((distance < thick) | pendant) & below
    on_neck = np.abs(x) < neck + 0.1
    shadow = 1 - 0.5 * np.exp(-((np.clip(y - line, 0, None) / (1.6 * thick)) ** 2)) * (y > line) * on_neck
    image[below] *= shadow.astype(np.float32)[below, None]
    bright = gain * (0.35 + 1.0 * np.clip(1 - distance / thick, 0, 1) ** 1.2)
    metal = np.array([0.85, 0.82, 0.78]) if accessories.pearls else srgb_to_linear(accessories.metal)
    image[mask] = (metal * bright[..., None]).astype(np.float32)[mask]
    seg[mask] = Label.NECKLACE


def finish(person: Person, noise: Noise, image: np.ndarray) -> np.ndarray:
    """Return `image` (linear RGB, float32 (H, H, 3)) as a photograph with tone curve, blur and grain: sRGB, uint8."""
    scene, size = person.scene, image.shape[0]
    coords = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    image = image * np.array(scene.white_balance, np.float32)
    if scene.vignette:
        image = image * (1 - scene.vignette * 2 * (coords[None, :, None] ** 2 + coords[:, None, None] ** 2))
    # Compress the highlights, as film and cameras do, instead of clipping them.
    image = np.where(image > 0.7, 0.7 + 0.3 * np.tanh((image - 0.7) / 0.3), np.maximum(image, 0))
    image = image ** np.float32(scene.gamma / 2.2)
    gray = image @ np.array([0.30, 0.59, 0.11], np.float32)
    image = gray[..., None] + scene.saturation * (image - gray[..., None])
    image = 0.45 + scene.contrast * (image - 0.45)
    image = image * (1 - 0.12 * scene.haze) + 0.08 * scene.haze
    sigma = (0.0006 + 0.004 * scene.blur) * size
    if sigma > 0.25:
        image = cv2.GaussianBlur(image.astype(np.float32), (0, 0), sigma)
    grain = noise.lattice(f"grain {size}", size, size, 3)
    image = image + np.float32(0.035 * scene.grain) * (0.5 * grain + 0.7 * grain[..., :1])
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
