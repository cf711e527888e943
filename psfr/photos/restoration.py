"""Restore the faces of a photograph: find, align, restore and blend each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from psfr.data import color, images
from psfr.data.resize import resize_image
from psfr.metrics import identity
from psfr.photos import alignment, blending, detection
from psfr.photos.alignment import Frame
from psfr.photos.io import EnlargeFn, Photograph
from psfr.photos.levels import Levels, estimate_levels
from psfr.photos.selection import Selection
from psfr.photos.strength import choose_strength, estimate_severity
from psfr.utils.errors import UserError

ImageT = TypeVar("ImageT", np.ndarray, Image.Image, Photograph)


class Prediction(NamedTuple):
    """What the networks predict for an aligned face.

    Args:
        seg: its parsing map, uint8 (S, S).
        restored: the restored face, uint8 RGB (S, S, 3).
        head_probability: of each pixel to belong to the head, see `blending.HEAD_LABELS`, float32 (S, S).
    """

    seg: np.ndarray
    restored: np.ndarray
    head_probability: np.ndarray


RestoreFn = Callable[[np.ndarray], Prediction]  # of an aligned face, uint8 RGB (S, S, 3)


@dataclass(frozen=True)
class RestoredFace:
    """A restored face of a photograph.

    Args:
        frame: its position in the photograph.
        aligned: the face before restoration, uint8 RGB (S, S, 3).
        seg, head_probability: see `Prediction`.
        restored: the fully restored face, after twicing and at the photograph's levels and in its tint if there is one,
            uint8 RGB (S, S, 3).
        strength: with which it was blended into the photograph, from 0 to 1.
        severities: of the face's degradation in the photograph and in the result, as
            `psfr.photos.strength.estimate_severity` estimates it.
        identity_distance: between the face in the photograph and in the result, as `psfr.metrics.identity` computes it.
        number: of the face in the photograph, see `psfr.photos.selection`.
    """

    frame: Frame
    aligned: np.ndarray
    seg: np.ndarray
    head_probability: np.ndarray
    restored: np.ndarray
    strength: float
    severities: tuple[float, float]
    identity_distance: float
    number: int


@dataclass(frozen=True)
class Restoration(Generic[ImageT]):
    """A restored photograph.

    Args:
        image: the result.
        faces: the faces that were restored, the largest first: each with its `frame` in the photograph, and the
            `identity_distance` between the face before and after.
        num_found: number of all faces that were found.
    """

    image: ImageT
    faces: list[RestoredFace]
    num_found: int


@dataclass(frozen=True)
class _Face:
    """A face between restoration and measurement; `normal` and `prediction` are at the levels of `change`."""

    aligned: np.ndarray
    normal: np.ndarray
    prediction: Prediction
    severity: float
    strength: float
    change: Levels


def restore(
    photograph: Photograph,
    restore_fn: RestoreFn,
    size: int,
    scale: int,
    strength: float | None = None,
    twicing: bool = False,
    selection: Selection | None = None,
    background: EnlargeFn | None = None,
) -> Restoration[Photograph]:
    """Restore the faces of a photograph.

    Args:
        photograph: any number of faces, at any rotation.
        restore_fn: restores an aligned face, as `psfr.photos.restorer.Restorer` does.
        size: side length of the aligned faces that `restore_fn` takes.
        scale: factor by which the result is larger than the photograph.
        strength: weight of the change, from 0 (no change) to 1 (full restoration), or None to choose it for each face
            by how degraded it is, see `psfr.photos.strength`.
        twicing: whether to call `apply_twicing`.
        selection: which faces to restore; None for all.
        background: enlarges the photograph, onto which the faces are blended; None for bicubic interpolation.

    Returns:
        The result, which differs from the enlarged photograph only in the chosen faces, and these faces.

    Raises:
        UserError: a chosen face is not there, the result would be too large, or dlib's files are missing or damaged.
    """
    image = photograph.to_rgb8()
    frames = detection.find_faces(image)
    chosen = (selection or Selection()).choose(frames)
    result = photograph.upscaled(scale, background)
    # A restored face replaces what the background's model made of it; the crops are taken before any face is blended.
    replaced = {}
    if background is not None:
        replaced = {number: _crop_result(result, frame.scaled(scale), size) for number, frame in chosen.items()}
    faces: dict[int, _Face] = {}
    for number, frame in chosen.items():
        aligned = alignment.crop(image, frame, size)
        visible = alignment.inside(frame, image.shape, size)
        face = faces[number] = _restore_face(aligned, visible, restore_fn, strength, twicing)
        others = [other for other in frames if other is not frame]
        other_faces = np.array([[frame.to_unit(other.center), other.size / frame.size] for other in others])
        head = blending.select_head(face.prediction.head_probability, face.severity)
        alpha = blending.blend_mask(head, other_faces, visible)
        before = face.change.apply(replaced[number]) if number in replaced else face.normal
        residual = blending.residual(before, face.prediction.restored, alpha) / np.float32(face.change.gain)
        delta = face.strength * residual
        blending.blend(result.pixels, delta, frame.scaled(scale))
    # The faces are measured last: the residual of an adjacent face may reach into the frame.
    restored = [_measure(face, number, chosen[number], image, result, scale) for number, face in faces.items()]
    return Restoration(result, restored, len(frames))


def restore_square(
    photograph: Photograph,
    restore_fn: RestoreFn,
    size: int,
    scale: int,
    strength: float | None = None,
    twicing: bool = False,
) -> Restoration[Photograph]:
    """Restore a photograph that is an aligned face as a whole: nothing is detected, and nothing is blended.

    At strength 1, the result is the restored face, resized to the size of the (upscaled) photograph.

    Args:
        photograph: a face in the FFHQ frame.
        restore_fn, size, scale, strength, twicing: as for `restore`.

    Raises:
        UserError: the photograph is not square, or the result would be too large.
    """
    image = photograph.to_rgb8()
    height, width = image.shape[:2]
    if height != width:
        raise UserError(f"{width}x{height} pixels, but an aligned face is square: restore it without --aligned")
    face = _restore_face(
        np.array(resize_image(image, size)), np.ones((size, size), bool), restore_fn, strength, twicing
    )
    result = photograph.upscaled(scale)
    restored = resize_image(face.change.revert(face.aligned, face.prediction.restored), width * scale)
    level = np.float32(257 if result.pixels.dtype == np.uint16 else 1)
    mixed = result.pixels + np.float32(face.strength) * (level * restored - result.pixels)
    result.pixels[:] = np.rint(np.clip(mixed, 0, 255 * level))
    return Restoration(result, [_measure(face, 1, Frame(0j, complex(width)), image, result, scale)], 1)


def _restore_face(
    aligned: np.ndarray, visible: np.ndarray, restore_fn: RestoreFn, strength: float | None, twicing: bool
) -> _Face:
    change = estimate_levels(aligned, visible)
    normal = change.apply(aligned)
    prediction = restore_aligned(normal, restore_fn, twicing)
    severity = estimate_severity(normal)
    weight = choose_strength(severity) if strength is None else strength
    return _Face(aligned, normal, prediction, severity, weight, change)


def _measure(face: _Face, number: int, frame: Frame, image: np.ndarray, result: Photograph, scale: int) -> RestoredFace:
    """Return a face with its severities and its identity distance in the result."""
    after = face.change.apply(_crop_result(result, frame.scaled(scale), len(face.aligned)))
    return RestoredFace(
        frame,
        face.aligned,
        face.prediction.seg,
        face.prediction.head_probability,
        face.change.revert(face.aligned, face.prediction.restored),
        face.strength,
        (face.severity, estimate_severity(after)),
        _identity_distance(image, result, frame, scale),
        number,
    )


def restore_aligned(aligned: np.ndarray, restore_fn: RestoreFn, twicing: bool) -> Prediction:
    """Return the prediction for a face, fully restored. A monochrome face is restored in grayscale and tinted again."""
    tint = blending.detect_tint(aligned)
    prediction = restore_fn(aligned if tint is None else images.gray(aligned))
    restored = prediction.restored
    if twicing:
        restored = apply_twicing(restore_fn, restored)
    if tint is not None:
        restored = tint.apply(aligned, restored)
    return prediction._replace(restored=restored)


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
    return np.clip(2 * restored.astype(np.int16) - restore_fn(restored).restored, 0, 255).astype(np.uint8)


def _identity_distance(image: np.ndarray, result: Photograph, frame: Frame, scale: int) -> float:
    aligned = alignment.crop(image, frame, identity.SIZE)
    restored = _crop_result(result, frame.scaled(scale), identity.SIZE)
    visible = alignment.inside(frame, image.shape, identity.SIZE)[:, :, None]
    aligned, restored = (np.where(visible, face, np.uint8(0)) for face in (aligned, restored))  # nothing mirrored
    return identity.embedding_distances(aligned, [restored], detection.identity_models())[0]


def _crop_result(result: Photograph, frame: Frame, size: int) -> np.ndarray:
    """Return a face of the result as uint8 RGB (size, size, 3)."""
    return color.to_8_bits(alignment.crop(result.pixels, frame, size))
