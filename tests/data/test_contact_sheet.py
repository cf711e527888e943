"""Layout of contact sheets."""

import numpy as np
import pytest

from psfr.data import contact_sheet as module
from psfr.data.contact_sheet import contact_sheet, title_height


@pytest.fixture
def rows():
    """Two rows of three images of 16x24 pixels."""
    return np.random.default_rng(0).integers(0, 256, (2, 3, 16, 24, 3), np.uint8)


def test_plain_grid(rows):
    sheet = contact_sheet(rows)
    assert sheet.dtype == np.uint8
    assert np.array_equal(sheet, np.concatenate([np.concatenate(list(row), axis=1) for row in rows]))


def test_scale_repeats_pixels(rows):
    assert np.array_equal(contact_sheet(rows, scale=3), contact_sheet(rows).repeat(3, axis=0).repeat(3, axis=1))


def test_gap_and_margin(rows):
    sheet = contact_sheet(rows, gap=2, margin=5)
    assert sheet.shape == (5 + 16 + 2 + 16 + 5, 5 + 24 + 2 + 24 + 2 + 24 + 5, 3)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            top, left = 5 + i * 18, 5 + j * 26
            assert np.array_equal(sheet[top : top + 16, left : left + 24], image)
            sheet = sheet.copy()
            sheet[top : top + 16, left : left + 24] = module.BACKGROUND
    assert (sheet == module.BACKGROUND).all()


def test_titles_and_captions_surround_the_images(rows):
    scale, gap = 4, 8
    captions = [[f"image {i} {j}" for j in range(3)] for i in range(2)]
    sheet = contact_sheet(rows, ["a", "b", "c"], captions, gap=gap, margin=gap, scale=scale)
    height, width, top = scale * 16, scale * 24, title_height(20)
    assert sheet.shape == (top + 2 * (height + module.CAPTION_HEIGHT + gap), gap + 3 * (width + gap), 3)
    for j in range(3):
        left = gap + j * (width + gap)
        assert (sheet[:top, left : left + width] == module.TEXT).all(axis=2).any()
        for i in range(2):
            y = top + i * (height + module.CAPTION_HEIGHT + gap)
            assert np.array_equal(sheet[y : y + height : scale, left : left + width : scale], rows[i, j])
            caption = sheet[y + height : y + height + module.CAPTION_HEIGHT, left : left + width]
            assert (caption == module.MUTED).all(axis=2).any()
