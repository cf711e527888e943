"""Blend a restored face into its photograph, keeping the photograph's illumination and colors, or its single tint.

What is added is the residual (restored minus aligned face), not the restored image, so detail finer than the network's
resolution stays. Low frequencies of the residual, which change illumination and color, are removed, and the residual
fades to zero outside the head.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage

from psfr.data import labels
from psfr.photos.alignment import Frame, ellipse, uncrop, window
from psfr.photos.levels import LUMINANCE

# Only the head is blended: training images rarely show clothes and background sharp enough to learn them.
_NOT_HEAD = ("background", "cloth", "necklace", "neck", "hat", "ear_ring")
HEAD_LABELS = [index for index, name in enumerate(labels.NAMES) if name not in _NOT_HEAD]

# A pixel is head if its probability is at least 0.95 in a good photograph, at least 0.5 in a degraded one; the limit is
# interpolated in between. Parsing networks take background for hair, though rarely surely so: in a good photograph,
# restoring it would blur what is sharp. In a degraded one, the higher limit would leave hair unrestored.
SEVERITIES = (0.2, 0.5)
MIN_HEAD_PROBABILITIES = (0.95, 0.5)

# Lengths are fractions of the frame's side; sigmas are standard deviations of Gaussian filters.
EDGE_SIGMA = 1 / 40  # of the mask's edge
BORDER_WIDTH = 1 / 8  # the mask fades to 0 within this distance of the frame's border
MIN_HEAD_AREA = 0.05  # if less than this fraction of the frame is head, an ellipse replaces it
LOW_FREQ_SIGMA = 1 / 6  # luminance changes slower than this are illumination
LOW_FREQ_CHROMA_SIGMA = 1 / 16  # chroma changes slower than this are color
CHROMA_SIGMA = 1 / 64  # of the blur of chroma: networks add color fringes, and eyes resolve chroma less finely

TINT_SIZE = 16  # the tint is estimated on a face of 16x16 pixels, which averages noise
TINT_BANDWIDTH = 3.0  # of the kernel regression of the tint, in levels of luminance
# A face has a single tint if 90 % of its pixels deviate from it by at most this, in levels. Of the faces measured,
# color photographs deviate by 7.5 or more, 19 of 20 sepia photographs by less than 7.
MAX_TINT_DEVIATION = 7.0


@dataclass(frozen=True)
class MonochromeTint:
    """The color of each luminance in a monochrome photograph, such as grayscale or sepia.

    Args:
        offsets: float32 (256, 3), RGB minus luminance for each luminance of 0 to 255.
    """

    offsets: np.ndarray

    def apply(self, aligned: np.ndarray, restored: np.ndarray) -> np.ndarray:
        """Return the restored face in this tint.

        Args:
            aligned: the aligned face in its tint, uint8 RGB (S, S, 3).
            restored: the restored face in grayscale, uint8 RGB (S, S, 3).

        Returns:
            uint8 RGB (S, S, 3).
        """
        lq_luminance, luminance = aligned @ LUMINANCE, restored @ LUMINANCE
        change = (luminance - lq_luminance)[:, :, None]
        tinted = aligned + change + self._offsets_at(luminance) - self._offsets_at(lq_luminance)
        return np.rint(np.clip(tinted, 0, 255)).astype(np.uint8)

    def _offsets_at(self, luminance: np.ndarray) -> np.ndarray:
        channels = [np.interp(luminance, np.arange(256), channel) for channel in self.offsets.T]
        return np.stack(channels, 2).astype(np.float32)


def detect_tint(aligned: np.ndarray) -> MonochromeTint | None:
    """Return the tint of a monochrome face, uint8 RGB (S, S, 3), or None for a face with several colors."""
    small = cv2.resize(aligned, (TINT_SIZE, TINT_SIZE), interpolation=cv2.INTER_AREA).astype(np.float32).reshape(-1, 3)
    luminance = small @ LUMINANCE
    offsets = small - luminance[:, None]
    distance = np.abs(np.arange(256)[:, None] - luminance) / TINT_BANDWIDTH
    # The second kernel extrapolates to luminances that no pixel has.
    weights = np.exp(-0.5 * distance**2) + 1e-6 * np.exp(-distance / 10)
    curve = (weights @ offsets / weights.sum(1, keepdims=True)).astype(np.float32)
    predicted = curve[np.clip(np.rint(luminance), 0, 255).astype(int)]
    deviation = np.abs(offsets - predicted).max(1)
    return MonochromeTint(curve) if np.quantile(deviation, 0.9) <= MAX_TINT_DEVIATION else None


def select_head(probability: np.ndarray, severity: float) -> np.ndarray:
    """Return which pixels belong to the head, bool (S, S).

    Args:
        probability: of each pixel to belong to it, as the parsing network predicts it, float32 (S, S).
        severity: how degraded the face is, as `psfr.photos.strength.estimate_severity` estimates it.
    """
    return probability >= np.interp(severity, SEVERITIES, MIN_HEAD_PROBABILITIES)


def blend_mask(head: np.ndarray, other_faces: np.ndarray, visible: np.ndarray | None = None) -> np.ndarray:
    """Return the weight of a restored face at each pixel, float32 (S, S) in [0, 1].

    Args:
        head: which pixels belong to the head, bool (S, S).
        other_faces: complex (n, 2): center and size of the frame of each other face, in unit coordinates of this
            frame. Each pixel belongs to the nearest face, relative to its size.
        visible: which pixels lie in the photograph, bool (S, S); None for all. The others, which are mirrored, have
            weight 0 and no effect on the weights of the rest.
    """
    size = len(head)
    visible = np.ones((size, size), bool) if visible is None else visible
    row, column = np.mgrid[0:size, 0:size]
    points = (column + 0.5 + 1j * (row + 0.5)) / size
    head = head & visible
    for center, other_size in other_faces:
        head &= np.abs(points - (0.5 + 0.5j)) <= np.abs(points - center) / abs(other_size)
    components = np.zeros(head.shape, np.int32)
    ndimage.label(head, output=components)
    if components.any():
        head = components == 1 + np.argmax(np.bincount(components.ravel())[1:])
    if head.sum() < MIN_HEAD_AREA * visible.sum():
        head = ellipse(size, 0.5, 0.58, 0.25, 0.32)
    head = np.asarray(ndimage.binary_fill_holes(head)) & visible
    blurred = cv2.GaussianBlur(head.astype(np.float32), (0, 0), size * EDGE_SIGMA)
    if not visible.all():  # the border of the photograph is no edge of the head
        blurred = head * blurred / (cv2.GaussianBlur(visible.astype(np.float32), (0, 0), size * EDGE_SIGMA) + 1e-6)
    alpha = np.clip(2 * blurred - 1, 0, 1)  # 0 on the head's outline, so that the edge lies inside the head
    distance = np.minimum.reduce([points.real, 1 - points.real, points.imag, 1 - points.imag]) - 0.5 / size
    border = np.clip(distance / BORDER_WIDTH, 0, 1)
    return (alpha * border**2 * (3 - 2 * border)).astype(np.float32)


def residual(aligned: np.ndarray, restored: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return what restoration adds to an aligned face, without changes of illumination and color.

    Args:
        aligned: uint8 RGB (S, S, 3).
        restored: uint8 RGB (S, S, 3).
        alpha: the mask of `blend_mask`, float32 (S, S).

    Returns:
        float32 (S, S, 3) in levels, multiplied by the mask.
    """
    delta = restored.astype(np.float32) - aligned
    luminance = np.repeat((delta @ LUMINANCE)[:, :, None], 3, axis=2)
    chroma = _masked_blur(delta - luminance, alpha, CHROMA_SIGMA)
    illumination = _masked_blur(luminance, alpha, LOW_FREQ_SIGMA)
    color = _masked_blur(chroma, alpha, LOW_FREQ_CHROMA_SIGMA)
    return (luminance - illumination + chroma - color) * alpha[:, :, None]


def _masked_blur(delta: np.ndarray, alpha: np.ndarray, sigma: float) -> np.ndarray:
    """Return the local mean of (S, S, 3), weighted by the mask; `sigma` is a fraction of S."""
    pixels = sigma * len(alpha)
    weighted = cv2.GaussianBlur(delta * alpha[:, :, None], (0, 0), pixels)
    return weighted / (cv2.GaussianBlur(alpha, (0, 0), pixels)[:, :, None] + 1e-3)


def blend(image: np.ndarray, delta: np.ndarray, frame: Frame) -> None:
    """Add a residual to an image at the position of its frame, in place.

    Args:
        image: uint8 or uint16 RGB (H, W, 3).
        delta: float32 (S, S, 3) in levels of 0 to 255.
    """
    rows, columns = window(frame, image.shape)
    part, frame = image[rows, columns], frame.translated(columns.start, rows.start)
    level = np.float32(257 if image.dtype == np.uint16 else 1)
    blended = part + level * uncrop(delta, frame, part.shape)
    part[:] = np.rint(np.clip(blended, 0, 255 * level))
