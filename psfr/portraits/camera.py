"""Camera: head pose, aligned crop, and ray marching of the height field."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from psfr.portraits.grid import Grid
from psfr.portraits.head import eye_depth
from psfr.portraits.person import Person

# Ray marching covers the depths of the head, in camera coordinates.
_NEAR, _FAR = 1.95, -0.75
_NUM_STEPS = 27
_NUM_BISECTIONS = 4


@dataclass(frozen=True)
class Camera:
    """Perspective camera with a square crop.

    Camera coordinates: x right, y down, z toward the camera, in eye distances, with the origin of the head at 0.

    Attributes:
        rotation: head-to-camera rotation, (3, 3).
        distance: distance of the camera from the origin.
        half_side: half the side of the crop on the plane z = 0.
        center: center of the crop on the plane z = 0, (2,).
        axis: unit vector of the crop's x axis, (2,).
    """

    rotation: np.ndarray
    distance: float
    half_side: float
    center: np.ndarray
    axis: np.ndarray

    def project(self, point: np.ndarray) -> np.ndarray:
        """Project head coordinates (..., 3) onto the plane z = 0 of the camera, (..., 2)."""
        rotated = point @ self.rotation.T
        return rotated[..., :2] / (1 - rotated[..., 2:] / self.distance)

    def to_image(self, plane: np.ndarray) -> np.ndarray:
        """Convert points (..., 2) of the plane z = 0 to image coordinates in [0, 1]."""
        local = plane - self.center
        normal = np.stack([-self.axis[1:], self.axis[:1]], axis=-1)[0]
        return np.stack([local @ self.axis, local @ normal], axis=-1) / (2 * self.half_side) + 0.5

    def pixel_positions(self, pixels: int) -> tuple[np.ndarray, np.ndarray]:
        """Return x and y on the plane z = 0 of the pixel centers, float32 (pixels, pixels) each."""
        offset = (np.arange(pixels, dtype=np.float32) + 0.5) / pixels * 2 - 1
        u, v = (offset * np.float32(self.half_side))[None, :], (offset * np.float32(self.half_side))[:, None]
        center, axis = self.center.astype(np.float32), self.axis.astype(np.float32)
        return center[0] + u * axis[0] - v * axis[1], center[1] + u * axis[1] + v * axis[0]


def rotation_matrix(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Return the head-to-camera rotation, (3, 3); angles in degrees, signs as in `person.Pose`."""
    a, b, c = np.radians([yaw, pitch, roll])
    yaw_matrix = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    pitch_matrix = np.array([[1, 0, 0], [0, np.cos(b), np.sin(b)], [0, -np.sin(b), np.cos(b)]])
    roll_matrix = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return roll_matrix @ pitch_matrix @ yaw_matrix


def camera_for(person: Person) -> Camera:
    """Return the camera of a portrait, cropped by eyes and mouth corners as FFHQ and CelebA-HQ are."""
    pose, mouth = person.pose, person.mouth
    rotation = rotation_matrix(pose.yaw, pose.pitch, 0.0)
    z_eye, z_mouth = eye_depth(person.head), eye_depth(person.head) + 0.12
    camera = Camera(rotation, pose.camera_distance, 1.0, np.zeros(2), np.array([1.0, 0.0]))
    eyes = camera.project(np.array([[-0.5, 0.0, z_eye], [0.5, 0.0, z_eye]]))
    corner_y = mouth.y - 0.1 * mouth.smile
    mouth_corners = camera.project(
        np.array([[-mouth.half_width, corner_y, z_mouth], [mouth.half_width, corner_y, z_mouth]])
    )
    eye_to_eye = eyes[1] - eyes[0]
    eye_to_mouth = mouth_corners.mean(0) - eyes.mean(0)
    axis = eye_to_eye - np.array([-eye_to_mouth[1], eye_to_mouth[0]])
    axis /= np.linalg.norm(axis)
    half_side = max(np.linalg.norm(eye_to_eye) * 2.0, np.linalg.norm(eye_to_mouth) * 1.8) / pose.zoom
    roll = np.radians(pose.roll)
    axis = np.array([axis[0] * np.cos(roll) - axis[1] * np.sin(roll), axis[0] * np.sin(roll) + axis[1] * np.cos(roll)])
    center = eyes.mean(0) + 0.065 * eye_to_mouth + 2 * half_side * np.array(pose.shift)
    return Camera(rotation, pose.camera_distance, float(half_side), center, axis)


@dataclass(frozen=True)
class View:
    """Points of a grid at which the rays of a square image arrive.

    Attributes:
        hit: bool (pixels, pixels), whether the ray hits.
        u, v: float32 (pixels, pixels), fractional column and row of the grid.
        z: float32 (pixels, pixels), z of the point in head coordinates.
    """

    hit: np.ndarray
    u: np.ndarray
    v: np.ndarray
    z: np.ndarray

    def sample(self, values: np.ndarray) -> np.ndarray:
        """Return `values` (H, W[, channels]) at each pixel, bilinearly interpolated."""
        return cv2.remap(values, self.u, self.v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def sample_nearest(self, values: np.ndarray) -> np.ndarray:
        """Return `values` (H, W) of the cell nearest to each pixel."""
        return cv2.remap(values, self.u, self.v, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)


def _ray_coefficients(camera: Camera, grid: Grid, pixels: int) -> tuple[np.ndarray, ...]:
    """Return the rays as functions of depth: u0, u1 (column u0 + depth * u1), v0, v1 (row), z0, z1 (head z)."""
    x, y = camera.pixel_positions(pixels)
    r = camera.rotation.astype(np.float32)
    inverse_distance = np.float32(1 / camera.distance)
    base = [r[0, i] * x + r[1, i] * y for i in range(3)]
    slope = [r[2, i] - inverse_distance * base[i] for i in range(3)]
    u0, u1 = grid.columns(base[0]), slope[0] / np.float32(grid.step[0])
    v0, v1 = grid.rows(base[1]), slope[1] / np.float32(grid.step[1])
    return u0.astype(np.float32), u1, v0.astype(np.float32), v1, base[2], slope[2]


def raymarch(height: np.ndarray, grid: Grid, camera: Camera, pixels: int) -> View:
    """Intersect the rays of a `pixels` x `pixels` image with the surface `height` (H, W): fixed steps, bisection."""
    u0, u1, v0, v1, z0, z1 = _ray_coefficients(camera, grid, pixels)

    def clearance(depth: np.ndarray | np.float32) -> np.ndarray:
        surface = cv2.remap(height, u0 + depth * u1, v0 + depth * v1, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return z0 + depth * z1 - surface

    step = np.float32((_NEAR - _FAR) / _NUM_STEPS)
    low = np.full_like(u0, _FAR)
    active = np.ones(u0.shape, bool)
    for k in range(1, _NUM_STEPS + 1):
        depth = np.float32(_NEAR) - k * step
        below = active & (clearance(depth) < 0)
        low[below] = depth
        active &= ~below
    high = low + step
    for _ in range(_NUM_BISECTIONS):
        middle = 0.5 * (low + high)
        below = clearance(middle) < 0
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    u, v = u0 + low * u1, v0 + low * v1
    return View(~active, u, v, z0 + low * z1)


def intersect_plane(depth: float, grid: Grid, camera: Camera, pixels: int) -> View:
    """Intersect the rays of a `pixels` x `pixels` image with the plane z = `depth` of the head."""
    u0, u1, v0, v1, z0, z1 = _ray_coefficients(camera, grid, pixels)
    t = (np.float32(depth) - z0) / z1
    u, v = u0 + t * u1, v0 + t * v1
    inside = (u > -0.5) & (u < grid.width - 0.5) & (v > -0.5) & (v < grid.height - 0.5)
    return View(inside, u, v, z0 + t * z1)
