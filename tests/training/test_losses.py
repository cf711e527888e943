"""The style loss's short way round equals the long one, whatever the regions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from psfr.training import reference
from psfr.training import losses


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    channels=st.integers(1, 24),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    regions=st.integers(1, 19),
)
def test_style_loss_equals_the_long_form(seed, channels, height, width, regions):
    torch.manual_seed(seed)
    labels = torch.randint(0, regions, (2, 2 * height, 3 * width))
    restored = [torch.randn(2, channels, height, width).requires_grad_()]
    high = [torch.randn(2, channels, height, width)]
    found, wanted = (
        losses.semantic_style_loss(restored, high, labels),
        reference.style_loss([restored[0].double()], [high[0].double()], labels),
    )
    assert found.item() == pytest.approx(wanted.item(), rel=1e-4)
    ours, theirs = torch.autograd.grad(found, restored)[0], torch.autograd.grad(wanted, restored)[0]
    assert (ours - theirs).norm() <= 1e-4 * theirs.norm()


def test_style_loss_keeps_its_digits_when_the_images_are_alike():
    torch.manual_seed(0)
    labels = torch.randint(0, 19, (1, 16, 16))
    high = 100 * torch.randn(1, 64, 16, 16)
    restored = high + 1e-3 * torch.randn_like(high)
    wanted = reference.style_loss([restored.double()], [high.double()], labels)
    assert losses.semantic_style_loss([restored], [high], labels).item() == pytest.approx(wanted.item(), rel=1e-3)


def test_real_features_are_constants():
    real = [(torch.zeros(1), [torch.zeros(1, 2, 2, 2).requires_grad_()])]
    fake = [(torch.zeros(1), [torch.ones(1, 2, 2, 2).requires_grad_()])]
    losses.feature_matching_loss(fake, real).backward()
    assert real[0][1][0].grad is None
    assert fake[0][1][0].grad is not None


def test_hinge_is_the_mean_of_the_relu():
    judged = [(torch.tensor([-3.0, 5.0]), [])]
    assert losses.hinge_discriminator_loss(judged, judged).item() == pytest.approx(0.5 * ((4 + 0) / 2 + (0 + 6) / 2))
    assert losses.hinge_generator_loss(judged).item() == -1


def test_squared_distance_and_its_gradient():
    x, y = torch.randn(2, 3, 4, 5, dtype=torch.float64).requires_grad_(), torch.randn(2, 3, 4, 5, dtype=torch.float64)
    found, wanted = losses.mean_squared_distance(x, y), torch.nn.functional.mse_loss(x, y)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-12)
    assert torch.allclose(torch.autograd.grad(found, x)[0], torch.autograd.grad(wanted, x)[0], rtol=1e-12)
