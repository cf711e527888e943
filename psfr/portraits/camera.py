"""The camera: pose of the head, the aligned crop, and the relief as the camera sees it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from psfr.portraits.fields import Grid
from psfr.portraits.head import eye_depth
from psfr.portraits.person import Person

_NEAR, _FAR = 1.95, -0.75
_STEPS = 27
_HALVINGS = 4


@dataclass(frozen=True)
class Camera:
    """A pose and a crop. Camera coordinates: x right, y down, z towards the camera, in eye distances, the head's origin at 0.

    rotation: 3x3 head to camera; distance of the camera; crop: picture half side and centre, and its axis (unit vector).
    """

    rotation: np.ndarray
    distance: float
    half_side: float
    centre: np.ndarray
    axis: np.ndarray

    def project(self, point: np.ndarray) -> np.ndarray:
        """Head coordinates (..., 3) to the camera's plane z = 0, (..., 2)."""
        seen = point @ self.rotation.T
        return seen[..., :2] / (1 - seen[..., 2:] / self.distance)

    def to_picture(self, plane: np.ndarray) -> np.ndarray:
        """Points of the plane z = 0, (..., 2), to picture coordinates in [0, 1]."""
        local = plane - self.centre
        across = np.stack([-self.axis[1:], self.axis[:1]], axis=-1)[0]
        return np.stack([local @ self.axis, local @ across], axis=-1) / (2 * self.half_side) + 0.5

    def rays(self, pixels: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the pixel centres of a `pixels` x `pixels` picture lie on the plane z = 0: x and y, float32 each."""
        at = (np.arange(pixels, dtype=np.float32) + 0.5) / pixels * 2 - 1
        u, v = (at * np.float32(self.half_side))[None, :], (at * np.float32(self.half_side))[:, None]
        centre, axis = self.centre.astype(np.float32), self.axis.astype(np.float32)
        return centre[0] + u * axis[0] - v * axis[1], centre[1] + u * axis[1] + v * axis[0]


def rotation_matrix(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Head-to-camera rotation of angles in degrees: positive yaw turns to the picture's right, pitch downwards."""
    a, b, c = np.radians([yaw, pitch, roll])
    turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    nod = np.array([[1, 0, 0], [0, np.cos(b), np.sin(b)], [0, -np.sin(b), np.cos(b)]])
    tip = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return tip @ nod @ turn


def aim(person: Person) -> Camera:
    """The camera whose picture is cropped as FFHQ and CelebA-HQ are: by the eyes and the corners of the mouth."""
    pose, mouth = person.pose, person.mouth
    rotation = rotation_matrix(pose.yaw, pose.pitch, 0.0)
    z_eye, z_mouth = eye_depth(person.head), eye_depth(person.head) + 0.12
    camera = Camera(rotation, pose.camera_distance, 1.0, np.zeros(2), np.array([1.0, 0.0]))
    eyes = camera.project(np.array([[-0.5, 0.0, z_eye], [0.5, 0.0, z_eye]]))
    lips = camera.project(
        np.array(
            [
                [-mouth.half_width, mouth.y - 0.1 * mouth.smile, z_mouth],
                [mouth.half_width, mouth.y - 0.1 * mouth.smile, z_mouth],
            ]
        )
    )
    eye_to_eye = eyes[1] - eyes[0]
    down = lips.mean(0) - eyes.mean(0)
    axis = eye_to_eye - np.array([-down[1], down[0]])
    axis /= np.linalg.norm(axis)
    half_side = max(np.linalg.norm(eye_to_eye) * 2.0, np.linalg.norm(down) * 1.8) / pose.zoom
    tilt = np.radians(pose.roll)
    axis = np.array([axis[0] * np.cos(tilt) - axis[1] * np.sin(tilt), axis[0] * np.sin(tilt) + axis[1] * np.cos(tilt)])
    centre = eyes.mean(0) + 0.065 * down + 2 * half_side * np.array(pose.shift)
    return Camera(rotation, pose.camera_distance, float(half_side), centre, axis)


@dataclass(frozen=True)
class View:
    """The relief seen by a camera: where each pixel hits it: columns `u` and rows `v` of the relief and height `z`, float32."""

    hit: np.ndarray
    u: np.ndarray
    v: np.ndarray
    z: np.ndarray

    def color(self, field: np.ndarray) -> np.ndarray:
        """`field` (H, W[, channels]) at each pixel, linearly interpolated."""
        return cv2.remap(field, self.u, self.v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def label(self, field: np.ndarray) -> np.ndarray:
        """`field` (H, W) at the nearest cell of each pixel."""
        return cv2.remap(field, self.u, self.v, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)


def _lines(camera: Camera, grid: Grid, pixels: int) -> tuple[np.ndarray, ...]:
    """Rays in head coordinates, as columns, rows and z of the relief: each a value at depth 0 and its slope in depth."""
    x, y = camera.rays(pixels)
    r = camera.rotation.astype(np.float32)
    near = np.float32(1 / camera.distance)
    base = [r[0, i] * x + r[1, i] * y for i in range(3)]
    slope = [r[2, i] - near * base[i] for i in range(3)]
    u0, u1 = grid.columns(base[0]), slope[0] / np.float32(grid.step[0])
    v0, v1 = grid.rows(base[1]), slope[1] / np.float32(grid.step[1])
    return u0.astype(np.float32), u1, v0.astype(np.float32), v1, base[2], slope[2]


def look_at(height: np.ndarray, grid: Grid, camera: Camera, pixels: int) -> View:
    """March the rays of a `pixels` x `pixels` picture towards the height field until each passes beneath it."""
    u0, u1, v0, v1, z0, z1 = _lines(camera, grid, pixels)

    def above(depth: np.ndarray | np.float32) -> np.ndarray:
        surface = cv2.remap(height, u0 + depth * u1, v0 + depth * v1, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return z0 + depth * z1 - surface

    step = np.float32((_NEAR - _FAR) / _STEPS)
    front = np.full_like(u0, _FAR)
    waiting = np.ones(u0.shape, bool)
    for k in range(1, _STEPS + 1):
        depth = np.float32(_NEAR) - k * step
        found = waiting & (above(depth) < 0)
        front[found] = depth
        waiting &= ~found
    low, high = front, front + step
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        beneath = above(middle) < 0
        low, high = np.where(beneath, middle, low), np.where(beneath, high, middle)
    u, v = u0 + low * u1, v0 + low * v1
    return View(~waiting, u, v, z0 + low * z1)


def look_at_plane(depth: float, grid: Grid, camera: Camera, pixels: int) -> View:
    """Where the rays meet the head's plane z = `depth`."""
    u0, u1, v0, v1, z0, z1 = _lines(camera, grid, pixels)
    t = (np.float32(depth) - z0) / z1
    u, v = u0 + t * u1, v0 + t * v1
    inside = (u > -0.5) & (u < grid.width - 0.5) & (v > -0.5) & (v < grid.height - 0.5)
    return View(inside, u, v, z0 + t * z1)
