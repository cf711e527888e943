"""FFHQ's frame: the square that training images show of a face, and the way of a photograph's pixels into it.

Karras et al. (StyleGAN, 2019, and ProGAN, 2017, appendix C) lay it by the eyes and the corners of the mouth: upright along both, centred a little
below the eyes, as wide as the eyes' or the mouth's distance asks for. Their constants, 2.0, 1.8 and 0.1, belong to other landmarks than dlib's;
ours are measured so that faces that are aligned already stay in their place in the mean: `python -m benchmarks.frame FOLDER`, here on
689 faces of CelebA-HQ.

Places are complex numbers x + iy in pixels of the photograph, the centre of its first pixel at 0.5 + 0.5i, so that they scale with its size.
"""

from dataclasses import dataclass

import cv2
import numpy as np

# Half a side of the frame is the larger of these times the distance between the eyes, and from the eyes to the mouth.
EYES, MOUTH = 2.019, 1.817
# Its centre lies so far on the way from the eyes to the mouth.
CENTRE = 0.069

# Where the left and right eye and the left and right corner of the mouth lie in the frame on average, its side being 1.
MEAN = np.array([0.3796 + 0.4823j, 0.6223 + 0.4828j, 0.3916 + 0.7354j, 0.6107 + 0.7357j])


@dataclass(frozen=True)
class Frame:
    """A square in a photograph, turned: `corner` is its upper left one, `side` the way from there to the upper right one."""

    corner: complex
    side: complex

    def places(self, unit: np.ndarray) -> np.ndarray:
        """Places in the photograph of places in the frame (complex, the frame's side being 1)."""
        return self.corner + self.side * np.asarray(unit)

    def unit(self, places: np.ndarray) -> np.ndarray:
        """Places in the frame, its side being 1, of places in the photograph."""
        return (np.asarray(places) - self.corner) / self.side

    @property
    def size(self) -> float:
        """Pixels a side in the photograph."""
        return abs(self.side)

    @property
    def centre(self) -> complex:
        return complex(self.places(0.5 + 0.5j))

    def scaled(self, times: float) -> "Frame":
        """The same square in the photograph enlarged so many times."""
        return Frame(self.corner * times, self.side * times)

    def moved(self, x: int, y: int) -> "Frame":
        """The same square in the part of the photograph that begins at column x and row y."""
        return Frame(self.corner - complex(x, y), self.side)


def frame(points: np.ndarray) -> Frame:
    """The frame of a face by its left and right eye and its left and right corner of the mouth (as the viewer sees them), complex (4,)."""
    left, right, mouth_left, mouth_right = points
    eyes, eye_to_eye = (left + right) / 2, right - left
    eye_to_mouth = (mouth_left + mouth_right) / 2 - eyes
    across = eye_to_eye - 1j * eye_to_mouth
    half = across / max(abs(across), 1e-9) * max(EYES * abs(eye_to_eye), MOUTH * abs(eye_to_mouth), 1e-3)
    return Frame(complex(eyes + CENTRE * eye_to_mouth - half * (1 + 1j)), complex(2 * half))


def matrix(corner: complex, side: complex, size: int) -> np.ndarray:
    """OpenCV's matrix (2, 3) from pixel indices in a frame of `size` pixels a side to pixel indices in the photograph."""
    step = side / size
    start = corner + step * (0.5 + 0.5j) - (0.5 + 0.5j)
    return np.array([[step.real, -step.imag, start.real], [step.imag, step.real, start.imag]])


def crop(picture: np.ndarray, of: Frame, size: int) -> np.ndarray:
    """What a frame shows, as (size, size, ...); beyond its edge the photograph is mirrored.

    Args:
        picture: uint8 or uint16 (H, W, 3) or (H, W).
    """
    rows, columns = window(of, picture.shape[:2])
    picture, of = picture[rows, columns], of.moved(columns.start, rows.start)
    # Reduced, it is taken at a multiple of the size, whose pixels are then averaged.
    times = max(1, int(np.ceil(of.size / size - 0.01)))
    taken = size * times
    # OpenCV mirrors step by step: of a strip too narrow for a face it would never end.
    border = cv2.BORDER_REFLECT_101 if min(picture.shape[:2]) > max(2, of.size / 16) else cv2.BORDER_REPLICATE
    wide = cv2.warpAffine(
        picture,
        matrix(of.corner, of.side, taken),
        (taken, taken),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=border,
    )
    return wide if times == 1 else cv2.resize(wide, (size, size), interpolation=cv2.INTER_AREA)


def window(of: Frame, shape: tuple[int, int]) -> tuple[slice, slice]:
    """The rows and columns of a picture of `shape` (H, W) that a frame reaches; of a frame beyond it, those nearest."""
    corners = of.places(np.array([0, 1, 1j, 1 + 1j]))
    ranges = []
    for values, length in ((corners.imag, shape[0]), (corners.real, shape[1])):
        start = int(np.clip(np.floor(values.min()) - 2, 0, length - 1))
        ranges.append(slice(start, int(np.clip(np.ceil(values.max()) + 2, start + 1, length))))
    return ranges[0], ranges[1]


def uncrop(square: np.ndarray, of: Frame, shape: tuple[int, int]) -> np.ndarray:
    """`square`, float32 (S, S, ...), laid where the frame is in a picture of `shape` (H, W): 0 beyond it, averaged where it shrinks."""
    size = min(len(square), max(1, round(of.size)))
    if size < len(square):
        square = cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA)
    height, width = shape
    return cv2.warpAffine(
        square,
        matrix(of.corner, of.side, size),
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
    )
