"""Batch sampler: the order of the samples, and its division between processes. Flips of the training faces."""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfr.data import images, labels
from psfr.data.datasets import PairedFaceDataset, VariantBatchSampler
from psfr.utils.errors import UserError


def test_order_depends_on_seed_and_epoch_only():
    first, second = VariantBatchSampler(20, 4, seed=1), VariantBatchSampler(20, 4, seed=1)
    assert list(first) == list(second)
    second.epoch = 1
    samples = list(chain(*second))
    assert [epoch for _, epoch in samples] == [1] * 20
    assert [index for index, _ in chain(*first)] != [index for index, _ in samples]
    assert sorted(index for index, _ in samples) == list(range(20))


@given(
    num_images=st.integers(1, 50),
    local_batch_size=st.integers(1, 5),
    world_size=st.integers(1, 4),
    start_batch=st.integers(0, 5),
)
def test_processes_share_each_batch_completely(num_images, local_batch_size, world_size, start_batch):
    batch_size = local_batch_size * world_size
    single = VariantBatchSampler(num_images, batch_size, seed=1)
    if single.batch_size % world_size:
        with pytest.raises(UserError, match="cannot share batches"):
            VariantBatchSampler(num_images, batch_size, seed=1, world_size=world_size)
        return
    shards = [
        VariantBatchSampler(num_images, batch_size, seed=1, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for sampler in [single, *shards]:
        sampler.start_batch = start_batch
    batches = list(single)
    assert len(batches) == max(0, len(single) - start_batch)
    assert [list(chain(*parts)) for parts in zip(*shards, strict=True)] == batches
    assert len(set(chain(*batches))) == len(list(chain(*batches))), "no image twice"


def test_flips_exchange_left_and_right(tmp_path):
    """Of both images and parsing maps, in about half of the epochs, the same ones each time."""
    rng = np.random.default_rng(0)
    for folder in ("hr", "lr/0"):
        images.write(tmp_path / folder / "a.png", rng.integers(256, size=(8, 8, 3), dtype=np.uint8))
    for folder in ("parse/hr", "parse/lr/0"):
        labels.write(tmp_path / folder / "a.png", rng.integers(19, size=(8, 8), dtype=np.uint8))
    folders = tmp_path / "hr", tmp_path / "lr", tmp_path / "parse", set()
    plain = [array.numpy() for array in PairedFaceDataset(*folders)[0, 0]]
    mirrored = [array[:, ::-1] for array in plain[:2]] + [labels.FLIP_MAP[seg[:, ::-1]] for seg in plain[2:]]
    sets = [PairedFaceDataset(*folders, flip=0.5, seed=seed) for seed in (1, 1, 2)]
    flips = [[(faces[0, epoch][0].numpy() == mirrored[0]).all() for epoch in range(40)] for faces in sets]
    assert flips[0] == flips[1] != flips[2] and 10 < sum(flips[0]) < 30
    for epoch, is_flipped in enumerate(flips[0]):
        sample = [array.numpy() for array in sets[0][0, epoch]]
        assert all(map(np.array_equal, sample, mirrored if is_flipped else plain))
    left, right = 4, 5
    assert labels.FLIP_MAP[left] == right
