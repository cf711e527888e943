"""Restore the faces of a photograph: find, align, restore and blend each."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from psfr.data import color, images
from psfr.metrics import identity
from psfr.photos import alignment, blending, detection
from psfr.photos.alignment import Frame
from psfr.photos.io import Photograph
from psfr.photos.levels import Levels, estimate_levels
from psfr.photos.strength import choose_strength, estimate_severity

# Maps an aligned face, uint8 RGB (S, S, 3), to its parsing map, uint8 (S, S), and the restored face, uint8 (S, S, 3).
RestoreFn = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class RestoredFace:
    """A restored face of a photograph.

    Args:
        frame: its position in the photograph.
        aligned: the face before restoration, uint8 RGB (S, S, 3).
        seg: its parsing map, uint8 (S, S).
        restored: the fully restored face, after twicing and at the photograph's levels and in its tint if there is one,
            uint8 RGB (S, S, 3).
        strength: with which it was blended into the photograph, from 0 to 1.
        severities: of the face's degradation in the photograph and in the result, as
            `psfr.photos.strength.estimate_severity` estimates it.
        identity_distance: between the face in the photograph and in the result, as `psfr.metrics.identity` computes it.
    """

    frame: Frame
    aligned: np.ndarray
    seg: np.ndarray
    restored: np.ndarray
    strength: float
    severities: tuple[float, float]
    identity_distance: float


def restore(
    photograph: Photograph,
    restore_fn: RestoreFn,
    size: int,
    scale: int,
    strength: float | None = None,
    twicing: bool = False,
) -> tuple[Photograph, list[RestoredFace]]:
    """Restore every face of a photograph.

    Args:
        photograph: any number of faces, at any rotation.
        restore_fn: restores an aligned face, as `psfr.photos.restorer.Restorer` does.
        size: side length of the aligned faces that `restore_fn` takes.
        scale: factor by which the result is larger than the photograph.
        strength: weight of the change, from 0 (no change) to 1 (full restoration), or None to choose it for each face
            by how degraded it is, see `psfr.photos.strength`.
        twicing: whether to call `apply_twicing`.

    Returns:
        The result, which differs from the (upscaled) photograph only in the faces, and the faces, the largest first.

    Raises:
        UserError: the result would be too large, or dlib's files are missing or damaged.
    """
    image = photograph.to_rgb8()
    result = photograph.upscaled(scale)
    frames = detection.find_faces(image)
    faces: list[tuple[Frame, np.ndarray, np.ndarray, np.ndarray, float, Levels]] = []
    for frame in frames:
        aligned = alignment.crop(image, frame, size)
        visible = alignment.inside(frame, image.shape, size)
        change = estimate_levels(aligned, visible)
        normal = change.apply(aligned)
        seg, restored = restore_aligned(normal, restore_fn, twicing)
        others = [other for other in frames if other is not frame]
        other_faces = np.array([[frame.to_unit(other.center), other.size / frame.size] for other in others])
        alpha = blending.blend_mask(seg, other_faces, visible)
        weight = choose_strength(estimate_severity(normal)) if strength is None else strength
        delta = weight * blending.residual(normal, restored, alpha) / np.float32(change.gain)
        blending.blend(result.pixels, delta, frame.scaled(scale))
        faces.append((frame, aligned, seg, restored, weight, change))
    # The faces are measured last: the residual of an adjacent face may reach into the frame.
    restored_faces = []
    for frame, aligned, seg, restored, weight, change in faces:
        both = aligned, _crop_result(result, frame.scaled(scale), size)
        before, after = (estimate_severity(change.apply(face)) for face in both)
        distance = _identity_distance(image, result, frame, scale)
        restored_faces.append(
            RestoredFace(frame, aligned, seg, change.revert(aligned, restored), weight, (before, after), distance)
        )
    return result, restored_faces


def restore_aligned(aligned: np.ndarray, restore_fn: RestoreFn, twicing: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return parsing map and fully restored face. A monochrome face is restored in grayscale and tinted again."""
    tint = blending.detect_tint(aligned)
    seg, restored = restore_fn(aligned if tint is None else images.gray(aligned))
    if twicing:
        restored = apply_twicing(restore_fn, restored)
    if tint is not None:
        restored = tint.apply(aligned, restored)
    return seg, restored


def apply_twicing(restore_fn: RestoreFn, restored: np.ndarray) -> np.ndarray:
    """Add to a restored face what a second restoration removes from it (twicing; Tukey, 1977).

    The restored face is already sharp, so what the second restoration removes is the network's own error, which is an
    estimate of its error in the first restoration.

    Args:
        restore_fn: the function that restored the face.
        restored: uint8 RGB (S, S, 3).

    Returns:
        uint8 RGB (S, S, 3): 2 * restored - restore_fn(restored), clipped.
    """
    return np.clip(2 * restored.astype(np.int16) - restore_fn(restored)[1], 0, 255).astype(np.uint8)


def _identity_distance(image: np.ndarray, result: Photograph, frame: Frame, scale: int) -> float:
    aligned = alignment.crop(image, frame, identity.SIZE)
    restored = _crop_result(result, frame.scaled(scale), identity.SIZE)
    visible = alignment.inside(frame, image.shape, identity.SIZE)[:, :, None]
    aligned, restored = (np.where(visible, face, np.uint8(0)) for face in (aligned, restored))  # nothing mirrored
    return identity.embedding_distances(aligned, [restored], detection.identity_models())[0]


def _crop_result(result: Photograph, frame: Frame, size: int) -> np.ndarray:
    """Return a face of the result as uint8 RGB (size, size, 3)."""
    return color.to_8_bits(alignment.crop(result.pixels, frame, size))
