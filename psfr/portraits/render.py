"""One portrait from its parts."""

from __future__ import annotations

import cv2
import numpy as np

from psfr.portraits.camera import Camera, aim, look_at, look_at_plane
from psfr.portraits.face import paint_face
from psfr.portraits.fields import Grid, Noise
from psfr.portraits.hair import back_hair, grow_hair, hair_albedo
from psfr.portraits.head import build_head, chin_y
from psfr.portraits.light import shade
from psfr.portraits.person import Person
from psfr.portraits.relief import Region, Relief
from psfr.portraits.sampling import sample_person
from psfr.portraits.scene import finish, paint_backdrop, paint_body
from psfr.portraits.skin import paint_skin
from psfr.portraits.worn import hang_earrings, make_glasses, put_on_hat, put_on_temples

MIN_SIZE, MAX_SIZE = 32, 1024

# Regions that lie over the lenses in CelebAMask-HQ, where glasses are clear.
_SEEN_THROUGH = (Region.LEFT_EYE, Region.RIGHT_EYE, Region.LEFT_BROW, Region.RIGHT_BROW)
_THIN = (Region.LEFT_EAR, Region.RIGHT_EAR, Region.EARRING, Region.GLASSES)


def draw(seed: int, index: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw portrait number `index` of the series `seed`.

    The same person in the same scene is drawn at every size; the result depends on the arguments alone.

    Args:
        seed: names the series, >= 0.
        index: names the portrait in it, >= 0.
        size: side of the picture in pixels, 32 to 1024.

    Returns:
        The picture, RGB uint8 (size, size, 3), and its CelebAMask-HQ labels, uint8 (size, size) of 0..18.

    Raises:
        ValueError: a negative seed or index, or a size outside the range.
    """
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index must be at least 0, not {seed} and {index}")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(f"a portrait's size is {MIN_SIZE} to {MAX_SIZE} pixels, not {size}")
    person = sample_person(np.random.default_rng([seed, index]))
    return render(person, Noise(seed, index), size)


def render(person: Person, noise: Noise, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw `person` with the chance details of `noise`; arguments and results otherwise as those of `draw`."""
    finer = max(2, -(-128 // size))
    pixels = finer * size
    camera = aim(person)
    grid = Grid.with_density(pixels / (2 * camera.half_side))

    relief = build_head(person, noise, grid)
    paint_skin(person, noise, relief)
    paint_face(person, noise, relief)
    put_on_temples(person, relief)
    hang_earrings(person, relief)
    grow_hair(person, noise, relief)
    put_on_hat(person, noise, relief)
    lit = shade(relief, person.light, camera.rotation, person.hair.gloss)

    image = paint_backdrop(person.scene, noise, pixels)
    label = np.zeros((pixels, pixels), np.uint8)
    gain = _exposure(person, lit, relief.label)
    lit *= gain
    _draw_back_hair(person, noise, grid, camera, gain, image, label)
    chin = camera.to_picture(camera.project(np.array([0.0, chin_y(person.head), 1.0])))
    paint_body(person, noise, image, label, chin, 1 / (2 * camera.half_side), gain)
    _draw_front(relief, lit, camera, image, label)
    _draw_glasses(person, grid, camera, gain, image, label)

    image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    return finish(person, noise, image), _majority(label, finer)


def _draw_front(relief: Relief, lit: np.ndarray, camera: Camera, image: np.ndarray, label: np.ndarray) -> None:
    grid = relief.grid
    view = look_at(relief.height, grid, camera, image.shape[0])
    front = view.color(lit)
    front_label = view.label(relief.label)
    # Ears and jewels are thin, hair not much thicker: a ray that strikes far beneath their surface passes behind them.
    beneath = view.label(relief.height) - view.z
    behind = (np.isin(front_label, _THIN) & (beneath > 0.12)) | ((front_label == Region.HAIR) & (beneath > 0.40))
    # The jaw runs back and up from the chin to the ear: beneath it there is neck, not face.
    y = grid.y_range[0] + (view.v + 0.5) * np.float32(grid.step[1])
    behind |= (front_label == Region.SKIN) & (view.z < np.interp(y, (0.2, 0.9, 1.35, 1.8), (-1.0, -0.15, 0.25, 0.75)))
    # What is left of such rays at an edge are lone specks.
    seen = cv2.morphologyEx((view.hit & ~behind).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)).astype(
        bool
    )
    image[seen] = front[seen]
    label[seen] = front_label[seen]


def _exposure(person: Person, lit: np.ndarray, label: np.ndarray) -> float:
    """Gain that brings the face near the brightness photographers give it, though less for dark skin."""
    face = lit[label == Region.SKIN]
    seen = float(np.median(face.mean(axis=-1)))
    tone = float(np.mean(np.power(person.skin.tone, 2.2)))
    return float(0.53 * tone**0.75 / max(seen, 1e-3) * np.exp(person.scene.exposure))


def _draw_back_hair(
    person: Person, noise: Noise, grid: Grid, camera: Camera, gain: float, image: np.ndarray, label: np.ndarray
) -> None:
    mask, strands = back_hair(person, noise, grid)
    if not mask.any():
        return
    view = look_at_plane(-0.35, grid, camera, image.shape[0])
    light = person.light
    side = 1 + 0.3 * light.key[0] * grid.x / 1.5
    amount = (light.ambient + 0.45 * light.key_strength * np.clip(side, 0.3, 1.6) + 0.3 * light.fill_strength) * (
        0.85 + 0.2 * strands.clump
    )
    color = hair_albedo(person.hair, strands, noise, grid) * (gain * amount)[..., None].astype(np.float32)
    seen = view.label(mask.astype(np.uint8)).astype(bool) & view.hit
    image[seen] = view.color(color)[seen]
    label[seen] = Region.HAIR


def _draw_glasses(
    person: Person, grid: Grid, camera: Camera, gain: float, image: np.ndarray, label: np.ndarray
) -> None:
    glasses = make_glasses(person, grid)
    if glasses is None:
        return
    view = look_at_plane(glasses.depth, grid, camera, image.shape[0])
    alpha = (view.color(glasses.alpha) * view.hit)[..., None]
    image *= 1 - alpha
    image += alpha * view.color(glasses.color) * np.float32(min(gain, 1.5))
    area = view.label(glasses.area.astype(np.uint8)).astype(bool) & view.hit
    if not glasses.opaque:
        area &= ~np.isin(label, _SEEN_THROUGH)
    label[area & (label != Region.HAIR) & (label != Region.HAT)] = Region.GLASSES


def _majority(label: np.ndarray, block: int) -> np.ndarray:
    """The most frequent label of each `block` x `block` cell; the lowest of equals."""
    size = label.shape[0] // block
    best = np.zeros((size, size), np.uint8)
    most = np.zeros((size, size), np.uint8)
    for region in np.unique(label):
        share = cv2.resize(
            (label == region).astype(np.uint8) * np.uint8(240), (size, size), interpolation=cv2.INTER_AREA
        )
        more = share > most
        best[more] = region
        most[more] = share[more]
    return best
