"""Measure what `psfr.restore` changes and costs on scikit-image's degraded astronaut and on a 12-megapixel photograph.

The photograph is degraded at four strengths, each in color, grayscale and sepia.

python -m benchmarks.restoring [--model models] [--twicing] [--picture FILE]
"""

import argparse
import json
import time

import cv2
import numpy as np
from PIL import Image
from skimage import data

from psfr.compute import devices
from psfr.data import degradation, degradation_table, images
from psfr.data.contact_sheet import contact_sheet
from psfr.metrics import identity
from psfr.photos import alignment, blending, detection, io, restoration
from psfr.photos.restorer import COMPUTE, Restorer
from psfr.photos.strength import choose_strength
from psfr.utils import errors

SIZE = 256  # of the aligned face that is measured
CENTER = slice(SIZE // 4, 3 * SIZE // 4)  # the face without hair and background
SEPIA = np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]])
TONES = {
    "color": lambda image: image,
    "gray": images.gray,
    "sepia": lambda image: np.clip(image @ SEPIA.T, 0, 255).astype(np.uint8),
}
BLENDS = (0.25, 0.5, 0.75)  # values of `--strength` beside 0 and 1
_NOT_DEGRADED = {
    "gray": False,
    "blur": None,
    "blur_size": None,
    "motion_angle": None,
    "motion_direction": None,
    "interpolation": "area",
    "noise_scale": None,
    "noise_per_channel": None,
    "noise_seed": None,
    "jpeg_compression": None,
}
DEGRADATIONS = [
    {"size": 256, "jpeg_compression": 30},
    {
        "size": 192,
        "blur": "gaussian",
        "blur_size": 1.0,
        "noise_scale": 6.0,
        "noise_per_channel": True,
        "noise_seed": 1,
        "jpeg_compression": 40,
    },
    {"size": 128, "blur": "gaussian", "blur_size": 2.0, "jpeg_compression": 50},
    {
        "size": 96,
        "blur": "average",
        "blur_size": 5.0,
        "noise_scale": 5.0,
        "noise_per_channel": True,
        "noise_seed": 1,
        "jpeg_compression": 40,
    },
]


def degrade(image: np.ndarray, strength: int) -> np.ndarray:
    """Degrade a square image, uint8 RGB (S, S, 3), with strength 0 (little) to 3 (most)."""
    return degradation.apply(degradation_table.Degradation(**_NOT_DEGRADED | DEGRADATIONS[strength]), image)


def twelve_megapixels(image: np.ndarray) -> np.ndarray:
    """Return a photograph of 4000 x 3000 pixels with three faces."""
    tile = cv2.resize(image, (1333, 1333), interpolation=cv2.INTER_CUBIC)
    photo = np.full((3000, 4000, 3), 120, np.uint8)
    for column in range(3):
        photo[700 + 200 * column :][:1333, 1333 * column :][:, :1333] = tile
    return photo


def blend_faces(lq: np.ndarray, faces: list[restoration.RestoredFace], strength: float) -> np.ndarray:
    """Return the photograph of a single face restored with another `--strength`, without detecting the face again."""
    photo = lq.copy()
    for face in faces:
        head = blending.select_head(face.head_probability, face.severities[0])
        alpha = blending.blend_mask(head, np.zeros((0, 2)))
        blending.blend(photo, strength * blending.residual(face.aligned, face.restored, alpha), face.frame)
    return photo


def measure(
    hq: np.ndarray, lq: np.ndarray, restorer: Restorer, frame: alignment.Frame, twicing: bool
) -> tuple[dict, np.ndarray]:
    """Restore a degraded photograph; return what it changes and identity distances, and the result at full strength."""
    done = restoration.restore(io.Photograph(lq), restorer, restorer.size, 1, 1.0, twicing)
    result, faces = done.image, done.faces
    lq_face, restored_face = (alignment.crop(photo, frame, SIZE) for photo in (lq, result.pixels))
    shift = (restored_face[CENTER, CENTER].astype(float) - lq_face[CENTER, CENTER]).mean((0, 1))
    in_frame = np.zeros(lq.shape[:2], bool)
    for face in faces:
        in_frame[alignment.window(face.frame, lq.shape)] = True
    auto = choose_strength(faces[0].severities[0]) if faces else 0.0
    blends = [alignment.crop(blend_faces(lq, faces, strength), frame, SIZE) for strength in (auto, *BLENDS)]
    distances = identity.embedding_distances(
        alignment.crop(hq, frame, SIZE), [lq_face, restored_face, *blends], detection.identity_models()
    )
    distances = [round(distance, 3) for distance in distances]
    measured = {
        "faces": len(faces),
        "identity_degraded": distances[0],
        "identity_restored": distances[1],
        "identity_auto": distances[2],
        "strength_auto": round(auto, 2),
        "identity_by_strength": dict(zip(BLENDS, distances[3:], strict=True)),
        "mean_level_shift": round(float(np.abs(shift).max()), 2),
        "mean_chroma_shift": round(float(np.abs(shift - shift.mean()).max()), 2),
        "max_change_outside": int(cv2.absdiff(lq, result.pixels)[~in_frame].max(initial=0)),
    }
    return measured, result.pixels


def write_picture(path: str, columns: list[list[np.ndarray]], frame: alignment.Frame) -> None:
    """Write a contact sheet of the head in each photograph, at twice its size; `columns` holds photographs."""
    row, column, reach = int(frame.center.imag), int(frame.center.real), int(0.65 * frame.size)
    head = slice(max(0, row - reach), row + reach), slice(max(0, column - reach), column + reach)
    rows = [[photo[head] for photo in row] for row in zip(*columns, strict=True)]
    Image.fromarray(contact_sheet(rows, scale=2)).save(path, quality=93)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.restoring", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="models", help="as in psfr.restore")
    parser.add_argument("--twicing", action="store_true", help="as in psfr.restore")
    parser.add_argument(
        "--picture", help="JPEG to write: a column per strength with the degraded, restored and true face"
    )
    options = parser.parse_args()
    start = time.perf_counter()
    devices.get_device(COMPUTE)
    restorer = Restorer.from_pretrained(options.model)
    load_seconds = time.perf_counter() - start
    image = data.astronaut()
    frame = detection.find_faces(image)[0]
    columns = []
    for tone, convert in TONES.items():
        for strength in range(len(DEGRADATIONS)):
            hq, lq = convert(image), convert(degrade(image, strength))
            measured, restored = measure(hq, lq, restorer, frame, options.twicing)
            print(json.dumps({"tone": tone, "strength": strength + 1, **measured}), flush=True)
            columns.append([lq, restored, hq])
    if options.picture:
        write_picture(options.picture, columns[: len(DEGRADATIONS)], frame)
    large = io.Photograph(twelve_megapixels(image))
    start = time.perf_counter()
    faces = restoration.restore(large, restorer, restorer.size, 1, 1.0, options.twicing).faces
    seconds = time.perf_counter() - start
    summary = {
        "megapixels": 12,
        "faces": len(faces),
        "model_size": restorer.size,
        "seconds_to_load": round(load_seconds, 2),
        "seconds": round(seconds, 2),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    errors.run_main(main)
