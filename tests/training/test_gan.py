"""GAN training step: losses and gradients equal the reference implementation; determinism, bf16, learning rates."""

import copy
import warnings
from pathlib import Path

import pytest
import torch

from psfr.compute.devices import has_bf16
from psfr.networks.vgg import VggFeatures
from psfr.params import read_params
from psfr.training import gan, reference
from psfr.training.checkpoint import CheckpointManager

TINY = read_params(Path(__file__).parents[2] / "params/tiny.yaml")


def make_gan(params=TINY, dtype: torch.dtype = torch.float32) -> gan.Gan:
    torch.manual_seed(0)
    model = gan.build(params, VggFeatures("vgg16", 64, 1.0))
    for network in (model.generator, model.discriminator, model.vgg):
        network.to(dtype)
    return model


def make_batch(dtype: torch.dtype = torch.float32) -> gan.Batch:
    torch.manual_seed(1)
    size = TINY.image_size
    hq, lq = torch.rand(2, 3, size, size) * 2 - 1, torch.rand(2, 3, size, size) * 2 - 1
    seg = torch.randint(0, 6, (2, size // 8, size // 8)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    return hq.to(dtype), lq.to(dtype), seg, seg.flip(2)


def assert_grads_close(actual: torch.nn.Module, expected: torch.nn.Module) -> None:
    pairs = zip(actual.named_parameters(), expected.parameters(), strict=True)
    for (name, parameter), reference_parameter in pairs:
        error = (parameter.grad - reference_parameter.grad).norm()
        assert error <= 1e-5 * reference_parameter.grad.norm() + 1e-12, name


def test_step_has_reference_losses_and_gradients():
    model = make_gan(dtype=torch.float64)
    reference_model = copy.deepcopy(model)
    batch = make_batch(torch.float64)
    with reference.plain_forward():
        expected = reference.train_step(reference_model, batch)
    actual = gan.train_step(model, batch, torch.float64)
    for name, loss in expected.items():
        assert actual[name].item() == pytest.approx(loss.item(), rel=1e-5), name
    assert_grads_close(model.generator, reference_model.generator)
    assert_grads_close(model.discriminator, reference_model.discriminator)


def test_step_updates_generator_and_discriminator_but_not_vgg():
    model = make_gan()
    networks = model.generator, model.discriminator, model.vgg
    initial = copy.deepcopy(networks)
    results = gan.train_step(model, make_batch(), torch.float32)
    assert set(results) == {"ss", "pix", "fm", "gen", "disc", "score_real", "score_fake"}
    changed = []
    for network, initial_network in zip(networks, initial, strict=True):
        pairs = zip(network.parameters(), initial_network.parameters(), strict=True)
        changed.append(any(not torch.equal(parameter, before) for parameter, before in pairs))
    assert changed == [True, True, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_is_deterministic(dtype):
    runs = []
    for _ in range(2):
        model = make_gan()
        for _ in range(2):
            gan.train_step(model, make_batch(), dtype)
        runs.append(model.generator.state_dict())
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


def test_bf16_follows_float32():
    num_steps = 100 if has_bf16(torch.device("cpu")) else 20  # a processor without bf16 emulates it, slowly
    runs = []
    for dtype in (torch.float32, torch.bfloat16):
        model = make_gan()
        steps = [gan.train_step(model, make_batch(), dtype) for _ in range(num_steps)]
        losses = {name: torch.stack([step[name] for step in steps]) for name in ("ss", "pix", "fm", "gen", "disc")}
        losses["generator"] = sum(weight * losses[name] for name, weight in model.loss_weights.items())
        runs.append(losses)
    exact, rounded = runs
    # Adam's first steps have the size of the learning rate whatever the gradient's size, so rounding makes the losses
    # of single steps diverge, but not their means.
    assert torch.allclose(rounded["generator"][:20], exact["generator"][:20], rtol=0.05)
    for name in exact:
        assert rounded[name][:20].mean().item() == pytest.approx(exact[name][:20].mean().item(), rel=0.02), name
        assert rounded[name].mean().item() == pytest.approx(exact[name].mean().item(), rel=0.1), name


def test_linear_decay_reaches_zero():
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], 4e-4)
    scheduler = gan.linear_decay(optimizer, 10, 0.4)
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([4e-4] * 7 + [3e-4, 2e-4, 1e-4])
    assert optimizer.param_groups[0]["lr"] == 0


def test_linear_decay_of_fraction_zero_keeps_the_rate():
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], 4e-4)
    scheduler = gan.linear_decay(optimizer, 3, 0)
    for _ in range(3):
        assert optimizer.param_groups[0]["lr"] == 4e-4
        optimizer.step()
        scheduler.step()


class UniformImages(torch.utils.data.Dataset):
    """Four samples in the format of `PairedFaceDataset`."""

    names = ("a", "b", "c", "d")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: tuple[int, int]) -> gan.Batch:
        image = torch.full((64, 64, 3), 60 * key[0], dtype=torch.uint8)
        return image, image, image[:, :, 0] * 0, image[:, :, 0] * 0


@pytest.mark.parametrize("loss_weights", [{}, {"lambda_fm": 0.0, "lambda_gen": 0.0}])
def test_training_ends_with_decayed_learning_rates(tmp_path, loss_weights):
    """The learning rate of a discriminator that is not trained stays, and torch emits no warning about it."""
    params = TINY.model_copy(update={"lr_decay": 1.0, "epochs": 1, "batch_size": 2, "image_size": 64, **loss_weights})
    model = make_gan(params)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gan.train(params, model, UniformImages(), CheckpointManager(tmp_path, 1e9), lambda epoch, means: None)
    rates = [optimizer.param_groups[0]["lr"] for optimizer in (model.optimizer_g, model.optimizer_d)]
    assert rates == [0, params.lr_discriminator if loss_weights else 0]


@pytest.mark.parametrize("unweighted", [{"ss", "fm"}, {"fm", "gen"}])
def test_losses_without_weight_are_skipped(unweighted):
    """The generator's gradient equals that of a step with all losses; an unused discriminator is not updated."""
    model = make_gan(dtype=torch.float64)
    model.loss_weights |= dict.fromkeys(unweighted, 0)
    reference_model, initial_discriminator = copy.deepcopy(model), copy.deepcopy(model.discriminator)
    batch = make_batch(torch.float64)
    with reference.plain_forward():
        expected = reference.train_step(reference_model, batch)
    actual = gan.train_step(model, batch, torch.float64)
    skips_discriminator = {"fm", "gen"} <= unweighted
    skipped = {"ss"} & unweighted
    if skips_discriminator:
        skipped |= {"fm", "gen", "disc"}
    assert expected.keys() - actual.keys() == skipped
    assert_grads_close(model.generator, reference_model.generator)
    state, initial = model.discriminator.state_dict(), initial_discriminator.state_dict()
    assert all(torch.equal(state[name], initial[name]) for name in initial) == skips_discriminator
