"""A training step changes the weights as two plain updates would, and is the same each time."""

import copy
import warnings
from itertools import chain
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from psfr import params
from psfr.data.datasets import ShuffledVariants
from psfr.training import reference
from psfr.networks.vgg import VggFeatures
from psfr.training import gan
from psfr.training.checkpoint import Snapshots
from psfr.utils.errors import InputError

TINY = Path(__file__).parents[2] / "params/tiny.yaml"


def tiny_gan(values: params.Params) -> gan.Gan:
    torch.manual_seed(0)
    vgg = VggFeatures("vgg16", 64, 1.0)
    return gan.build(values, vgg)


def batch(values: params.Params) -> gan.Batch:
    torch.manual_seed(1)
    size = values.image_size
    high, low = torch.rand(2, 3, size, size) * 2 - 1, torch.rand(2, 3, size, size) * 2 - 1
    labels = torch.randint(0, 6, (2, size // 8, size // 8)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    return high, low, labels, labels.flip(2)


def test_a_step_has_the_losses_and_gradients_of_the_plain_one():
    values = params.read(TINY)
    ours = tiny_gan(values)
    for network in (ours.generator, ours.discriminator, ours.vgg):
        network.double()
    theirs = copy.deepcopy(ours)
    given = tuple(tensor.double() if tensor.is_floating_point() else tensor for tensor in batch(values))
    with reference.layers():
        wanted_terms = reference.step(theirs, given)
    found_terms = gan.train_step(ours, given, torch.float64)
    for name, wanted in wanted_terms.items():
        assert found_terms[name].item() == pytest.approx(wanted.item(), rel=1e-5), name
    for network in ("generator", "discriminator"):
        pairs = zip(getattr(ours, network).named_parameters(), getattr(theirs, network).parameters(), strict=True)
        for (name, found), wanted in pairs:
            assert (found.grad - wanted.grad).norm() <= 1e-5 * wanted.grad.norm() + 1e-12, name


def test_a_step_updates_both_networks_and_not_vgg():
    values = params.read(TINY)
    state = tiny_gan(values)
    before = copy.deepcopy((state.generator, state.discriminator, state.vgg))
    terms = gan.train_step(state, batch(values), torch.float32)
    assert set(terms) == {"ss", "pix", "fm", "gen", "disc", "score_real", "score_fake"}
    changed = [any(not torch.equal(a, b) for a, b in zip(new.parameters(), old.parameters(), strict=True))
               for new, old in zip((state.generator, state.discriminator, state.vgg), before, strict=True)]  # fmt: skip
    assert changed == [True, True, False]


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_training_is_the_same_each_time(precision):
    values = params.read(TINY)
    runs = []
    for _ in range(2):
        state = tiny_gan(values)
        for _ in range(2):
            gan.train_step(state, batch(values), precision)
        runs.append(state.generator.state_dict())
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


def test_bf16_follows_float32():
    values = params.read(TINY)
    runs = []
    for precision in (torch.float32, torch.bfloat16):
        state = tiny_gan(values)
        steps = [gan.train_step(state, batch(values), precision) for _ in range(100)]
        runs.append({name: torch.stack([step[name] for step in steps]) for name in ("ss", "pix", "fm", "gen", "disc")})
        runs[-1]["generator's"] = sum(weight * runs[-1][name] for name, weight in state.weights.items())
    exact, rounded = runs
    # Adam's first steps have the size of the learning rate wherever a gradient points, so scores part step by step; their means do not.
    assert torch.allclose(rounded["generator's"][:20], exact["generator's"][:20], rtol=0.02)
    for name in exact:
        assert rounded[name][:20].mean().item() == pytest.approx(exact[name][:20].mean().item(), rel=0.02), name
        assert rounded[name].mean().item() == pytest.approx(exact[name].mean().item(), rel=0.1), name


def test_rates_fall_at_the_end():
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], 4e-4)
    schedule = gan.falling(optimizer, 10, 0.4)
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([4e-4] * 7 + [3e-4, 2e-4, 1e-4])
    assert optimizer.param_groups[0]["lr"] == 0


def test_rates_stay_without_decay():
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], 4e-4)
    schedule = gan.falling(optimizer, 3, 0)
    for _ in range(3):
        assert optimizer.param_groups[0]["lr"] == 4e-4
        optimizer.step()
        schedule.step()


class Noise(torch.utils.data.Dataset):
    """Four samples as `Quartets` gives them."""

    names = ["a", "b", "c", "d"]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: tuple[int, int]) -> gan.Batch:
        image = torch.full((64, 64, 3), 60 * key[0], dtype=torch.uint8)
        return image, image, image[:, :, 0] * 0, image[:, :, 0] * 0


@pytest.mark.parametrize("weights", [{}, {"lambda_fm": 0.0, "lambda_gen": 0.0}])
def test_a_training_ends_with_the_rates_that_were_asked_for(tmp_path, weights):
    """Those of a discriminator that learns nothing stay, and torch does not warn of it."""
    values = params.read(TINY)
    values = values.model_copy(update={"lr_decay": 1.0, "epochs": 1, "batch_size": 2, "image_size": 64, **weights})
    state = tiny_gan(values)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gan.train(values, state, Noise(), Snapshots(tmp_path, 1e9), lambda epoch, means: None)
    rates = [optimizer.param_groups[0]["lr"] for optimizer in (state.optimizer_g, state.optimizer_d)]
    assert rates == [0, values.lr_discriminator if weights else 0]


@pytest.mark.parametrize("absent", [{"ss", "fm"}, {"fm", "gen"}])
def test_losses_without_weight_are_passed_over(absent):
    """The generator's gradient is that of a step that reckons with every loss; a discriminator without use stays as it is."""
    values = params.read(TINY)
    ours = tiny_gan(values)
    for network in (ours.generator, ours.discriminator, ours.vgg):
        network.double()
    ours.weights |= dict.fromkeys(absent, 0)
    theirs, before = copy.deepcopy(ours), copy.deepcopy(ours.discriminator)
    given = tuple(tensor.double() if tensor.is_floating_point() else tensor for tensor in batch(values))
    with reference.layers():
        wanted_terms = reference.step(theirs, given)
    found_terms = gan.train_step(ours, given, torch.float64)
    idle = {"fm", "gen"} <= absent
    assert wanted_terms.keys() - found_terms.keys() == ({"ss"} & absent) | ({"fm", "gen", "disc"} if idle else set())
    for found, wanted in zip(ours.generator.parameters(), theirs.generator.parameters(), strict=True):
        assert (found.grad - wanted.grad).norm() <= 1e-5 * wanted.grad.norm() + 1e-12
    state = ours.discriminator.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in before.state_dict().items()) == idle


def test_the_order_belongs_to_seed_and_epoch():
    first, second = ShuffledVariants(20, 4, seed=1), ShuffledVariants(20, 4, seed=1)
    assert list(first) == list(second)
    second.epoch = 1
    pairs = list(chain(*second))
    assert [epoch for _, epoch in pairs] == [1] * 20
    assert [index for index, _ in chain(*first)] != [index for index, _ in pairs]
    assert sorted(index for index, _ in pairs) == list(range(20))


@given(length=st.integers(1, 50), share=st.integers(1, 5), processes=st.integers(1, 4), start=st.integers(0, 5))
def test_processes_share_each_batch_and_leave_nothing_out(length, share, processes, start):
    whole = ShuffledVariants(length, share * processes, seed=1)
    if whole.batch_size % processes:
        with pytest.raises(InputError, match="cannot share batches"):
            ShuffledVariants(length, share * processes, seed=1, processes=processes)
        return
    parts = [
        ShuffledVariants(length, share * processes, seed=1, rank=rank, processes=processes) for rank in range(processes)
    ]
    for order in [whole, *parts]:
        order.start = start
    batches = list(whole)
    assert len(batches) == max(0, len(whole) - start)
    assert [sum(shares, []) for shares in zip(*parts, strict=True)] == batches
    assert len(set(chain(*batches))) == len(list(chain(*batches))), "no image twice"
