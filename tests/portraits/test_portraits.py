"""Synthetic portraits: reproducibility, independence of the size, exact parsing maps, and faces that dlib detects."""

import dataclasses
import functools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psfr.portraits import MAX_SIZE, MIN_SIZE, Label, Person, draw, render, sample_person
from psfr.portraits.camera import camera_for
from psfr.portraits.grid import Noise

SEED = 20210621


@functools.cache
def portrait(index: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    return draw(SEED, index, size)


def person(index: int) -> Person:
    return sample_person(np.random.default_rng([SEED, index]))


def plain(index: int) -> Person:
    """Return a person without hair, hat, glasses or beard, in even light and without photographic finish."""
    p = person(index)
    return dataclasses.replace(
        p,
        pose=dataclasses.replace(p.pose, yaw=0.0, pitch=0.0, roll=0.0),
        hair=dataclasses.replace(p.hair, cut="bald"),
        skin=dataclasses.replace(p.skin, beard=0.0),
        accessories=dataclasses.replace(p.accessories, glasses="none", hat="none", earrings="none", necklace=False),
        scene=dataclasses.replace(p.scene, blur=0.0, grain=0.0, haze=0.0, saturation=1.0, exposure=0.0),
        light=dataclasses.replace(p.light, key=(0.0, -0.3, 0.95), ambient=0.5),
    )


@pytest.mark.heavy
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**40), index=st.integers(0, 10**6), size=st.integers(MIN_SIZE, 150))
def test_every_portrait_is_an_image_with_parsing_map(seed, index, size):
    image, seg = draw(seed, index, size)
    assert image.dtype == np.uint8 and image.shape == (size, size, 3)
    assert seg.dtype == np.uint8 and seg.shape == (size, size)
    assert seg.max() <= max(Label)
    assert image.std() > 3
    assert (seg == Label.SKIN).mean() > 0.03


def test_is_deterministic():
    first, again = draw(SEED, 3, 96), draw(SEED, 3, 96)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_is_independent_of_the_number_of_threads():
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        one = draw(SEED, 5, 128)
        cv2.setNumThreads(4)
        four = draw(SEED, 5, 128)
    finally:
        cv2.setNumThreads(threads)
    assert all(np.array_equal(a, b) for a, b in zip(one, four, strict=True))


def test_seed_and_index_change_the_portrait():
    image, _ = draw(SEED, 3, 64)
    assert not np.array_equal(image, draw(SEED, 4, 64)[0])
    assert not np.array_equal(image, draw(SEED + 1, 3, 64)[0])


@pytest.mark.heavy
@pytest.mark.parametrize("index", range(6))
def test_every_size_shows_the_same_scene(index):
    small_image, small = portrait(index, 64)
    large_image, large = portrait(index, 256)
    thinned = cv2.resize(large, (64, 64), interpolation=cv2.INTER_NEAREST)
    assert (thinned == small).mean() > 0.93
    averaged = cv2.resize(large_image, (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(averaged.astype(float) - small_image).mean() < 8


def test_draws_sizes_that_are_not_powers_of_two():
    for size in (MIN_SIZE, 33, 101):
        assert draw(SEED, 0, size)[1].shape == (size, size)


@pytest.mark.heavy
def test_all_19_labels_occur():
    found = set()
    for index in range(120):
        found |= set(np.unique(portrait(index, 64)[1]).tolist())
        if len(found) >= 19:
            break
    assert found == set(range(19))


@pytest.mark.parametrize("arguments", [(-1, 0, 64), (0, -1, 64), (0, 0, MIN_SIZE - 1), (0, 0, MAX_SIZE + 1)])
def test_rejects_invalid_arguments(arguments):
    with pytest.raises(ValueError, match="must be"):
        draw(*arguments)


@pytest.mark.heavy
def test_left_is_the_persons_left_as_in_celebamask_hq():
    pairs = (
        (Label.LEFT_EYE, Label.RIGHT_EYE),
        (Label.LEFT_BROW, Label.RIGHT_BROW),
        (Label.LEFT_EAR, Label.RIGHT_EAR),
    )
    checked = 0
    for index in range(30):
        seg = portrait(index, 64)[1]
        for left, right in pairs:
            if (seg == left).any() and (seg == right).any():
                assert np.nonzero(seg == left)[1].mean() > np.nonzero(seg == right)[1].mean()
                checked += 1
    assert checked > 50


@pytest.mark.heavy
def test_features_lie_where_aligned_photographs_have_them():
    """Expected positions are means over aligned CelebA-HQ faces, as fractions of the image side."""
    expected = {
        Label.RIGHT_EYE: (0.378, 0.478), Label.LEFT_EYE: (0.622, 0.478), Label.NOSE: (0.50, 0.577),
        Label.RIGHT_BROW: (0.370, 0.416), Label.LEFT_BROW: (0.626, 0.415), Label.LOWER_LIP: (0.50, 0.766),
    }  # fmt: skip
    centers = {label: [] for label in expected}
    for index in range(60):
        seg = portrait(index, 64)[1]
        for label in expected:
            y, x = np.nonzero(seg == label)
            if len(x):
                centers[label].append(((x.mean() + 0.5) / 64, (y.mean() + 0.5) / 64))
    for label, position in expected.items():
        assert np.allclose(np.median(centers[label], axis=0), position, atol=0.02), label.name


def test_labels_match_the_features_to_the_pixel():
    """Changing the color of a feature changes the image inside its label and at most one pixel around it."""
    base = plain(11)
    size = 256

    def picture(p):
        return render(p, Noise(SEED, 11), size)

    image, seg = picture(base)
    changes = {
        (Label.LEFT_EYE, Label.RIGHT_EYE): {
            "eyes": dataclasses.replace(base.eyes, iris=(0.9, 0.2, 0.9), iris_radius=0.13)
        },
        (Label.UPPER_LIP, Label.LOWER_LIP): {"mouth": dataclasses.replace(base.mouth, lip_color=(0.1, 0.9, 0.1))},
    }
    for changed_labels, change in changes.items():
        other, other_seg = picture(dataclasses.replace(base, **change))
        assert np.array_equal(seg, other_seg)
        changed = np.abs(image.astype(int) - other).max(axis=-1) > 24
        inside = np.isin(seg, changed_labels)
        around = cv2.dilate(inside.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        assert changed[inside].mean() > 0.25
        assert changed.sum() > 20
        assert (changed & ~around).sum() == 0


def test_labels_of_background_clothes_and_hair_match_their_colors():
    base = plain(23)
    loud = dataclasses.replace(
        base,
        hair=dataclasses.replace(person(23).hair, cut="long", length=2.0, side=0.3, color=(0.05, 0.75, 0.1)),
        scene=dataclasses.replace(
            base.scene,
            backdrop="studio",
            backdrop_color=(0.1, 0.2, 0.95),
            clothes="crew",
            cloth_color=(0.9, 0.9, 0.05),
            cloth_pattern="plain",
        ),
    )
    image, seg = render(loud, Noise(SEED, 23), 128)
    core = {
        label: cv2.erode((seg == label).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) for label in Label
    }
    strongest = image.argmax(axis=-1)
    assert (strongest[core[Label.BACKGROUND]] == 2).mean() > 0.99
    assert (strongest[core[Label.HAIR]] == 1).mean() > 0.99
    assert (strongest[core[Label.SKIN]] == 0).mean() > 0.95
    yellow = image[core[Label.CLOTH]].astype(int)
    assert (yellow[:, 2] < yellow[:, :2].min(axis=1)).mean() > 0.95


def test_only_an_open_mouth_has_the_label_mouth():
    base = plain(2)
    for gap, expected in ((0.0, False), (0.15, True)):
        open_mouth = dataclasses.replace(base, mouth=dataclasses.replace(base.mouth, gap=gap))
        _, seg = render(open_mouth, Noise(SEED, 2), 128)
        assert (seg == Label.MOUTH).any() == expected


def test_sunglasses_hide_the_labels_of_the_eyes_and_clear_glasses_do_not():
    base = plain(8)
    for kind, opacity, visible in (("clear", 0.05, True), ("sun", 0.95, False)):
        accessories = dataclasses.replace(
            base.accessories, glasses=kind, lens_opacity=opacity, lens_size=1.1, lens_round=4.0
        )
        _, seg = render(dataclasses.replace(base, accessories=accessories), Noise(SEED, 8), 128)
        assert (seg == Label.GLASSES).mean() > 0.01
        assert (seg == Label.LEFT_EYE).any() == visible


def test_yaw_moves_the_nose_relative_to_the_eyes():
    base = plain(4)

    def nose_offset(yaw: float) -> float:
        turned = dataclasses.replace(base, pose=dataclasses.replace(base.pose, yaw=yaw))
        _, seg = render(turned, Noise(SEED, 4), 128)
        x = {label: np.nonzero(seg == label)[1].mean() for label in (Label.NOSE, Label.LEFT_EYE, Label.RIGHT_EYE)}
        return x[Label.NOSE] - (x[Label.LEFT_EYE] + x[Label.RIGHT_EYE]) / 2

    assert nose_offset(-20) < nose_offset(0) - 2
    assert nose_offset(20) > nose_offset(0) + 2


def detects_face(detector, index: int, size: int = 256) -> bool:
    """Return whether one face is detected and its box is centered on the facial labels."""
    image, seg = portrait(index, size)
    boxes = detector(image)
    if len(boxes) != 1:
        return False
    y, x = np.nonzero(np.isin(seg, (Label.NOSE, Label.UPPER_LIP, Label.LOWER_LIP, Label.LEFT_EYE, Label.RIGHT_EYE)))
    center = boxes[0].center()
    return abs(center.x - x.mean()) < 0.12 * size and abs(center.y - y.mean()) < 0.12 * size


@pytest.mark.heavy
@pytest.mark.parametrize("portraits", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_dlib_detects_exactly_one_face(portraits):
    dlib = pytest.importorskip("dlib")
    detector = dlib.get_frontal_face_detector()
    found = sum(detects_face(detector, index) for index in range(portraits))
    assert found >= 0.95 * portraits


def test_crop_is_level_and_centered_on_the_eyes():
    for index in range(20):
        p = dataclasses.replace(
            person(index), pose=dataclasses.replace(person(index).pose, roll=0.0, shift=(0.0, 0.0), zoom=1.0, yaw=0.0)
        )
        camera = camera_for(p)
        eyes = camera.to_image(camera.project(np.array([[-0.5, 0.0, 1.2], [0.5, 0.0, 1.2]])))
        assert eyes[0, 1] == pytest.approx(eyes[1, 1], abs=1e-6)
        assert eyes[:, 0].mean() == pytest.approx(0.5, abs=1e-6)
