"""Severity of a face's degradation, and the strength that follows from it."""

import cv2
import numpy as np
import pytest

from psfr import portraits
from psfr.data import images
from psfr.photos import alignment, strength
from tests.helpers import photos


def face(size: int, photo: np.ndarray | None = None) -> np.ndarray:
    return alignment.crop(photos.astronaut() if photo is None else photo, photos.FRAME, size)


def reduced(image: np.ndarray, factor: int) -> np.ndarray:
    size = len(image)
    small = cv2.resize(image, (size // factor, size // factor), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC)


def test_weights_belong_to_the_features():
    assert list(strength.severity_features(face(128))) == list(strength.WEIGHTS)


@pytest.mark.parametrize("size", [64, 128])
def test_severity_grows_with_the_loss_of_resolution(size):
    severities = [strength.estimate_severity(reduced(face(size), factor)) for factor in (1, 2, 4, 8)]
    assert severities == sorted(severities) and severities[0] < 0.2 < severities[1] and severities[2] > 0.4


def test_severity_grows_with_noise_and_compression():
    """Both at a low resolution, as in the degradation program."""
    good, low = face(128), cv2.resize(face(128), (48, 48), interpolation=cv2.INTER_AREA)
    noise = np.random.default_rng(0).normal(0, 12, low.shape)
    noisy = np.clip(low + noise, 0, 255).astype(np.uint8)
    compressed = cv2.imdecode(cv2.imencode(".jpg", low, [cv2.IMWRITE_JPEG_QUALITY, 20])[1], cv2.IMREAD_COLOR)
    for image in (noisy, compressed):
        enlarged = cv2.resize(image, (128, 128), interpolation=cv2.INTER_CUBIC)
        assert strength.estimate_severity(enlarged) > strength.estimate_severity(good) + 0.2


@pytest.mark.heavy
def test_severity_of_a_large_face_is_that_of_the_reduced_one():
    """The resolution of the photograph counts, not that of the network: 512 pixels need not have detail."""
    hq, _ = portraits.draw(5, 1, 512)
    assert strength.estimate_severity(hq) < strength.MIN_SEVERITY
    assert strength.estimate_severity(face(512)) == pytest.approx(strength.estimate_severity(face(256)), abs=0.08)


def test_severity_ignores_color():
    for photo in (images.gray(photos.astronaut()), photos.sepia(photos.astronaut())):
        assert strength.estimate_severity(face(128, photo)) == pytest.approx(
            strength.estimate_severity(face(128)), abs=0.05
        )


@pytest.mark.parametrize("level", [0, 128, 255])
def test_severity_of_an_image_without_content_is_finite(level):
    assert np.isfinite(strength.estimate_severity(np.full((64, 64, 3), level, np.uint8)))


def test_strength_rises_between_the_thresholds():
    low, high = strength.MIN_SEVERITY, strength.MAX_SEVERITY
    assert [strength.choose_strength(value) for value in (0, low, high, 2)] == pytest.approx([0, 0, 1, 1])
    assert strength.choose_strength((low + high) / 2) == pytest.approx(0.5)
