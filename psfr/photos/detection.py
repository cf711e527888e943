"""Faces in a photograph: where they are, and whether two pictures show the same person. dlib's networks do the work."""

import hashlib
import importlib.util
from functools import cache
from pathlib import Path

import cv2
import dlib
import numpy as np

from psfr.photos.alignment import Frame, crop, frame
from psfr.utils.errors import InputError

# Carried by the pip package, which is found, not imported: it cannot be imported any more.
PACKAGE = "face_recognition_models"
LANDMARKS = "shape_predictor_68_face_landmarks.dat"
CONFIRMING = "mmod_human_face_detector.dat"
EMBEDDING = "dlib_face_recognition_resnet_model_v1.dat"
SHA256 = {
    LANDMARKS: "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f",
    CONFIRMING: "4cb19393e2fbaf2b1609a9319ad5386618c886a6234ec1b971f3e87c85d87fe6",
    EMBEDDING: "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
}

# The first detector (HOG) is quick and finds upright faces of 80 pixels and more, tilted by 20 degrees or so. It looks at the photograph
# itself and enlarged, as far as its longer side allows, and at turned copies.
TIMES, LONGEST = (1, 2, 4), 4096
TURNS, LONGEST_TURNED = range(30, 360, 30), 1600  # degrees
# The second (a network), slow and sure, looks at what may be a face by these scores of the first, aligned.
LEAST, LEAST_TURNED = -0.5, 0.0
UNSURE = 8  # of those below 0, so many are looked at
SAME = 0.3  # faces whose centres are nearer than this part of the larger one's frame are one face

SIZE = 192  # pixels a side of the aligned face in which the landmarks are found again and the second detector looks
# Where a detector sees a face in its frame on average (`python -m benchmarks.frame`): left, top, right and bottom, the side being 1.
BOX = (0.195, 0.304, 0.792, 0.901)
OVERLAP = 0.4  # intersection over union with it, from which a detection is the face that was aligned

CHIP, PADDING = 150, 0.25  # of the face that the embedding sees, as it was trained


def find(picture: np.ndarray) -> list[Frame]:
    """The frames of all faces, the largest first, however they are turned.

    Each face is found twice: in the photograph, and once more where that puts it, which makes the landmarks independent of size and tilt,
    finds faces too degraded for one detector alone, and drops what is none.

    Args:
        picture: uint8 RGB (H, W, 3).

    Raises:
        InputError: dlib's files are not installed, or damaged.
    """
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    longer = max(gray.shape)
    scales = [times for times in TIMES if times * longer <= LONGEST] or [LONGEST / longer]
    candidates = [candidate for scale in scales for candidate in _candidates(gray, 0, scale, LEAST)]
    scale = min(TIMES[-1], LONGEST_TURNED / longer)
    candidates += [candidate for degrees in TURNS for candidate in _candidates(gray, degrees, scale, LEAST_TURNED)]
    found: list[Frame] = []
    unsure = 0
    for score, candidate in sorted(candidates, key=lambda scored: -scored[0]):
        if unsure < UNSURE and not any(_same(candidate, other) for other in found):
            unsure += score < 0
            face = _refined(picture, candidate)
            if _confirmed(picture, face) and not any(_same(face, other) for other in found):
                found.append(face)
    return sorted(found, key=lambda face: -face.size)


def _same(one: Frame, other: Frame) -> bool:
    return abs(one.centre - other.centre) < SAME * max(one.size, other.size)


def _candidates(gray: np.ndarray, degrees: float, scale: float, least: float) -> list[tuple[float, Frame]]:
    """Scores, from `least` on, and frames of what may be faces in a turned and scaled copy of a grey photograph."""
    size = [max(1, round(side * scale)) for side in gray.shape[::-1]]
    copy = cv2.resize(gray, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    turn = np.exp(-1j * np.radians(degrees))  # counter-clockwise, as rows run downward
    corners = turn * np.array([0, copy.shape[1], 1j * copy.shape[0], copy.shape[1] + 1j * copy.shape[0]])
    shift = -(corners.real.min() + 1j * corners.imag.min())
    if degrees:
        start = turn * (0.5 + 0.5j) + shift - (0.5 + 0.5j)  # of the first pixel's index
        matrix = np.array([[turn.real, -turn.imag, start.real], [turn.imag, turn.real, start.imag]])
        copy = cv2.warpAffine(copy, matrix, (int(np.ptp(corners.real)), int(np.ptp(corners.imag))), borderValue=127)
    boxes, scores, _ = detector().run(copy, 0, least)
    return [
        (score, frame((landmarks(copy, box) - shift) / turn / scale)) for box, score in zip(boxes, scores, strict=True)
    ]


def _refined(picture: np.ndarray, face: Frame) -> Frame:
    """The frame by the landmarks that the aligned face shows."""
    for _ in range(2):
        face = frame(face.places(landmarks(crop(picture, face, SIZE), _box()) / SIZE))
    return face


def _confirmed(picture: np.ndarray, face: Frame) -> bool:
    """Whether the second detector sees a face where the frame has one, in the photograph."""
    height, width = picture.shape[:2]
    if not (0 <= face.centre.real <= width and 0 <= face.centre.imag <= height):
        return False
    seen = _model(dlib.cnn_face_detection_model_v1, CONFIRMING)(crop(picture, face, SIZE), 0)
    return any(_overlap(detection.rect, _box()) >= OVERLAP for detection in seen)


def _box() -> dlib.rectangle:
    return dlib.rectangle(*(round(SIZE * side) for side in BOX))


def _overlap(one: dlib.rectangle, other: dlib.rectangle) -> float:
    common = one.intersect(other).area()
    return common / (one.area() + other.area() - common)


def landmarks(picture: np.ndarray, box: dlib.rectangle) -> np.ndarray:
    """Left and right eye and left and right corner of the mouth of the face in a box, complex (4,), in pixels of the picture."""
    points = np.array([complex(part.x, part.y) for part in _shape()(picture, box).parts()]) + (0.5 + 0.5j)
    return np.array([points[36:42].mean(), points[42:48].mean(), points[48], points[54]])


def distances(true: np.ndarray, *others: np.ndarray) -> list[float]:
    """Euclidean distance between the embeddings of one aligned face and of other versions of it, uint8 RGB (S, S, 3).

    0 is the same face; pictures of one person are usually within 0.6, of two persons beyond. The same piece is cut out of every version.
    """
    embed = _model(dlib.face_recognition_model_v1, EMBEDDING).compute_face_descriptor
    versions = [
        cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA if len(image) > SIZE else cv2.INTER_CUBIC)
        for image in (true, *others)
    ]
    points = _shape()(versions[0], _box())
    person, *persons = [np.array(embed(dlib.get_face_chip(version, points, CHIP, PADDING))) for version in versions]
    return [float(np.linalg.norm(other - person)) for other in persons]


@cache
def detector() -> dlib.fhog_object_detector:
    """The first detector, dlib's frontal one."""
    return dlib.get_frontal_face_detector()


def _shape() -> dlib.shape_predictor:
    return _model(dlib.shape_predictor, LANDMARKS)


@cache
def _model(kind: type, name: str):
    spec = importlib.util.find_spec(PACKAGE)
    path = spec and spec.origin and Path(spec.origin).parent / "models" / name
    mend = "run `pip install -r requirements.txt --force-reinstall`"
    if not path or not path.is_file():
        raise InputError(f"{name}: package {PACKAGE} does not have it: {mend}")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256[name]:
        raise InputError(f"{path}: has SHA-256 {digest[:8]}..., not {SHA256[name][:8]}...: {mend}")
    return kind(str(path))
