"""What the face parsing network is trained on."""

from pathlib import Path

import numpy as np
import pytest
import torch

from psfr import params
from psfr.data import images, labels
from psfr.training import fpn
from psfr.training.checkpoint import Snapshots
from psfr.utils.errors import InputError

TINY = params.read(Path(__file__).parents[2] / "params/tiny.yaml")


@pytest.fixture
def folder(tmp_path):
    """Eight faces of noise whose left half is skin, whose upper right is hair, whose lower right is the left eye."""
    rng = np.random.default_rng(0)
    regions = np.full((64, 64), 1, np.uint8)
    regions[:, 32:] = 13
    regions[60:, 32:] = 4
    for index in range(8):
        images.write(tmp_path / "images" / f"{index}.png", rng.integers(0, 256, (64, 64, 3), np.uint8))
        labels.write(tmp_path / "labels" / f"{index}.png", regions)
    return tmp_path


def test_the_split_keeps_every_face_once(folder):
    training, held_out = fpn.split(folder, TINY)
    assert sorted(training + held_out) == [str(index) for index in range(8)]
    assert len(held_out) == round(8 * TINY.fpn.held_out)


def test_faces_without_labels_are_named_together(folder):
    for name in ("3", "5"):
        (folder / "labels" / f"{name}.png").unlink()
    with pytest.raises(InputError, match="3.png: missing; .*5.png: missing"):
        fpn.split(folder, TINY)


def test_too_few_faces_are_refused(folder):
    few = TINY.model_copy(update={"fpn": TINY.fpn.model_copy(update={"batch_size": 8})})
    with pytest.raises(InputError, match="8 labelled faces are too few for batches of 8"):
        fpn.split(folder, few)
    published = few.model_copy(update={"fpn": few.fpn.model_copy(update={"source": "published"})})
    assert all(fpn.split(folder, published)), "one that is not trained needs no batches"


def test_rare_labels_weigh_more(folder):
    names = [str(index) for index in range(8)]
    weights = fpn.label_weights(folder, names, 0.5)
    assert weights[4] > weights[13] > weights[1]
    share = np.bincount(labels.read(folder / "labels/0.png").ravel(), minlength=19) / 64**2
    assert (weights.numpy() * share).sum() == pytest.approx(1, rel=1e-5)
    assert torch.allclose(fpn.label_weights(folder, names, 0), torch.ones(19))


def test_a_mirrored_face_has_its_left_eye_on_the_right(folder):
    faces = fpn.LabelledFaces(folder, ["0"], TINY, lambda epoch: 0.0, mirrored=True)
    samples = [faces[0, epoch] for epoch in range(12)]
    seen = {bool((regions[:32, :32] == 13).all()) for _, _, regions in samples}
    assert seen == {True, False}
    for low, high, regions in samples:
        assert torch.equal(low, high), "no degradation was asked for"
        mirrored = bool((regions[:32, :32] == 13).all())
        assert set(regions.unique().tolist()) == ({1, 13, 5} if mirrored else {1, 13, 4})


def test_degradation_belongs_to_the_epoch(folder):
    faces = fpn.LabelledFaces(folder, ["0", "1"], TINY, lambda epoch: 1.0, mirrored=False)
    assert torch.equal(faces[0, 3][0], faces[0, 3][0])
    assert not torch.equal(faces[0, 3][0], faces[0, 4][0])


def test_training_and_evaluation_are_the_same_each_time(folder, tmp_path_factory):
    names = [str(index) for index in range(8)]
    runs = [fpn.train(folder, names, TINY, Snapshots(tmp_path_factory.mktemp("kept"), 60)) for _ in range(2)]
    first, second = (network.state_dict() for network, _ in runs)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert runs[0][1] == runs[1][1]
    matrix = fpn.evaluate(runs[0][0], folder, names, TINY, degraded=False)
    assert matrix.sum() == 8 * 64 * 64
    assert set(np.flatnonzero(matrix.sum(1))) == {1, 4, 13}
