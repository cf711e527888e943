"""Rendering of one portrait."""

from __future__ import annotations

import cv2
import numpy as np

from psfr.portraits.accessories import add_earrings, add_hat, add_temples, make_glasses
from psfr.portraits.camera import Camera, camera_for, intersect_plane, raymarch
from psfr.portraits.face import paint_face
from psfr.portraits.grid import Grid, Noise
from psfr.portraits.hair import add_hair, back_hair, hair_albedo
from psfr.portraits.head import build_head, chin_y
from psfr.portraits.heightfield import HeightField, Label
from psfr.portraits.light import shade
from psfr.portraits.person import Person
from psfr.portraits.sampling import sample_person
from psfr.portraits.scene import finish, paint_backdrop, paint_body
from psfr.portraits.skin import paint_skin

MIN_SIZE, MAX_SIZE = 32, 1024

# CelebAMask-HQ labels the eyes behind clear glasses, not the lenses.
_VISIBLE_THROUGH_LENSES = (Label.LEFT_EYE, Label.RIGHT_EYE, Label.LEFT_BROW, Label.RIGHT_BROW)
_THIN_LABELS = (Label.LEFT_EAR, Label.RIGHT_EAR, Label.EARRING, Label.GLASSES)


def draw(seed: int, index: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Sample and render portrait `index` of the series `seed`.

    The result depends on the arguments only. Every size shows the same person in the same scene.

    Args:
        seed: seed of the series, >= 0.
        index: number of the portrait in the series, >= 0.
        size: side of the image in pixels, 32 to 1024.

    Returns:
        The image, RGB uint8 (size, size, 3), and its parsing map, uint8 (size, size) of CelebAMask-HQ label ids 0-18.

    Raises:
        ValueError: if `seed` or `index` is negative, or `size` is outside its range.
    """
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index must be at least 0, not {seed} and {index}")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(f"size must be {MIN_SIZE} to {MAX_SIZE} pixels, not {size}")
    person = sample_person(np.random.default_rng([seed, index]))
    return render(person, Noise(seed, index), size)


def render(person: Person, noise: Noise, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Render `person`; `noise` seeds the details that are no attribute of a person, such as strands of hair.

    Returns:
        Image and parsing map, as `draw` returns them.
    """
    supersampling = max(2, -(-128 // size))
    pixels = supersampling * size
    camera = camera_for(person)
    grid = Grid.with_density(pixels / (2 * camera.half_side))

    field = build_head(person, noise, grid)
    paint_skin(person, noise, field)
    paint_face(person, noise, field)
    add_temples(person, field)
    add_earrings(person, field)
    add_hair(person, noise, field)
    add_hat(person, noise, field)
    radiance = shade(field, person.light, camera.rotation, person.hair.gloss)

    image = paint_backdrop(person.scene, noise, pixels)
    seg = np.zeros((pixels, pixels), np.uint8)
    gain = _exposure_gain(person, radiance, field.seg)
    radiance *= gain
    _draw_back_hair(person, noise, grid, camera, gain, image, seg)
    chin = camera.to_image(camera.project(np.array([0.0, chin_y(person.head), 1.0])))
    paint_body(person, noise, image, seg, chin, 1 / (2 * camera.half_side), gain)
    _draw_front(field, radiance, camera, image, seg)
    _draw_glasses(person, grid, camera, gain, image, seg)

    image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    return finish(person, noise, image), _downsample_majority(seg, supersampling)


def _draw_front(field: HeightField, radiance: np.ndarray, camera: Camera, image: np.ndarray, seg: np.ndarray) -> None:
    grid = field.grid
    view = raymarch(field.height, grid, camera, image.shape[0])
    front = view.sample(radiance)
    front_seg = view.sample_nearest(field.seg)
    # The height field is solid, but ears, earrings and hair are thin: rays far below their surface pass behind them.
    depth_below = view.sample_nearest(field.height) - view.z
    behind = np.isin(front_seg, _THIN_LABELS) & (depth_below > 0.12)
    behind |= (front_seg == Label.HAIR) & (depth_below > 0.40)
    # The jaw runs back and up from the chin to the ear; below it there is the neck.
    y = grid.y_range[0] + (view.v + 0.5) * np.float32(grid.step[1])
    behind |= (front_seg == Label.SKIN) & (view.z < np.interp(y, (0.2, 0.9, 1.35, 1.8), (-1.0, -0.15, 0.25, 0.75)))
    # Opening removes the isolated pixels that this leaves at edges.
    visible = (view.hit & ~behind).astype(np.uint8)
    visible = cv2.morphologyEx(visible, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)).astype(bool)
    image[visible] = front[visible]
    seg[visible] = front_seg[visible]


def _exposure_gain(person: Person, radiance: np.ndarray, seg: np.ndarray) -> float:
    """Return the gain that gives the face the brightness usual in photographs; dark skin stays darker."""
    face = radiance[seg == Label.SKIN]
    brightness = float(np.median(face.mean(axis=-1)))
    tone = float(np.mean(np.power(person.skin.tone, 2.2)))
    return float(0.53 * tone**0.75 / max(brightness, 1e-3) * np.exp(person.scene.exposure))


def _draw_back_hair(
    person: Person, noise: Noise, grid: Grid, camera: Camera, gain: float, image: np.ndarray, seg: np.ndarray
) -> None:
    mask, strands = back_hair(person, noise, grid)
    if not mask.any():
        return
    view = intersect_plane(-0.35, grid, camera, image.shape[0])
    light = person.light
    side = 1 + 0.3 * light.key[0] * grid.x / 1.5
    amount = light.ambient + 0.45 * light.key_strength * np.clip(side, 0.3, 1.6) + 0.3 * light.fill_strength
    amount = amount * (0.85 + 0.2 * strands.clump)
    color = hair_albedo(person.hair, strands, noise, grid) * (gain * amount)[..., None].astype(np.float32)
    visible = view.sample_nearest(mask.astype(np.uint8)).astype(bool) & view.hit
    image[visible] = view.sample(color)[visible]
    seg[visible] = Label.HAIR


def _draw_glasses(person: Person, grid: Grid, camera: Camera, gain: float, image: np.ndarray, seg: np.ndarray) -> None:
    glasses = make_glasses(person, grid)
    if glasses is None:
        return
    view = intersect_plane(glasses.depth, grid, camera, image.shape[0])
    alpha = (view.sample(glasses.alpha) * view.hit)[..., None]
    image *= 1 - alpha
    image += alpha * view.sample(glasses.color) * np.float32(min(gain, 1.5))
    mask = view.sample_nearest(glasses.mask.astype(np.uint8)).astype(bool) & view.hit
    if not glasses.opaque:
        mask &= ~np.isin(seg, _VISIBLE_THROUGH_LENSES)
    seg[mask & (seg != Label.HAIR) & (seg != Label.HAT)] = Label.GLASSES


def _downsample_majority(seg: np.ndarray, factor: int) -> np.ndarray:
    """Return the most frequent label of each `factor` x `factor` block; the lowest id wins a tie."""
    size = seg.shape[0] // factor
    majority = np.zeros((size, size), np.uint8)
    max_share = np.zeros((size, size), np.uint8)
    for label in np.unique(seg):
        mask = (seg == label).astype(np.uint8) * np.uint8(240)
        share = cv2.resize(mask, (size, size), interpolation=cv2.INTER_AREA)
        larger = share > max_share
        majority[larger] = label
        max_share[larger] = share[larger]
    return majority
