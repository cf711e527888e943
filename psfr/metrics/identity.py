"""Identity distance: how far a restored face is from the same person, by dlib's face embeddings."""

from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeVar

import dlib
import numpy as np

from psfr.data import images
from psfr.data.resize import resize_image
from psfr.pretrained import loader, metric_files

SIZE = 256  # images are resized to this side length: enough for the landmarks and for a chip of 150 pixels
CHIP_SIZE, CHIP_PADDING = 150, 0.25  # of the crop that dlib's embedding was trained on
# Mean box of dlib's frontal detector in an image of the FFHQ frame, as fractions of the side: left, top, right, bottom.
MEAN_BOX = (0.207, 0.313, 0.770, 0.879)
MIN_IOU = 0.4  # a detection is the face of the image if its intersection over union with the mean box is at least this


Model = TypeVar("Model")


class FaceModels(NamedTuple):
    """dlib's models that the identity distance needs."""

    detector: dlib.fhog_object_detector  # frontal faces
    landmarks: dlib.shape_predictor  # 5 landmarks
    embedding: dlib.face_recognition_model_v1


@lru_cache(maxsize=1)
def load_models(folder: Path) -> FaceModels:
    """Load dlib's models from the folder of their files.

    Raises:
        UserError: a file is missing or damaged.
    """
    return FaceModels(
        dlib.get_frontal_face_detector(),
        _load(dlib.shape_predictor, folder / metric_files.FACE_LANDMARKS),
        _load(dlib.face_recognition_model_v1, folder / metric_files.FACE_EMBEDDING),
    )


def _load(model_class: Callable[[str], Model], path: Path) -> Model:
    loader.verify_hash(path, metric_files.SHA256[path.name])  # dlib does not validate what it reads
    return model_class(str(path))


def embedding_distances(reference: np.ndarray, others: Iterable[np.ndarray], models: FaceModels) -> list[float]:
    """Return the Euclidean distances between the face embedding of an image and those of other versions of it.

    0 is the same face. Photographs of one person are usually within 0.6, of two persons beyond. Landmarks are found on
    the reference only, and the same crop is taken from each version, so a version that is too blurred for the detector
    neither fails nor benefits from another crop.

    Args:
        reference: a face in the FFHQ frame, uint8 RGB (H, W, 3).
        others: versions of the same image, uint8 RGB (H, W, 3), of any size.
        models: as `load_models` returns them.
    """
    reference = _resize(reference)
    points = models.landmarks(reference, _face_box(models.detector, reference))

    def embed(image: np.ndarray) -> np.ndarray:
        chip = dlib.get_face_chip(image, points, CHIP_SIZE, CHIP_PADDING)
        return np.array(models.embedding.compute_face_descriptor(chip))

    reference_embedding = embed(reference)
    return [float(np.linalg.norm(embed(_resize(other)) - reference_embedding)) for other in others]


def embedding_distances_from_files(paths: list[Path], folder: Path) -> list[float]:
    """Return `embedding_distances` of image files: the first is the reference.

    Args:
        folder: the files of dlib's models.

    Raises:
        UserError: an image cannot be read, or a model file is missing or damaged.
    """
    reference, *others = paths
    models = load_models(folder)
    return embedding_distances(images.read(reference), (images.read(other) for other in others), models)


def iou(box: dlib.rectangle, other: dlib.rectangle) -> float:
    """Return the intersection over union of two boxes."""
    intersection = box.intersect(other).area()
    return intersection / (box.area() + other.area() - intersection)


def _resize(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(resize_image(image, SIZE))


def _face_box(detector: dlib.fhog_object_detector, image: np.ndarray) -> dlib.rectangle:
    """Return the detection nearest to the mean box, or the mean box if no detection overlaps it enough."""
    mean_box = dlib.rectangle(*(round(SIZE * side) for side in MEAN_BOX))
    boxes = [box for box in detector(image, 0) if iou(mean_box, box) >= MIN_IOU]
    return max(boxes, key=lambda box: iou(mean_box, box), default=mean_box)
