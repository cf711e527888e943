"""Batch sampler: the order of the samples, and its division between processes."""

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfr.data.datasets import VariantBatchSampler
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
