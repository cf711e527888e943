"""FFHQ alignment: the square crop ("frame") of a face, and the transform between frame and photograph.

The frame follows Karras et al. (ProGAN, 2018, appendix C; StyleGAN, 2019): upright along the eyes and the mouth,
centered slightly below the eyes, sized by the distance between the eyes or from the eyes to the mouth. Their constants
2.0, 1.8 and 0.1 are for other landmarks than dlib's. The constants below are fitted to 689 aligned faces of CelebA-HQ,
so that the frame of an aligned face is the whole image on average (`python -m benchmarks.frame FOLDER`).

Points are complex numbers x + iy in pixels of the photograph. The center of the first pixel is 0.5 + 0.5i, so that
points scale with the image.
"""

from dataclasses import dataclass

import cv2
import numpy as np

# Half the side of the frame is the larger of EYE_SCALE times the distance between the eyes and MOUTH_SCALE times the
# distance from the eyes to the mouth.
EYE_SCALE, MOUTH_SCALE = 2.019, 1.817
# Position of the center of the frame on the line from the eyes (0) to the mouth (1).
CENTER_SHIFT = 0.069


@dataclass(frozen=True)
class Frame:
    """A rotated square in a photograph.

    Args:
        corner: the upper left corner.
        side: the vector from the upper left to the upper right corner.
    """

    corner: complex
    side: complex

    def to_image(self, points: complex | np.ndarray) -> np.ndarray:
        """Convert points from unit coordinates of the frame (side length 1) to pixels of the photograph."""
        return self.corner + self.side * np.asarray(points)

    def to_unit(self, points: complex | np.ndarray) -> np.ndarray:
        """Convert points from pixels of the photograph to unit coordinates of the frame (side length 1)."""
        return (np.asarray(points) - self.corner) / self.side

    @property
    def size(self) -> float:
        """Side length in pixels of the photograph."""
        return abs(self.side)

    @property
    def center(self) -> complex:
        """Center in pixels of the photograph."""
        return complex(self.to_image(0.5 + 0.5j))

    @property
    def corners(self) -> np.ndarray:
        """Corners in pixels of the photograph, (x, y) each, float (4, 2), clockwise from the face's upper left one."""
        points = self.to_image(np.array([0, 1, 1 + 1j, 1j]))
        return np.stack([np.real(points), np.imag(points)], axis=1)

    def scaled(self, factor: float) -> "Frame":
        """Return the same square in the photograph resized by `factor`."""
        return Frame(self.corner * factor, self.side * factor)

    def translated(self, x: int, y: int) -> "Frame":
        """Return the same square in a crop of the photograph whose first column is `x` and first row `y`."""
        return Frame(self.corner - complex(x, y), self.side)


def estimate_frame(points: np.ndarray) -> Frame:
    """Return the FFHQ frame of a face.

    Args:
        points: complex (4,): left eye, right eye, left and right corner of the mouth, as the viewer sees them.
    """
    left_eye, right_eye, mouth_left, mouth_right = points
    eyes, eye_to_eye = (left_eye + right_eye) / 2, right_eye - left_eye
    eye_to_mouth = (mouth_left + mouth_right) / 2 - eyes
    direction = eye_to_eye - 1j * eye_to_mouth
    length = max(EYE_SCALE * abs(eye_to_eye), MOUTH_SCALE * abs(eye_to_mouth), 1e-3)
    half = direction / max(abs(direction), 1e-9) * length
    return Frame(complex(eyes + CENTER_SHIFT * eye_to_mouth - half * (1 + 1j)), complex(2 * half))


def affine_matrix(frame: Frame, size: int) -> np.ndarray:
    """Return OpenCV's affine matrix (2, 3) from pixel indices of a (size, size) crop to those of the photograph."""
    step = frame.side / size
    offset = frame.corner + step * (0.5 + 0.5j) - (0.5 + 0.5j)
    return np.array([[step.real, -step.imag, offset.real], [step.imag, step.real, offset.imag]])


def crop(image: np.ndarray, frame: Frame, size: int) -> np.ndarray:
    """Return the content of a frame as (size, size, ...). Beyond the border, the image is mirrored.

    Args:
        image: uint8 or uint16 (H, W, 3) or (H, W).
    """
    rows, columns = window(frame, image.shape)
    image, frame = image[rows, columns], frame.translated(columns.start, rows.start)
    # To reduce, sample at a multiple of the size and average the pixels.
    factor = max(1, int(np.ceil(frame.size / size - 0.01)))
    sampled_size = size * factor
    # OpenCV mirrors step by step, which never ends in a strip much narrower than the frame.
    border = cv2.BORDER_REFLECT_101 if min(image.shape[:2]) > max(2, frame.size / 16) else cv2.BORDER_REPLICATE
    sampled = cv2.warpAffine(
        image,
        affine_matrix(frame, sampled_size),
        (sampled_size, sampled_size),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=border,
    )
    return sampled if factor == 1 else cv2.resize(sampled, (size, size), interpolation=cv2.INTER_AREA)


def inside(frame: Frame, shape: tuple[int, ...], size: int) -> np.ndarray:
    """Return which pixels of the (size, size) crop of a frame lie in an image of `shape` (H, W, ...), bool."""
    return contains(_pixels(frame, size), shape)


def below_image(frame: Frame, shape: tuple[int, ...], size: int) -> np.ndarray:
    """Return which pixels of the (size, size) crop of a frame lie beyond the border that the chin points to, bool.

    Args:
        shape: of the image, (H, W, ...).
    """
    points = _pixels(frame, size)
    down = 1j * frame.side
    if abs(down.real) > abs(down.imag):
        return np.real(points) > shape[1] if down.real > 0 else np.real(points) < 0
    return np.imag(points) > shape[0] if down.imag > 0 else np.imag(points) < 0


def _pixels(frame: Frame, size: int) -> np.ndarray:
    """Return the centers of the pixels of the crop of a frame in the image, complex (size, size)."""
    row, column = (np.mgrid[0:size, 0:size] + 0.5) / size
    return frame.to_image(column + 1j * row)


def ellipse(size: int, x: float, y: float, half_width: float, half_height: float) -> np.ndarray:
    """Return which pixels of a crop lie in an ellipse, bool (size, size).

    Args:
        x, y, half_width, half_height: center and half axes, as fractions of the side.
    """
    row, column = (np.mgrid[0:size, 0:size] + 0.5) / size
    return ((column - x) / half_width) ** 2 + ((row - y) / half_height) ** 2 < 1


def contains(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return which points, in pixels, lie in an image of `shape` (H, W, ...)."""
    height, width = shape[:2]
    x, y = np.real(points), np.imag(points)
    return (x >= 0) & (x <= width) & (y >= 0) & (y <= height)


def window(frame: Frame, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return the rows and columns of an image of `shape` (H, W, ...) that a frame covers, with a margin of 2 pixels.

    For a frame outside the image, these are the nearest row or column. They are never empty.
    """
    corners = frame.to_image(np.array([0, 1, 1j, 1 + 1j]))
    return _clipped_range(np.imag(corners), shape[0]), _clipped_range(np.real(corners), shape[1])


def _clipped_range(coordinates: np.ndarray, length: int) -> slice:
    start = int(np.clip(np.floor(coordinates.min()) - 2, 0, length - 1))
    stop = int(np.clip(np.ceil(coordinates.max()) + 2, start + 1, length))
    return slice(start, stop)


def uncrop(patch: np.ndarray, frame: Frame, shape: tuple[int, ...]) -> np.ndarray:
    """Warp the content of a frame back into the photograph: the inverse of `crop`.

    Args:
        patch: float32 (S, S, ...).
        shape: height and width of the photograph.

    Returns:
        float32 (H, W, ...), 0 outside the frame. A patch larger than its frame is reduced with an area filter first.
    """
    size = min(len(patch), max(1, round(frame.size)))
    if size < len(patch):
        patch = cv2.resize(patch, (size, size), interpolation=cv2.INTER_AREA)
    height, width = shape[:2]
    return cv2.warpAffine(
        patch,
        affine_matrix(frame, size),
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
    )
