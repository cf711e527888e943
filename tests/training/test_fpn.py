"""Training of the face parsing network: data, class weights, determinism."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from psfr.data import images, labels
from psfr.networks.fpn import FaceParsingNetwork
from psfr.params import read_params
from psfr.training import fpn, loop
from psfr.training.checkpoint import CheckpointManager
from psfr.utils.errors import UserError

TINY = read_params(Path(__file__).parents[2] / "params/tiny.yaml")

SKIN, LEFT_EYE, RIGHT_EYE, HAIR = 1, 4, 5, 13


@pytest.fixture
def folder(tmp_path):
    """Eight noise images; the left half is skin, the upper right is hair, the lower right the left eye."""
    rng = np.random.default_rng(0)
    seg = np.full((64, 64), SKIN, np.uint8)
    seg[:, 32:] = HAIR
    seg[60:, 32:] = LEFT_EYE
    for index in range(8):
        images.write(tmp_path / "images" / f"{index}.png", rng.integers(0, 256, (64, 64, 3), np.uint8))
        labels.write(tmp_path / "labels" / f"{index}.png", seg)
    return tmp_path


def test_split_contains_every_face_once(folder):
    train_names, val_names = fpn.train_val_split(folder, TINY)
    assert sorted(train_names + val_names) == [str(index) for index in range(8)]
    assert len(val_names) == round(8 * TINY.fpn.held_out)


def test_missing_labels_are_reported_together(folder):
    for name in ("3", "5"):
        (folder / "labels" / f"{name}.png").unlink()
    with pytest.raises(UserError, match="3.png: missing; .*5.png: missing"):
        fpn.train_val_split(folder, TINY)


def test_too_few_faces_for_a_batch(folder):
    params = TINY.model_copy(update={"fpn": TINY.fpn.model_copy(update={"batch_size": 8})})
    with pytest.raises(UserError, match="8 labeled faces are too few for batches of 8"):
        fpn.train_val_split(folder, params)
    published = params.model_copy(update={"fpn": params.fpn.model_copy(update={"source": "published"})})
    assert all(fpn.train_val_split(folder, published)), "published weights need no training batches"


def test_rare_labels_weigh_more(folder):
    names = [str(index) for index in range(8)]
    weights = fpn.class_weights(folder, names, 0.5)
    assert weights[LEFT_EYE] > weights[HAIR] > weights[SKIN]
    share = np.bincount(labels.read(folder / "labels/0.png").ravel(), minlength=19) / 64**2
    assert (weights.numpy() * share).sum() == pytest.approx(1, rel=1e-5)
    assert torch.allclose(fpn.class_weights(folder, names, 0), torch.ones(19))


def test_flip_exchanges_left_and_right_labels(folder):
    dataset = fpn.LabeledFaceDataset(folder, ["0"], TINY, lambda epoch: 0.0, flip=True)
    samples = [dataset[0, epoch] for epoch in range(12)]
    flipped = [bool((seg[:32, :32] == HAIR).all()) for _, _, seg in samples]
    assert set(flipped) == {True, False}
    for (lq, hq, seg), is_flipped in zip(samples, flipped, strict=True):
        assert torch.equal(lq, hq), "not degraded"
        assert set(seg.unique().tolist()) == {SKIN, HAIR, RIGHT_EYE if is_flipped else LEFT_EYE}


def test_degradation_depends_on_epoch(folder):
    dataset = fpn.LabeledFaceDataset(folder, ["0", "1"], TINY, lambda epoch: 1.0, flip=False)
    assert torch.equal(dataset[0, 3][0], dataset[0, 3][0])
    assert not torch.equal(dataset[0, 3][0], dataset[0, 4][0])


def test_datasets_can_be_sent_to_processes_that_are_not_forked(folder, monkeypatch):
    """macOS and Windows spawn them, and Linux does not fork them from Python 3.14 on."""

    def make_dataloader(dataset, *_):
        copy = pickle.loads(pickle.dumps(dataset))
        assert all(torch.equal(a, b) for a, b in zip(copy[0, 3], dataset[0, 3], strict=True))
        raise KeyboardInterrupt

    monkeypatch.setattr(fpn, "make_dataloader", make_dataloader)
    monkeypatch.setattr(loop, "make_dataloader", make_dataloader)
    with pytest.raises(KeyboardInterrupt):
        fpn.train(folder, ["0", "1"], TINY, CheckpointManager(folder, 60))
    with pytest.raises(KeyboardInterrupt):
        fpn.evaluate(FaceParsingNetwork(**fpn.network_config(TINY)), folder, ["0"], TINY, degraded=True)


@pytest.mark.process  # those that load data
def test_training_and_evaluation_are_deterministic(folder, tmp_path_factory):
    names = [str(index) for index in range(8)]
    runs = []
    for _ in range(2):
        checkpoints = CheckpointManager(tmp_path_factory.mktemp("checkpoints"), 60)
        runs.append(fpn.train(folder, names, TINY, checkpoints))
    first, second = (network.state_dict() for network, _ in runs)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert runs[0][1] == runs[1][1]
    matrix = fpn.evaluate(runs[0][0], folder, names, TINY, degraded=False)
    assert matrix.sum() == 8 * 64 * 64
    assert set(np.flatnonzero(matrix.sum(1))) == {SKIN, LEFT_EYE, HAIR}
