"""A restored face in its photograph: no edge, no lighter box, no colours that were not there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfr.data import images, labels
from psfr.photos import alignment, blending
from psfr.photos.alignment import Frame
from tests.helpers import photos

SIZE = photos.SIZE
ALONE = np.zeros((0, 2), complex)


def pasted(picture: np.ndarray, frame: Frame = photos.FRAME, strength: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """The picture with the careless restorer's face in it, and where it may have changed (H, W)."""
    unit = 257 if picture.dtype == np.uint16 else 1
    aligned = alignment.crop((picture / unit).astype(np.uint8), frame, SIZE)
    tone = blending.tone(aligned)
    regions, restored = photos.careless(aligned if tone is None else images.gray(aligned))
    soft = blending.mask(regions, ALONE)
    result = picture.copy()
    blending.paste(
        result,
        strength * blending.difference(aligned, restored if tone is None else tone.of(aligned, restored), soft),
        frame,
    )
    rows, columns = alignment.window(frame, picture.shape)
    reached = np.zeros(picture.shape[:2], bool)
    reached[rows, columns] = (
        alignment.uncrop(soft, frame.moved(columns.start, rows.start), reached[rows, columns].shape) > 0
    )
    return result, reached


def chroma(picture: np.ndarray) -> np.ndarray:
    return picture - (picture @ blending.LUMINANCE)[..., None]


def face(picture: np.ndarray) -> np.ndarray:
    return alignment.crop(picture, photos.FRAME, 200)[50:150, 50:150].astype(float)


def test_light_and_colour_stay_and_detail_comes():
    before = photos.astronaut()
    after, reached = pasted(before)
    assert (
        np.abs((face(after) - face(before)).mean((0, 1))).max() < 2.5
    )  # 20 levels lighter, green and purple would be more
    sharpness = [np.abs(np.diff(face(picture), axis=0)).mean() for picture in (before, after)]
    assert sharpness[1] > 1.3 * sharpness[0]
    assert (after[~reached] == before[~reached]).all()
    assert (after != before).any()


def test_there_is_no_edge():
    """Along the mask's border the difference grows from nothing: no step, and none at the picture's end."""
    before = photos.astronaut()
    flat = np.full_like(before, 128)
    after, reached = pasted(flat)
    assert reached.any()
    changes = after.astype(int) - flat
    steps = max(np.abs(np.diff(changes, axis=axis)).max() for axis in (0, 1))
    assert steps <= 8
    assert np.abs(changes[reached]).mean() < 6


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("tone", [images.gray, photos.sepia])
def test_a_photograph_of_one_tone_keeps_it(tone, kind):
    unit = 257 if kind == np.uint16 else 1
    before = tone(photos.astronaut()).astype(kind) * unit
    after, _ = pasted(before)
    assert np.abs((chroma(face(after)) - chroma(face(before))).mean((0, 1)) / unit).max() < 0.5
    assert np.abs(after.astype(int) - before).max() > 10 * unit
    if tone is images.gray:
        assert np.ptp(after, axis=2).max() <= 1


def test_a_brighter_face_has_the_brighter_colours_of_its_tone():
    aligned = photos.sepia(alignment.crop(images.gray(photos.astronaut()), photos.FRAME, SIZE))
    given = images.gray(aligned)
    inside = (given[:, :, 0] > 40) & (given[:, :, 0] < 170)
    found = blending.tone(aligned).of(aligned, given + np.uint8(30) * (given < 200))
    ramp = photos.sepia(np.repeat(np.arange(256)[None, :, None], 3, axis=2))[0]
    luminance = ramp @ blending.LUMINANCE
    wanted = np.stack([np.interp(found @ blending.LUMINANCE, luminance, channel) for channel in ramp.T], 2)
    assert (found @ blending.LUMINANCE - given[:, :, 0])[inside].mean() == pytest.approx(30, abs=0.5)
    assert np.abs(found - wanted)[inside].mean() < 1.5


@given(tint=st.tuples(*[st.floats(-30, 30)] * 3), noise=st.floats(0, 15), seed=st.integers(0, 99))
def test_a_tinted_photograph_has_one_tone_however_noisy(tint, noise, seed):
    gray = alignment.crop(images.gray(photos.astronaut()), photos.FRAME, 256).astype(float)
    curve = np.sin(gray / 255 * np.pi)[:, :, :1] * np.array(tint)
    noisy = gray + curve + np.random.default_rng(seed).normal(0, noise, gray.shape)
    assert blending.tone(np.clip(np.rint(noisy), 0, 255).astype(np.uint8)) is not None


def test_a_photograph_with_colours_has_none():
    assert blending.tone(alignment.crop(photos.astronaut(), photos.FRAME, SIZE)) is None


def test_strength_scales_what_changes():
    before = photos.astronaut()
    whole, half, none = (pasted(before, strength=strength)[0].astype(int) - before for strength in (1, 0.5, 0))
    assert not none.any()
    inside = (np.abs(whole).max(2) < 60) & (before.min(2) > 70) & (before.max(2) < 190)  # nothing clipped
    assert np.abs(whole / 2 - half)[inside].max() <= 1


@pytest.mark.parametrize(
    "frame",
    [
        Frame(-60 - 50j, 175 + 10j),
        Frame(200 + 190j, 175 - 20j),
        Frame(100 + 100j, 6 + 0j),
        Frame(-300 - 300j, 900 + 0j),
    ],
)
def test_a_face_may_lie_across_the_border_be_tiny_or_larger_than_the_picture(frame):
    before = photos.astronaut()
    after, reached = pasted(before, frame)
    assert after.shape == before.shape
    assert (after[~reached] == before[~reached]).all()


def test_each_face_has_its_own_pixels():
    """Of two heads side by side that one frame shows, the mask takes the one that the frame is of, and each pixel goes to one."""
    double = np.full((SIZE, SIZE), labels.NAMES.index("skin"), np.uint8)
    left = blending.mask(double, np.array([[1.1 + 0.5j, 1]]))
    right = blending.mask(double, np.array([[-0.1 + 0.5j, 1]]))
    shift = round(0.6 * SIZE)
    assert left[:, : SIZE // 2].max() > 0.999 and right[:, SIZE // 2 :].max() > 0.999
    assert (left[:, shift:] * right[:, : SIZE - shift] == 0).all()
    small, large = (blending.mask(double, np.array([[1 + 0.5j, side]]))[SIZE // 2] for side in (0.25, 1))
    assert (small > 0.5).sum() > (large > 0.5).sum() + SIZE // 10


@pytest.mark.parametrize("regions", [photos.regions(), np.ones((SIZE, SIZE), np.uint8)])
def test_the_mask_is_soft_and_ends_within_the_frame(regions):
    soft = blending.mask(regions, ALONE)
    assert soft.max() > 0.999
    assert max(np.abs(np.diff(soft, axis=axis)).max() for axis in (0, 1)) < 0.3
    assert max(side.max() for side in (soft[0], soft[-1], soft[:, 0], soft[:, -1])) == 0
    assert (soft[regions == 0] < 0.02).all()


def test_a_map_without_a_face_still_gives_the_middle():
    soft = blending.mask(np.zeros((SIZE, SIZE), np.uint8), ALONE)
    assert soft[SIZE // 2, SIZE // 2] > 0.999
    assert soft[0].max() == soft[:, 0].max() == soft[-1].max() == 0
