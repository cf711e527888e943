"""Schedule of a GAN training: warmup with the pixel loss, interval of the style loss, decay of the learning rates."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from psfr.params import read_params
from psfr.training.schedule import Schedule, make_schedule

WEIGHTS = {"ss": 100.0, "pix": 10.0, "fm": 5.0, "gen": 1.0}
ROOT = Path(__file__).parents[2]


def test_warmup_has_the_pixel_loss_alone():
    schedule = Schedule(10, 5, 4, 0, 1, WEIGHTS)
    for step in range(10):
        expected = WEIGHTS if step >= 4 else {"ss": 0, "pix": 10, "fm": 0, "gen": 0}
        assert schedule.loss_weights_at(step) == expected


def test_style_loss_has_its_weight_on_average():
    schedule = Schedule(20, 5, 3, 0, 4, WEIGHTS)
    assert [schedule.loss_weights_at(step)["ss"] for step in range(3, 12)] == [400, 0, 0, 0, 400, 0, 0, 0, 400]
    assert all(schedule.loss_weights_at(step)["fm"] == 5 for step in range(3, 20))


def rates(schedule: Schedule) -> list[list[float]]:
    """Return the learning rate of two groups in each step."""
    groups = [
        {"params": [torch.zeros(1, requires_grad=True)], "initial_lr": 4e-4},
        {"params": [torch.zeros(1, requires_grad=True)], "initial_lr": 1e-4},
    ]
    optimizer = torch.optim.Adam(groups, 4e-4)
    result = []
    for step in range(schedule.total_steps):
        schedule.set_learning_rates(optimizer, step)
        result.append([group["lr"] for group in optimizer.param_groups])
    return result


def test_learning_rates_fall_towards_zero():
    first, second = zip(*rates(Schedule(10, 5, 0, 4, 1, WEIGHTS)), strict=True)
    assert first == pytest.approx([4e-4] * 7 + [3e-4, 2e-4, 1e-4])
    assert second == pytest.approx([rate / 4 for rate in first])


@pytest.mark.parametrize("decay_steps", [0, 1])
def test_learning_rates_without_decay_are_constant(decay_steps):
    assert rates(Schedule(3, 3, 0, decay_steps, 1, WEIGHTS)) == [[4e-4, 1e-4]] * 3


def test_shifts_differ_between_steps_and_seeds():
    schedules = [Schedule(100, 10, 0, 0, 1, WEIGHTS, max_shift=3, seed=seed) for seed in (1, 2)]
    shifts = [[schedule.shift_at(step) for step in range(100)] for schedule in schedules]
    assert {value for shift in shifts[0] for value in shift} == {0, 1, 2, 3}
    assert shifts[0] != shifts[1] and len(set(shifts[0])) == 16


TINY = read_params(ROOT / "params/tiny.yaml")


@given(st.integers(1, 5), st.integers(1, 100), st.floats(0, 1), st.floats(0, 1), st.integers(1, 120))
def test_schedule_of_any_parameters(epochs, steps_per_epoch, pixel_warmup, lr_decay, style_interval):
    """The style loss is in one of `style_interval` steps, and an epoch has at most one step with gradient norms."""
    changes = {"pixel_warmup": pixel_warmup, "lr_decay": lr_decay, "style_interval": style_interval}
    schedule = make_schedule(TINY.model_copy(update={"epochs": epochs} | changes), steps_per_epoch)
    warmup_steps, total_steps = schedule.warmup_steps, epochs * steps_per_epoch
    assert 0 <= warmup_steps <= total_steps and 0 <= schedule.decay_steps <= total_steps
    assert sum(bool(schedule.loss_weights_at(warmup_steps + i)["ss"]) for i in range(style_interval)) == 1
    for start in range(0, total_steps, steps_per_epoch):
        end = start + steps_per_epoch
        measured = [step for step in range(start, end) if schedule.measures_gradients(step)]
        expected = 1 if end <= warmup_steps else int(start < warmup_steps)  # steps of the warmup
        assert sum(step < warmup_steps for step in measured) == expected
        with_all_losses = [step for step in measured if step >= warmup_steps]
        assert len(with_all_losses) <= 1 and all(schedule.loss_weights_at(step)["ss"] for step in with_all_losses)
        if end - max(start, warmup_steps) >= style_interval:
            assert len(with_all_losses) == 1


def test_reimplementation_has_no_schedule():
    """All losses from the first step, at constant learning rates."""
    params = read_params(ROOT / "params/ffhq.yaml")
    schedule = make_schedule(params, 175_000)
    weights = {"ss": params.lambda_ss, "pix": params.lambda_pix, "fm": params.lambda_fm, "gen": params.lambda_gen}
    for step in (0, 1, 2, 3, 100_000, 174_999):
        assert schedule.loss_weights_at(step) == weights
    assert (schedule.decay_steps, params.ema, params.generator.constant_lr_multiplier) == (0, 0, 1)
    assert schedule.shift_at(1) == (0, 0)
    assert params.perceptual.normalize is False
