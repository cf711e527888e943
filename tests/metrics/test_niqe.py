"""NIQE against the values that pyiqa computes, and where it is undefined."""

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageFilter

from psfr import portraits
from psfr.metrics import niqe

# Recorded with pyiqa 0.1.16 (metric `niqe`, luma of YIQ) and the parameters of NIQE's authors.
PYIQA = {
    "astronaut": 3.0624,
    "coffee": 4.0616,
    "chelsea": 2.5721,
    "rocket": 7.0356,
    "portrait 0": 4.7920,
    "portrait 1": 8.7158,
    "portrait 2": 5.4871,
}


@pytest.mark.heavy
@pytest.mark.parametrize("name", PYIQA)
def test_niqe_equals_pyiqa(name):
    kind, _, index = name.partition(" ")
    image = portraits.draw(7, int(index), 256)[0] if index else getattr(skimage.data, kind)()
    assert niqe.score(image) == pytest.approx(PYIQA[name], rel=0.002)


def test_blurred_and_noisy_photographs_are_less_natural():
    photograph = Image.fromarray(skimage.data.astronaut())
    blurred = [np.asarray(photograph.filter(ImageFilter.GaussianBlur(radius))) for radius in (0, 1, 4)]
    scores = [niqe.score(image) for image in blurred]
    assert scores[0] < scores[1] < scores[2]
    noise = np.random.default_rng(0).normal(0, 25, blurred[0].shape)
    assert niqe.score((blurred[0] + noise).clip(0, 255).astype(np.uint8)) > scores[0] + 1


def test_what_is_left_over_beside_the_blocks_does_not_count():
    image = skimage.data.astronaut()
    changed = image.copy()
    changed[480:] = changed[:, 480:] = 0
    assert niqe.score(changed) == niqe.score(image)


@pytest.mark.parametrize(("height", "width", "defined"), [(128, 128, False), (95, 512, False), (96, 192, True)])
def test_niqe_needs_two_blocks(height, width, defined):
    assert np.isfinite(niqe.score(skimage.data.astronaut()[100:, 100:][:height, :width])) == defined


def test_niqe_of_a_flat_image_is_undefined():
    assert np.isnan(niqe.score(np.full((256, 256, 3), 7, np.uint8)))
