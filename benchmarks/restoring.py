"""What restoring photographs does and costs: scikit-image's astronaut at four strengths of degradation, in colours, grey and sepia, and 12 megapixels.

python -m benchmarks.restoring [--model models] [--twice] [--picture FILE]
"""

import argparse
import json
import time

import cv2
import numpy as np
from PIL import Image
from skimage import data

from psfr import restore
from psfr.data import degradation, degradation_table, images
from psfr.photos import alignment, blending, detection, io
from psfr.photos.restorer import Restorer, load_restorer
from psfr.utils import errors

SIZE = 256  # of the face that figures are taken on
INSIDE = slice(SIZE // 4, 3 * SIZE // 4)  # the face without hair and background
SEPIA = np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]])
TONES = {
    "colours": lambda image: image,
    "grey": images.gray,
    "sepia": lambda image: np.clip(image @ SEPIA.T, 0, 255).astype(np.uint8),
}
_CLEAN = {
    "gray": False,
    "blur": None,
    "blur_size": None,
    "motion_angle": None,
    "motion_direction": None,
    "interpolation": "area",
}
_CLEAN |= {"noise_scale": None, "noise_per_channel": None, "noise_seed": None, "jpeg_compression": None}
SHARES = (0.25, 0.5, 0.75)  # of the restored face: `--strength`
STRENGTHS = [
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


def degraded(image: np.ndarray, strength: int) -> np.ndarray:
    """A square image, uint8 RGB (S, S, 3), degraded by the project's program, by 0 (little) to 3 (much)."""
    return degradation.apply(degradation_table.Degradation(**{**_CLEAN, **STRENGTHS[strength]}), image)


def twelve_megapixels(image: np.ndarray) -> np.ndarray:
    """A photograph of 4000 x 3000 pixels with three faces."""
    tile = cv2.resize(image, (1333, 1333), interpolation=cv2.INTER_CUBIC)
    picture = np.full((3000, 4000, 3), 120, np.uint8)
    for column in range(3):
        picture[700 + 200 * column :][:1333, 1333 * column :][:, :1333] = tile
    return picture


def blended(before: np.ndarray, found: list[restore.RestoredFace], share: float) -> np.ndarray:
    """The photograph of one face restored with `--strength` SHARE, without looking for the face again."""
    picture = before.copy()
    for face in found:
        change = blending.difference(face.aligned, face.restored, blending.mask(face.regions, np.zeros((0, 2))))
        blending.paste(picture, share * change, face.frame)
    return picture


def figures(
    true: np.ndarray, before: np.ndarray, restorer: Restorer, at: alignment.Frame, twice: bool
) -> tuple[dict, np.ndarray]:
    """What restoring a photograph at full strength changes, and how near it is to the true one, at other strengths too; and the result."""
    result, found = restore.restore(io.Photograph(before), restorer, restorer.size, 1, 1.0, twice)
    was, became = (alignment.crop(picture, at, SIZE) for picture in (before, result.levels))
    shift = (became[INSIDE, INSIDE].astype(float) - was[INSIDE, INSIDE]).mean((0, 1))
    reached = np.zeros(before.shape[:2], bool)
    for face in found:
        reached[alignment.window(face.frame, before.shape)] = True
    blends = [alignment.crop(blended(before, found, share), at, SIZE) for share in SHARES]
    distances = [
        round(distance, 3) for distance in detection.distances(alignment.crop(true, at, SIZE), was, became, *blends)
    ]
    measured = {
        "faces": len(found),
        "identity_degraded": distances[0],
        "identity_restored": distances[1],
        "identity_by_strength": dict(zip(SHARES, distances[2:], strict=True)),
        "mean_levels_shifted": round(float(np.abs(shift).max()), 2),
        "mean_chroma_shifted": round(float(np.abs(shift - shift.mean()).max()), 2),
        "most_change_outside": int(cv2.absdiff(before, result.levels)[~reached].max(initial=0)),
    }
    return measured, result.levels


def draw(path: str, columns: list[list[np.ndarray]], at: alignment.Frame) -> None:
    """The head in each photograph of some columns, twice as large."""
    row, column, reach = int(at.centre.imag), int(at.centre.real), int(0.65 * at.size)
    part = slice(max(0, row - reach), row + reach), slice(max(0, column - reach), column + reach)
    Image.fromarray(
        np.hstack([np.vstack([picture[part].repeat(2, 0).repeat(2, 1) for picture in each]) for each in columns])
    ).save(path, quality=93)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.restoring", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="models", help="as psfr.restore takes it")
    parser.add_argument("--twice", action="store_true", help="as psfr.restore takes it")
    parser.add_argument("--picture", help="a JPEG to draw: a column for each strength, degraded, restored and true")
    options = parser.parse_args()
    began = time.perf_counter()
    restorer = load_restorer(options.model, restore.COMPUTE)
    loaded = time.perf_counter() - began
    image = data.astronaut()
    at = detection.find(image)[0]
    columns = []
    for tone, toned in TONES.items():
        for strength in range(len(STRENGTHS)):
            true, before = toned(image), toned(degraded(image, strength))
            measured, after = figures(true, before, restorer, at, options.twice)
            print(json.dumps({"tone": tone, "strength": strength + 1, **measured}), flush=True)
            columns.append([before, after, true])
    if options.picture:
        draw(options.picture, columns[: len(STRENGTHS)], at)
    large = io.Photograph(twelve_megapixels(image))
    began = time.perf_counter()
    found = restore.restore(large, restorer, restorer.size, 1, 1.0, options.twice)[1]
    seconds = time.perf_counter() - began
    print(
        json.dumps(
            {
                "megapixels": 12,
                "faces": len(found),
                "model_size": restorer.size,
                "seconds_to_load": round(loaded, 2),
                "seconds": round(seconds, 2),
            }
        )
    )


if __name__ == "__main__":
    errors.run(main)
