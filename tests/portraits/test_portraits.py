"""The drawn portraits: the same everywhere, at every size, with labels that belong to the picture, and faces to a detector."""

import dataclasses
import functools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psfr.portraits import MAX_SIZE, MIN_SIZE, Region, draw, render, sample_person
from psfr.portraits.camera import aim
from psfr.portraits.fields import Noise

SEED = 20210621


@functools.cache
def portrait(index: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    return draw(SEED, index, size)


def person(index: int):
    return sample_person(np.random.default_rng([SEED, index]))


def plain(index: int, **worn):
    """A person whose features lie open: no hair, hat, glasses or beard, even light and no photographic finish."""
    p = person(index)
    return dataclasses.replace(
        p,
        pose=dataclasses.replace(p.pose, yaw=0.0, pitch=0.0, roll=0.0),
        hair=dataclasses.replace(p.hair, cut="bald"),
        skin=dataclasses.replace(p.skin, beard=0.0),
        worn=dataclasses.replace(p.worn, glasses="none", hat="none", earrings="none", necklace=False),
        scene=dataclasses.replace(p.scene, blur=0.0, grain=0.0, haze=0.0, saturation=1.0, exposure=0.0),
        light=dataclasses.replace(p.light, key=(0.0, -0.3, 0.95), ambient=0.5),
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**40), index=st.integers(0, 10**6), size=st.integers(MIN_SIZE, 150))
def test_every_portrait_is_an_image_with_labels(seed, index, size):
    image, labels = draw(seed, index, size)
    assert image.dtype == np.uint8 and image.shape == (size, size, 3)
    assert labels.dtype == np.uint8 and labels.shape == (size, size)
    assert labels.max() <= max(Region)
    assert image.std() > 3
    assert (labels == Region.SKIN).mean() > 0.03


def test_the_same_arguments_draw_the_same_bytes():
    first, again = draw(SEED, 3, 96), draw(SEED, 3, 96)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_the_number_of_threads_does_not_matter():
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        one = draw(SEED, 5, 128)
        cv2.setNumThreads(4)
        four = draw(SEED, 5, 128)
    finally:
        cv2.setNumThreads(threads)
    assert all(np.array_equal(a, b) for a, b in zip(one, four, strict=True))


def test_another_seed_or_index_draws_another_portrait():
    image, _ = draw(SEED, 3, 64)
    assert not np.array_equal(image, draw(SEED, 4, 64)[0])
    assert not np.array_equal(image, draw(SEED + 1, 3, 64)[0])


@pytest.mark.parametrize("index", range(6))
def test_a_portrait_shows_the_same_scene_at_every_size(index):
    small_image, small = portrait(index, 64)
    large_image, large = portrait(index, 256)
    thinned = cv2.resize(large, (64, 64), interpolation=cv2.INTER_NEAREST)
    assert (thinned == small).mean() > 0.93
    averaged = cv2.resize(large_image, (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(averaged.astype(float) - small_image).mean() < 8


def test_sizes_need_not_be_powers_of_two_and_the_bounds_are_drawn():
    for size in (MIN_SIZE, 33, 101):
        assert draw(SEED, 0, size)[1].shape == (size, size)


def test_all_nineteen_labels_occur():
    seen = set()
    for index in range(120):
        seen |= set(np.unique(portrait(index, 64)[1]).tolist())
    assert seen == set(range(19))


@pytest.mark.parametrize("arguments", [(-1, 0, 64), (0, -1, 64), (0, 0, MIN_SIZE - 1), (0, 0, MAX_SIZE + 1)])
def test_impossible_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match="must be|size is"):
        draw(*arguments)


def test_left_is_the_persons_left_as_in_celebamask():
    pairs = (
        (Region.LEFT_EYE, Region.RIGHT_EYE),
        (Region.LEFT_BROW, Region.RIGHT_BROW),
        (Region.LEFT_EAR, Region.RIGHT_EAR),
    )
    checked = 0
    for index in range(30):
        labels = portrait(index, 64)[1]
        for left, right in pairs:
            if (labels == left).any() and (labels == right).any():
                assert np.nonzero(labels == left)[1].mean() > np.nonzero(labels == right)[1].mean()
                checked += 1
    assert checked > 50


def test_faces_stand_where_aligned_photographs_have_them():
    """Means over aligned CelebA-HQ faces, as shares of the picture: eyes (0.38 and 0.62, 0.48), nose (0.50, 0.58), lower lip (0.50, 0.77)."""
    expected = {
        Region.RIGHT_EYE: (0.378, 0.478), Region.LEFT_EYE: (0.622, 0.478), Region.NOSE: (0.50, 0.577),
        Region.RIGHT_BROW: (0.370, 0.416), Region.LEFT_BROW: (0.626, 0.415), Region.LOWER_LIP: (0.50, 0.766),
    }  # fmt: skip
    centres = {region: [] for region in expected}
    for index in range(60):
        labels = portrait(index, 64)[1]
        for region in expected:
            y, x = np.nonzero(labels == region)
            if len(x):
                centres[region].append(((x.mean() + 0.5) / 64, (y.mean() + 0.5) / 64))
    for region, place in expected.items():
        assert np.allclose(np.median(centres[region], axis=0), place, atol=0.02), region.name


def test_labels_follow_the_features_to_the_pixel():
    """Change what one feature looks like: the picture changes inside that feature's label and hardly anywhere else."""
    base = plain(11)
    size = 256

    def picture(p):
        return render(p, Noise(SEED, 11), size)

    image, labels = picture(base)
    changes = {
        (Region.LEFT_EYE, Region.RIGHT_EYE): {
            "eyes": dataclasses.replace(base.eyes, iris=(0.9, 0.2, 0.9), iris_radius=0.13)
        },
        (Region.UPPER_LIP, Region.LOWER_LIP): {"mouth": dataclasses.replace(base.mouth, lip_color=(0.1, 0.9, 0.1))},
    }
    for regions, change in changes.items():
        other, other_labels = picture(dataclasses.replace(base, **change))
        assert np.array_equal(labels, other_labels)
        changed = np.abs(image.astype(int) - other).max(axis=-1) > 24
        inside = np.isin(labels, regions)
        around = cv2.dilate(inside.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        assert changed[inside].mean() > 0.25
        assert changed.sum() > 20
        assert (changed & ~around).sum() == 0


def test_background_clothes_hair_and_hat_labels_hold_their_own_colours():
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
    image, labels = render(loud, Noise(SEED, 23), 128)
    core = {
        region: cv2.erode((labels == region).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        for region in Region
    }
    strongest = image.argmax(axis=-1)
    assert (strongest[core[Region.BACKGROUND]] == 2).mean() > 0.99
    assert (strongest[core[Region.HAIR]] == 1).mean() > 0.99
    assert (strongest[core[Region.SKIN]] == 0).mean() > 0.95
    yellow = image[core[Region.CLOTH]].astype(int)
    assert (yellow[:, 2] < yellow[:, :2].min(axis=1)).mean() > 0.95


def test_an_open_mouth_shows_its_inside_and_a_shut_one_does_not():
    base = plain(2)
    for gap, expected in ((0.0, False), (0.15, True)):
        labels = render(dataclasses.replace(base, mouth=dataclasses.replace(base.mouth, gap=gap)), Noise(SEED, 2), 128)[
            1
        ]
        assert (labels == Region.MOUTH).any() == expected


def test_clear_glasses_leave_the_eyes_labelled_and_dark_ones_hide_them():
    base = plain(8)
    for kind, opacity, visible in (("clear", 0.05, True), ("sun", 0.95, False)):
        worn = dataclasses.replace(base.worn, glasses=kind, lens_opacity=opacity, lens_size=1.1, lens_round=4.0)
        labels = render(dataclasses.replace(base, worn=worn), Noise(SEED, 8), 128)[1]
        assert (labels == Region.GLASSES).mean() > 0.01
        assert (labels == Region.LEFT_EYE).any() == visible


def test_turning_the_head_moves_the_nose_against_the_eyes():
    base = plain(4)

    def nose_offset(yaw: float) -> float:
        labels = render(dataclasses.replace(base, pose=dataclasses.replace(base.pose, yaw=yaw)), Noise(SEED, 4), 128)[1]
        x = {
            region: np.nonzero(labels == region)[1].mean()
            for region in (Region.NOSE, Region.LEFT_EYE, Region.RIGHT_EYE)
        }
        return x[Region.NOSE] - (x[Region.LEFT_EYE] + x[Region.RIGHT_EYE]) / 2

    assert nose_offset(-20) < nose_offset(0) - 2
    assert nose_offset(20) > nose_offset(0) + 2


def found_rightly(detector, index: int, size: int = 256) -> bool:
    """One face is found, and its box lies about the face of the labels."""
    image, labels = portrait(index, size)
    boxes = detector(image)
    if len(boxes) != 1:
        return False
    y, x = np.nonzero(
        np.isin(labels, (Region.NOSE, Region.UPPER_LIP, Region.LOWER_LIP, Region.LEFT_EYE, Region.RIGHT_EYE))
    )
    centre = boxes[0].center()
    return abs(centre.x - x.mean()) < 0.12 * size and abs(centre.y - y.mean()) < 0.12 * size


@pytest.mark.parametrize("portraits", [60, pytest.param(200, marks=pytest.mark.slow)])
def test_dlib_finds_the_one_face(portraits):
    dlib = pytest.importorskip("dlib")
    detector = dlib.get_frontal_face_detector()
    found = sum(found_rightly(detector, index) for index in range(portraits))
    assert found >= 0.95 * portraits


def test_the_crop_is_level_and_centred_on_the_eyes():
    for index in range(20):
        p = dataclasses.replace(
            person(index), pose=dataclasses.replace(person(index).pose, roll=0.0, shift=(0.0, 0.0), zoom=1.0, yaw=0.0)
        )
        camera = aim(p)
        eyes = camera.to_picture(camera.project(np.array([[-0.5, 0.0, 1.2], [0.5, 0.0, 1.2]])))
        assert eyes[0, 1] == pytest.approx(eyes[1, 1], abs=1e-6)
        assert eyes[:, 0].mean() == pytest.approx(0.5, abs=1e-6)
