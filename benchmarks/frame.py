"""Where faces that are aligned already have their landmarks, and how far alignment moves them: the constants of psfr.photos.alignment and psfr.photos.detection.

python -m benchmarks.frame FOLDER
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from psfr.data import images
from psfr.photos import alignment, detection
from psfr.utils import errors

SIZE = 512
GRID = np.array([x + 1j * y for x in (0.2, 0.5, 0.8) for y in (0.2, 0.5, 0.8)])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frame", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="square pictures of faces in FFHQ's frame")
    boxes, points = [], []
    for path in tqdm(images.listed(parser.parse_args().folder), desc="frame", unit="image"):
        picture = cv2.resize(images.read(path), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        found = detection.detector()(picture, 0)
        if len(found) == 1:
            boxes.append([found[0].left(), found[0].top(), found[0].right() + 1, found[0].bottom() + 1])
            points.append(detection.landmarks(picture, found[0]) / SIZE)
    points = np.array(points)
    eyes, mouth = points[:, :2].mean(1), points[:, 2:].mean(1)
    frames = [alignment.frame(face) for face in points]
    side = np.mean([face.size for face in frames])
    centre = np.mean([face.centre for face in frames])
    moved = SIZE * np.abs(np.array([face.unit(GRID) for face in frames]) - GRID)
    again = np.array([face.unit(face_points) for face, face_points in zip(frames, points, strict=True)])
    print(
        json.dumps(
            {
                "faces": len(points),
                "EYES": round(alignment.EYES / side, 4),
                "MOUTH": round(alignment.MOUTH / side, 4),
                "CENTRE": round(alignment.CENTRE - (centre.imag - 0.5) / (mouth - eyes).imag.mean(), 4),
                "MEAN": [[round(place.real, 4), round(place.imag, 4)] for place in points.mean(0)],
                "BOX": [round(side / SIZE, 3) for side in np.mean(boxes, 0)],
                "pixels_between_means": [
                    round(float(pixels), 2) for pixels in SIZE * np.abs(again.mean(0) - points.mean(0))
                ],
                "pixels_moved": {
                    "mean": round(float(moved.mean()), 2),
                    "median": round(float(np.median(moved.mean(1))), 2),
                },
            }
        )
    )


if __name__ == "__main__":
    errors.run(main)
