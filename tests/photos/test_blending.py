"""Blending: no seam, no change of illumination, no new colors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfr.data import images, labels
from psfr.photos import alignment, blending, levels
from psfr.photos.alignment import Frame
from tests.helpers import photos

SIZE = photos.SIZE
NO_OTHER_FACES = np.zeros((0, 2), complex)


def restore(photo: np.ndarray, frame: Frame = photos.FRAME, strength: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return the photo with the face of `photos.flawed_restorer` blended in, and where the mask is above 0, (H, W)."""
    level = 257 if photo.dtype == np.uint16 else 1
    aligned = alignment.crop((photo / level).astype(np.uint8), frame, SIZE)
    tint = blending.detect_tint(aligned)
    seg, restored, _ = photos.flawed_restorer(aligned if tint is None else images.gray(aligned))
    if tint is not None:
        restored = tint.apply(aligned, restored)
    alpha = blending.blend_mask(photos.is_head(seg), NO_OTHER_FACES)
    result = photo.copy()
    blending.blend(result, strength * blending.residual(aligned, restored, alpha), frame)
    rows, columns = alignment.window(frame, photo.shape)
    masked = np.zeros(photo.shape[:2], bool)
    window_frame = frame.translated(columns.start, rows.start)
    masked[rows, columns] = alignment.uncrop(alpha, window_frame, masked[rows, columns].shape) > 0
    return result, masked


def chroma(image: np.ndarray) -> np.ndarray:
    return image - (image @ levels.LUMINANCE)[..., None]


def face(photo: np.ndarray) -> np.ndarray:
    return alignment.crop(photo, photos.FRAME, 200)[50:150, 50:150].astype(float)


def test_keeps_light_and_color_and_adds_detail():
    before = photos.astronaut()
    after, masked = restore(before)
    # The restorer adds 20 levels, green and purple.
    assert np.abs((face(after) - face(before)).mean((0, 1))).max() < 2.5
    sharpness = [np.abs(np.diff(face(photo), axis=0)).mean() for photo in (before, after)]
    assert sharpness[1] > 1.3 * sharpness[0]
    assert (after[~masked] == before[~masked]).all()
    assert (after != before).any()


def test_no_seam():
    """On a flat image, the change has no steps, neither at the mask's border nor at the image's."""
    before = np.full_like(photos.astronaut(), 128)
    after, masked = restore(before)
    assert masked.any()
    changes = after.astype(int) - before
    steps = max(np.abs(np.diff(changes, axis=axis)).max() for axis in (0, 1))
    assert steps <= 8
    assert np.abs(changes[masked]).mean() < 6


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("convert", [images.gray, photos.sepia])
def test_monochrome_photo_keeps_its_tint(convert, dtype):
    level = 257 if dtype == np.uint16 else 1
    before = convert(photos.astronaut()).astype(dtype) * level
    after, _ = restore(before)
    assert np.abs((chroma(face(after)) - chroma(face(before))).mean((0, 1)) / level).max() < 0.5
    assert np.abs(after.astype(int) - before).max() > 10 * level
    if convert is images.gray:
        assert np.ptp(after, axis=2).max() <= 1


def test_tint_of_a_brighter_face():
    """A face brightened by 30 levels has the tint's colors of these levels."""
    aligned = photos.sepia(alignment.crop(images.gray(photos.astronaut()), photos.FRAME, SIZE))
    gray = images.gray(aligned)
    inside = (gray[:, :, 0] > 40) & (gray[:, :, 0] < 170)
    tint = blending.detect_tint(aligned)
    tinted = tint.apply(aligned, gray + np.uint8(30) * (gray < 200))
    ramp = photos.sepia(np.repeat(np.arange(256)[None, :, None], 3, axis=2))[0]
    luminance = ramp @ levels.LUMINANCE
    expected = np.stack([np.interp(tinted @ levels.LUMINANCE, luminance, channel) for channel in ramp.T], 2)
    assert (tinted @ levels.LUMINANCE - gray[:, :, 0])[inside].mean() == pytest.approx(30, abs=0.5)
    assert np.abs(tinted - expected)[inside].mean() < 1.5


@pytest.mark.heavy
@given(tint=st.tuples(*[st.floats(-30, 30)] * 3), noise=st.floats(0, 15), seed=st.integers(0, 99))
def test_detects_the_tint_of_a_noisy_photo(tint, noise, seed):
    gray = alignment.crop(images.gray(photos.astronaut()), photos.FRAME, 256).astype(float)
    curve = np.sin(gray / 255 * np.pi)[:, :, :1] * np.array(tint)
    noisy = gray + curve + np.random.default_rng(seed).normal(0, noise, gray.shape)
    assert blending.detect_tint(np.clip(np.rint(noisy), 0, 255).astype(np.uint8)) is not None


def test_detects_no_tint_in_a_color_photo():
    assert blending.detect_tint(alignment.crop(photos.astronaut(), photos.FRAME, SIZE)) is None


def test_strength_scales_the_change():
    before = photos.astronaut()
    full, half, none = (restore(before, strength=strength)[0].astype(int) - before for strength in (1, 0.5, 0))
    assert not none.any()
    unclipped = (np.abs(full).max(2) < 60) & (before.min(2) > 70) & (before.max(2) < 190)
    assert np.abs(full / 2 - half)[unclipped].max() <= 1


@pytest.mark.parametrize(
    "frame",
    [
        Frame(-60 - 50j, 175 + 10j),
        Frame(200 + 190j, 175 - 20j),
        Frame(100 + 100j, 6 + 0j),
        Frame(-300 - 300j, 900 + 0j),
    ],
)
def test_frame_across_the_border_tiny_or_larger_than_the_photo(frame):
    before = photos.astronaut()
    after, masked = restore(before, frame)
    assert after.shape == before.shape
    assert (after[~masked] == before[~masked]).all()


def test_masks_of_adjacent_faces_do_not_overlap():
    """Of two heads that one frame shows, the mask covers the head of its own frame only."""
    both_heads = np.ones((SIZE, SIZE), bool)
    left = blending.blend_mask(both_heads, np.array([[1.1 + 0.5j, 1]]))
    right = blending.blend_mask(both_heads, np.array([[-0.1 + 0.5j, 1]]))
    shift = round(0.6 * SIZE)
    assert left[:, : SIZE // 2].max() > 0.999 and right[:, SIZE // 2 :].max() > 0.999
    assert (left[:, shift:] * right[:, : SIZE - shift] == 0).all()
    beside_small, beside_large = (
        blending.blend_mask(both_heads, np.array([[1 + 0.5j, size]]))[SIZE // 2] for size in (0.25, 1)
    )
    assert (beside_small > 0.5).sum() > (beside_large > 0.5).sum() + SIZE // 10


@pytest.mark.parametrize("seg", [photos.parsing_map(), np.ones((SIZE, SIZE), np.uint8)])
def test_mask_is_soft_and_ends_within_the_frame(seg):
    alpha = blending.blend_mask(photos.is_head(seg), NO_OTHER_FACES)
    assert alpha.max() > 0.999
    assert max(np.abs(np.diff(alpha, axis=axis)).max() for axis in (0, 1)) < 0.3
    assert max(border.max() for border in (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1])) == 0
    assert (alpha[seg == 0] < 0.02).all()


def test_mask_of_a_parsing_map_without_a_face():
    alpha = blending.blend_mask(np.zeros((SIZE, SIZE), bool), NO_OTHER_FACES)
    assert alpha[SIZE // 2, SIZE // 2] > 0.999
    assert alpha[0].max() == alpha[:, 0].max() == alpha[-1].max() == 0


def test_mask_of_a_cut_face_ignores_what_is_mirrored():
    """Neither a mirrored head nor the background that it would enclose counts; the photograph's border is no edge."""
    seg = photos.parsing_map(SIZE)
    visible = np.zeros(seg.shape, bool)
    visible[:, SIZE // 2 :] = True
    mirrored = np.where(visible, seg, labels.NAMES.index("skin")).astype(np.uint8)
    mirrored[:, -4:] = labels.NAMES.index("hair")  # with the mirrored part, it would enclose the background
    mirrored[:4] = mirrored[-4:] = labels.NAMES.index("hair")
    alpha = blending.blend_mask(photos.is_head(mirrored), NO_OTHER_FACES, visible)
    assert (alpha[~visible] == 0).all() and (alpha[(seg == 0) & visible] == 0).all()
    assert alpha == pytest.approx(blending.blend_mask(photos.is_head(seg), NO_OTHER_FACES) * visible, abs=0.02)


def test_head_is_what_the_parsing_network_is_sure_of_unless_the_face_is_degraded():
    """In a good photograph, what may be background keeps its pixels; in a bad one, hair is restored as well."""
    probability = np.array([[0.1, 0.45, 0.55, 0.85, 0.97]], np.float32)
    assert blending.select_head(probability, 0.1).tolist() == [[False, False, False, False, True]]
    assert blending.select_head(probability, 0.9).tolist() == [[False, False, True, True, True]]
    num_head = [blending.select_head(probability, severity).sum() for severity in np.linspace(0, 1, 21)]
    assert num_head == sorted(num_head)
