"""Losses: the optimized style loss equals the reference implementation; hinge and feature matching losses."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from psfr.training import losses, reference


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    channels=st.integers(1, 24),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    num_labels=st.integers(1, 19),
)
def test_style_loss_equals_reference(seed, channels, height, width, num_labels):
    torch.manual_seed(seed)
    labels = torch.randint(0, num_labels, (2, 2 * height, 3 * width))
    restored = torch.randn(2, channels, height, width).requires_grad_()
    hq = torch.randn(2, channels, height, width)
    actual = losses.semantic_style_loss([restored], [hq], labels)
    expected = reference.style_loss([restored.double()], [hq.double()], labels)
    assert actual.item() == pytest.approx(expected.item(), rel=1e-4)
    (actual_grad,), (expected_grad,) = (torch.autograd.grad(loss, restored) for loss in (actual, expected))
    assert (actual_grad - expected_grad).norm() <= 1e-4 * expected_grad.norm()


def test_style_loss_is_accurate_for_similar_images():
    torch.manual_seed(0)
    labels = torch.randint(0, 19, (1, 16, 16))
    hq = 100 * torch.randn(1, 64, 16, 16)
    restored = hq + 1e-3 * torch.randn_like(hq)
    expected = reference.style_loss([restored.double()], [hq.double()], labels)
    assert losses.semantic_style_loss([restored], [hq], labels).item() == pytest.approx(expected.item(), rel=1e-3)


def test_feature_matching_treats_real_features_as_constants():
    real = [(torch.zeros(1), [torch.zeros(1, 2, 2, 2).requires_grad_()])]
    fake = [(torch.zeros(1), [torch.ones(1, 2, 2, 2).requires_grad_()])]
    losses.feature_matching_loss(fake, real).backward()
    assert real[0][1][0].grad is None
    assert fake[0][1][0].grad is not None


def test_hinge_loss_is_mean_of_relu():
    output = [(torch.tensor([-3.0, 5.0]), [])]
    assert losses.hinge_discriminator_loss(output, output).item() == pytest.approx(0.5 * ((4 + 0) / 2 + (0 + 6) / 2))
    assert losses.hinge_generator_loss(output).item() == -1


def test_mean_squared_distance_and_gradient():
    x, y = torch.randn(2, 3, 4, 5, dtype=torch.float64).requires_grad_(), torch.randn(2, 3, 4, 5, dtype=torch.float64)
    actual, expected = losses.mean_squared_distance(x, y), torch.nn.functional.mse_loss(x, y)
    assert actual.item() == pytest.approx(expected.item(), rel=1e-12)
    assert torch.allclose(torch.autograd.grad(actual, x)[0], torch.autograd.grad(expected, x)[0], rtol=1e-12)
