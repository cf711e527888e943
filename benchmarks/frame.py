"""Fit the constants of `psfr.photos.alignment` and `psfr.photos.detection` to faces that are already aligned.

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
GRID = np.array([x + 1j * y for x in (0.2, 0.5, 0.8) for y in (0.2, 0.5, 0.8)])  # unit coordinates


def measure_landmarks(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes (n, 4) and landmarks, complex (n, 4), in unit coordinates, of the images with one detection."""
    boxes, landmarks = [], []
    for path in tqdm(images.list_images(folder), desc="frame", unit="image"):
        image = cv2.resize(images.read(path), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        detected = detection.hog_detector()(image, 0)
        if len(detected) == 1:
            box = detected[0]
            boxes.append([box.left(), box.top(), box.right() + 1, box.bottom() + 1])
            landmarks.append(detection.landmarks(image, box) / SIZE)
    return np.array(boxes) / SIZE, np.array(landmarks)


def fit(boxes: np.ndarray, landmarks: np.ndarray) -> dict:
    """Return the constants with which the mean frame is the whole image, and how far the current ones move a face."""
    eyes, mouth = landmarks[:, :2].mean(1), landmarks[:, 2:].mean(1)
    frames = [alignment.estimate_frame(points) for points in landmarks]
    side = np.mean([frame.size for frame in frames])
    center = np.mean([frame.center for frame in frames])
    center_shift = alignment.CENTER_SHIFT - (center.imag - 0.5) / (mouth - eyes).imag.mean()
    moved = SIZE * np.abs(np.array([frame.to_unit(GRID) for frame in frames]) - GRID)
    realigned = np.array([frame.to_unit(points) for frame, points in zip(frames, landmarks, strict=True)])
    mean_landmarks = landmarks.mean(0)
    between_means = SIZE * np.abs(realigned.mean(0) - mean_landmarks)
    return {
        "faces": len(landmarks),
        "EYE_SCALE": round(alignment.EYE_SCALE / side, 4),
        "MOUTH_SCALE": round(alignment.MOUTH_SCALE / side, 4),
        "CENTER_SHIFT": round(center_shift, 4),
        "MEAN_BOX": [round(coordinate, 3) for coordinate in boxes.mean(0)],
        "mean_landmarks": [[round(point.real, 4), round(point.imag, 4)] for point in mean_landmarks],
        "pixels_between_means": [round(float(pixels), 2) for pixels in between_means],
        "pixels_moved": {"mean": round(float(moved.mean()), 2), "median": round(float(np.median(moved.mean(1))), 2)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frame", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="square images of faces in FFHQ's frame")
    print(json.dumps(fit(*measure_landmarks(parser.parse_args().folder))))


if __name__ == "__main__":
    errors.run_main(main)
