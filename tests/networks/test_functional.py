"""Instance norm and its gradient."""

import gc
import weakref

import pytest
import torch
from torch.nn import functional as F

from psfr.networks.functional import instance_norm
from psfr.training import reference
from tests.helpers.networks import max_error, randn64


def test_instance_norm_and_its_gradient():
    x = randn64(2, 3, 5, 6, requires_grad=True)
    expected, actual = F.instance_norm(x), instance_norm(x)
    assert max_error(actual, expected) < 1e-12
    assert max_error(*reference.weighted_grad(actual, x), *reference.weighted_grad(expected, x)) < 1e-12


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("batch", [1, 2])
def test_gradient_of_instance_norm_in_bf16(batch, memory_format):
    x = torch.randn(batch, 3, 5, 6).bfloat16().to(memory_format=memory_format).requires_grad_()
    expected = F.instance_norm(x.double())
    actual = instance_norm(x)
    assert max_error(actual, expected) < 2e-2
    assert max_error(*reference.weighted_grad(actual, x), *reference.weighted_grad(expected, x)) < 2e-2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batch", [1, 2])
def test_instance_norm_without_backward_is_released(dtype, batch):
    x = torch.randn(batch, 4, 6, 6, dtype=dtype).to(memory_format=torch.channels_last).requires_grad_()
    gc.disable()
    try:
        output = instance_norm(x)
        node = weakref.ref(output.grad_fn)  # owns the saved tensors
        del output
        assert node() is None
    finally:
        gc.enable()
