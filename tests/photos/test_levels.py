"""Levels of faded and dark faces."""

import numpy as np
import pytest

from psfr import portraits
from psfr.photos import alignment, detection, levels, restoration
from psfr.photos.io import Photograph
from psfr.photos.levels import Levels
from tests.helpers import photos

ALL = np.ones((photos.SIZE, photos.SIZE), bool)
# Contrast, and levels that are added
DEGRADE = {
    "faded": (0.25, 150),
    "half faded": (0.4, 100),
    "pale": (0.5, 125),
    "dark": (0.12, 0),
    "half dark": (0.45, 0),
}


def face() -> np.ndarray:
    return alignment.crop(photos.astronaut(), photos.FRAME, photos.SIZE)


def test_normal_faces_stay_as_they_are():
    for aligned in (face(), *(portraits.draw(5, index, photos.SIZE)[0] for index in range(3))):
        change = levels.estimate_levels(aligned, ALL)
        assert change == Levels() and change.apply(aligned) is aligned and change.revert(face(), aligned) is aligned


@pytest.mark.parametrize("kind", DEGRADE)
def test_networks_see_normal_levels_and_the_photograph_keeps_its_own(monkeypatch, kind):
    """What is added is that of the undamaged photograph, less in proportion to the contrast."""
    monkeypatch.setattr(detection, "find_faces", lambda image: [photos.FRAME])
    seen = []

    def sharpen(aligned: np.ndarray) -> restoration.Prediction:
        seen.append(aligned)
        return photos.flawed_restorer(aligned)

    contrast, offset = DEGRADE[kind]
    photo = np.rint(photos.astronaut() * contrast + offset).astype(np.uint8)
    result = restoration.restore(Photograph(photo), sharpen, photos.SIZE, 1, 1.0)
    (restored,) = result.faces
    ellipse = photos.parsing_map() == 1
    assert seen[0][ellipse].mean() == pytest.approx(face()[ellipse].mean(), abs=40)
    assert seen[0][ellipse].std() == pytest.approx(face()[ellipse].std(), rel=0.3)
    change = result.image.pixels.astype(int) - photo
    whole = restoration.restore(Photograph(photos.astronaut()), photos.flawed_restorer, photos.SIZE, 1, 1.0).image
    true_change = whole.pixels.astype(int) - photos.astronaut()
    assert np.abs(change).mean() == pytest.approx(contrast * np.abs(true_change).mean(), rel=0.4)
    assert restored.restored[ellipse].mean() == pytest.approx(restored.aligned[ellipse].mean(), abs=12)


def test_levels_of_a_face_without_content_are_finite():
    for level in (0, 128, 255):
        aligned = np.full((8, 8, 3), level, np.uint8)
        change = levels.estimate_levels(aligned, ALL[:8, :8])
        assert np.isfinite([change.gain, change.offset]).all() and change.gain <= levels.MAX_GAIN
    assert levels.estimate_levels(aligned, ~ALL[:8, :8]) == Levels()
