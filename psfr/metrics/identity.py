"""Whether a restored face is still the same person: distance of dlib's face embeddings."""

from functools import lru_cache
from pathlib import Path

import dlib
import numpy as np

from psfr.data import images
from psfr.data.resize import resize_image
from psfr.pretrained import loader, metric_files

SIZE = 256  # of the image in which the face is looked for: large enough for the landmarks, and no chip of 150 pixels needs more
CHIP = 150
PADDING = 0.25  # both as dlib's embedding was trained
# Left, top, right and bottom of the face in an image of the FFHQ frame, as dlib's detector puts them on average.
FRAME = (0.207, 0.313, 0.770, 0.879)
OVERLAP = 0.4  # intersection over union with it, from which a detection is believed to be the face that the image shows


def distances(paths: list[Path], folder: Path) -> list[float]:
    """Euclidean distance between the embeddings of a true face, the first of `paths`, and of other versions of the same picture, the rest.

    0 is the same face; pictures of one person are usually within 0.6, of two persons beyond. The landmarks are found on the true image and
    cut the same piece out of every version: a version too blurred for a detector cannot fail, nor be helped by another crop.

    Args:
        folder: where the files of the landmark and embedding networks are.

    Raises:
        InputError: an image cannot be read, or a file of weights is missing or damaged.
    """
    detector, landmarks, embedding = _networks(str(folder))
    true, *others = paths
    image = _sized(true)
    points = landmarks(image, _face(detector, image))

    def embed(picture: np.ndarray) -> np.ndarray:
        return np.array(embedding.compute_face_descriptor(dlib.get_face_chip(picture, points, CHIP, PADDING)))

    person = embed(image)
    return [float(np.linalg.norm(embed(_sized(other)) - person)) for other in others]


@lru_cache(maxsize=1)
def _networks(folder: str) -> tuple:
    return (
        dlib.get_frontal_face_detector(),
        _opened(dlib.shape_predictor, Path(folder) / metric_files.FACE_LANDMARKS),
        _opened(dlib.face_recognition_model_v1, Path(folder) / metric_files.FACE_EMBEDDING),
    )


def _opened(kind: type, path: Path):
    loader.verify_hash(path, metric_files.SHA256[path.name])  # dlib does not validate what it reads
    return kind(str(path))


def _sized(path: Path) -> np.ndarray:
    return np.ascontiguousarray(resize_image(images.read(path), SIZE))


def _face(detector, image: np.ndarray) -> dlib.rectangle:
    """The detection that lies where a face of the FFHQ frame does; without one, that place itself."""
    frame = dlib.rectangle(*(round(SIZE * side) for side in FRAME))

    def overlap(found: dlib.rectangle) -> float:
        common = frame.intersect(found).area()
        return common / (frame.area() + found.area() - common)

    believed = [found for found in detector(image, 0) if overlap(found) >= OVERLAP]
    return max(believed, key=overlap, default=frame)
