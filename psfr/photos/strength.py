"""Strength of the restoration of a face by its estimated degradation, for `psfr-restore --strength auto`.

A network redraws every face, so a heavily degraded face becomes more like the person, and a lightly degraded one less.
`estimate_severity` estimates from the aligned face alone how degraded it is; `choose_strength` is a clipped linear
function of it. The estimate was fitted to photographs of faces with the degradation program of
`psfr.data.degradation`: `python -m benchmarks.strength` (docs/restore.md).
"""

import cv2
import numpy as np

from psfr.data.resize import resize_image
from psfr.photos.alignment import ellipse
from psfr.photos.levels import LUMINANCE

# Lengths are in pixels of the aligned face, so frequencies are relative to what the network can restore.
MAX_SIZE = 256  # larger faces are reduced: many photographs have nothing in the highest frequencies of 512 pixels
SIGMAS = (0.5, 1.0, 2.0, 4.0, 8.0)  # of the Gaussian filters between the frequency bands
SHIFTS = (1, 2, 4)  # between the pixels whose differences are compared along the axes and the diagonals
FACE = (0.5, 0.56, 0.3, 0.34)  # ellipse: center and half axes, as fractions of the side
NOISE_FLOOR = 0.05  # levels, added to magnitudes before their logarithm is taken

INTERCEPT = 0.08033
WEIGHTS = {  # of the features, as `python -m benchmarks.strength fit` prints them
    "rms of band 0": -0.1108,
    "median of band 0": -0.01992,
    "rms of band 1": -0.1464,
    "median of band 1": -0.0394,
    "rms of band 2": 0.1888,
    "median of band 2": -0.01311,
    "rms of band 3": 0.1579,
    "median of band 3": -0.1671,
    "rms of band 4": 0.08897,
    "median of band 4": 0.02976,
    "axes to diagonals at shift 1": -2.29,
    "spread at shift 1": -0.8574,
    "axes to diagonals at shift 2": 1.419,
    "spread at shift 2": -0.1796,
    "axes to diagonals at shift 4": 0.8323,
    "spread at shift 4": 0.7254,
}

# The strength is 0 below the first severity and 1 above the second.
MIN_SEVERITY, MAX_SEVERITY = 0.40, 0.75


def estimate_severity(aligned: np.ndarray) -> float:
    """Estimate the identity distance between an aligned face and the same face without degradation.

    Args:
        aligned: uint8 RGB (S, S, 3).

    Returns:
        Near 0 for a face that is not degraded (0.04 on average), usually less than 0.8. The estimate was fitted to
        faces of 128 pixels, where its root mean squared error is 0.09. In larger faces, the same degradation relative
        to the size has about the same severity, although it takes less of the identity.
    """
    features = severity_features(aligned)
    return max(0.0, INTERCEPT + sum(weight * features[name] for name, weight in WEIGHTS.items()))


def choose_strength(severity: float) -> float:
    """Return the strength for a face of this severity, from 0 (no change) to 1 (full restoration)."""
    return min(max((severity - MIN_SEVERITY) / (MAX_SEVERITY - MIN_SEVERITY), 0.0), 1.0)


def severity_features(aligned: np.ndarray) -> dict[str, float]:
    """Return the features of an aligned face that the severity is a linear function of.

    All are logarithms, of luminance in the face. "rms" and "median" are magnitudes in a band of frequencies: blur
    lowers them, and noise raises the median more than edges do. "axes to diagonals" compares differences along the axes
    with those along the diagonals: blocks of JPEG and of enlargement raise it. "spread", the mean square of the
    differences over their squared mean, is large for sharp edges beside flat areas.

    Args:
        aligned: uint8 RGB (S, S, 3).

    Returns:
        The features by name, those of `WEIGHTS`.
    """
    luminance = resize_image(aligned, min(len(aligned), MAX_SIZE)) @ LUMINANCE
    face = ellipse(len(luminance), *FACE)
    features = {}
    finer = luminance
    for i, sigma in enumerate(SIGMAS):
        coarser = cv2.GaussianBlur(luminance, (0, 0), sigma)
        band = np.abs(finer - coarser)[face]
        features[f"rms of band {i}"] = _log(np.sqrt(np.square(band).mean()))
        features[f"median of band {i}"] = _log(np.median(band))
        finer = coarser
    for shift in SHIFTS:
        inner = face[:-shift, :-shift]
        origin, right = luminance[:-shift, :-shift], luminance[:-shift, shift:]
        below, opposite = luminance[shift:, :-shift], luminance[shift:, shift:]
        axes = np.abs([(right - origin)[inner], (below - origin)[inner]])
        diagonals = np.abs([(opposite - origin)[inner], (right - below)[inner]])
        features[f"axes to diagonals at shift {shift}"] = _log(axes.mean()) - _log(diagonals.mean())
        features[f"spread at shift {shift}"] = 2 * (_log(np.sqrt(np.square(axes).mean())) - _log(axes.mean()))
    return features


def _log(magnitude: np.floating) -> float:
    return float(np.log(magnitude + NOISE_FLOOR))
