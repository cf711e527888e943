"""GAN training step: losses and gradients equal the reference implementation; determinism, bf16, learning rates."""

import copy
from functools import cache
from pathlib import Path

import pytest
import torch

from psfr.compute.devices import has_bf16
from psfr.networks.spectral_norm import power_iteration
from psfr.networks.vgg import VggFeatures
from psfr.params import read_params
from psfr.training import gan, gan_step, reference
from psfr.training.checkpoint import CheckpointManager
from psfr.training.schedule import make_schedule

TINY = read_params(Path(__file__).parents[2] / "params/tiny.yaml")
TINY = TINY.model_copy(update={"compute": TINY.compute.model_copy(update={"workers": 0})})
WEIGHTS = make_schedule(TINY, 1).loss_weights
# A processor without bf16 emulates it: a step takes five seconds.
IF_BF16 = () if has_bf16(torch.device("cpu")) else pytest.mark.slow


@cache
def random_vgg() -> VggFeatures:
    torch.manual_seed(0)
    return VggFeatures("vgg16", 64, 1.0)


def make_gan(params=TINY, dtype: torch.dtype = torch.float32) -> gan.Gan:
    model = gan.build(params, copy.deepcopy(random_vgg()))
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


@pytest.mark.heavy
def test_step_has_reference_losses_and_gradients():
    model = make_gan(dtype=torch.float64)
    reference_model = copy.deepcopy(model)
    batch = make_batch(torch.float64)
    with reference.plain_forward():
        expected = reference.train_step(reference_model, batch, WEIGHTS)
    actual = gan.train_step(model, batch, torch.float64, WEIGHTS)
    for name, loss in expected.items():
        assert actual[name].item() == pytest.approx(loss.item(), rel=1e-5), name
    assert_grads_close(model.generator, reference_model.generator)
    assert_grads_close(model.discriminator, reference_model.discriminator)


@pytest.mark.heavy
def test_step_updates_generator_and_discriminator_but_not_vgg():
    model = make_gan()
    networks = model.generator, model.discriminator, model.vgg
    initial = copy.deepcopy(networks)
    results = gan.train_step(model, make_batch(), torch.float32, WEIGHTS)
    assert set(results) == {"ss", "pix", "fm", "gen", "disc", "score_real", "score_fake"}
    changed = []
    for network, initial_network in zip(networks, initial, strict=True):
        pairs = zip(network.parameters(), initial_network.parameters(), strict=True)
        changed.append(any(not torch.equal(parameter, before) for parameter, before in pairs))
    assert changed == [True, True, False]


@pytest.mark.heavy
def test_discriminator_sees_shifted_images():
    model, batch, seen = make_gan(), make_batch(), []
    model.discriminator.register_forward_pre_hook(lambda _, inputs: seen.append([x.detach().clone() for x in inputs]))
    for shift in ((0, 0), (3, 5)):
        gan.train_step(copy.deepcopy(model), batch, torch.float32, WEIGHTS, shift=shift)
    shifts = [tuple(torch.roll(image, (3, 5), (-2, -1)) for image in images) for images in seen[:2]]
    for actual, expected in zip(seen[2:], shifts, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


@pytest.mark.heavy
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=IF_BF16)])
def test_training_is_deterministic(dtype):
    runs = []
    for _ in range(2):
        model = make_gan()
        for _ in range(2):
            gan.train_step(model, make_batch(), dtype, WEIGHTS)
        runs.append(model.generator.state_dict())
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


@pytest.mark.heavy
@pytest.mark.parametrize("num_steps", [2, pytest.param(20, marks=IF_BF16)])
def test_bf16_follows_float32(num_steps):
    # Adam's first steps have the size of the learning rate whatever the gradient's size, so at the default's rates
    # rounding makes the losses of single steps diverge.
    rates = {"lr_generator": TINY.lr_generator / 10, "lr_discriminator": TINY.lr_discriminator / 10}
    runs = []
    for dtype in (torch.float32, torch.bfloat16):
        model = make_gan(TINY.model_copy(update=rates))
        steps = [gan.train_step(model, make_batch(), dtype, WEIGHTS) for _ in range(num_steps)]
        losses = {name: torch.stack([step[name] for step in steps]) for name in ("ss", "pix", "fm", "gen", "disc")}
        losses["generator"] = sum(weight * losses[name] for name, weight in WEIGHTS.items())
        runs.append(losses)
    exact, rounded = runs
    assert torch.allclose(rounded["generator"], exact["generator"], rtol=0.01)
    for name in exact:
        assert rounded[name].mean().item() == pytest.approx(exact[name].mean().item(), rel=0.02), name


class UniformImages(torch.utils.data.Dataset):
    """Four samples in the format of `PairedFaceDataset`."""

    names = ("a", "b", "c", "d")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: tuple[int, int]) -> gan.Batch:
        image = torch.full((64, 64, 3), 60 * key[0], dtype=torch.uint8)
        return image, image, image[:, :, 0] * 0, image[:, :, 0] * 0


RECIPE = {"pixel_warmup": 0.3, "style_interval": 2, "lr_decay": 0.5, "ema": 0.5, "batch_size": 2}


class Watcher:
    """Notes mean losses of each epoch of two steps, and raises KeyboardInterrupt after `max_epochs` of them."""

    log_every, validate_every = 2, 0

    def __init__(self, max_epochs: int):
        self.max_epochs, self.history = max_epochs, []

    def on_log(self, step, means):
        self.history.append(means)
        if step == 2 * self.max_epochs:
            raise KeyboardInterrupt


def train(params, folder: Path, max_epochs: int = 1000) -> tuple[gan.Gan, list[dict[str, float]]]:
    """Train on four images for `params.epochs` epochs of two steps, at most `max_epochs` of them in this call."""
    model, watcher = make_gan(params), Watcher(max_epochs)
    gan.train(params, model, UniformImages(), CheckpointManager(folder, 0), watcher)
    return model, watcher.history


@pytest.mark.heavy
def test_recipe_resumes_exactly(tmp_path):
    """Interrupted in an epoch with the pixel loss alone, in one with all losses and in the decay of the rates."""
    params = TINY.model_copy(update=RECIPE | {"epochs": 5})
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    model, history = train(params, tmp_path / "whole")
    for epoch in (1, 2, 4):
        with pytest.raises(KeyboardInterrupt):
            train(params, tmp_path / "parts", epoch)
    resumed, resumed_history = train(params, tmp_path / "parts")
    assert resumed_history == history
    for network in ("generator", "ema_generator", "discriminator"):
        state, expected = getattr(resumed, network).state_dict(), getattr(model, network).state_dict()
        assert all(torch.equal(state[name], expected[name]) for name in expected)
    rates = {"rate_generator", "rate_discriminator"}
    assert history[0].keys() == {"pix", "grad_pix", *rates}
    losses = ["ss", "pix", "fm", "gen"]
    grad_norms = [f"grad_{name}" for name in losses]
    assert history[2].keys() == {*losses, *grad_norms, "disc", "score_real", "score_fake", *rates}
    assert [means["rate_generator"] / params.lr_generator for means in history] == pytest.approx([1, 1, 1, 0.7, 0.3])


def test_moving_average_of_the_generator():
    """Equals the recursion over the weights of each step, and is the generator that is saved."""
    model = make_gan(TINY.model_copy(update={"ema": 0.6}))
    assert model.ema_generator is not None and model.trained_generator is model.ema_generator
    layer, averaged_layer = model.generator.to_image, model.ema_generator.to_image
    expected = layer.weight.detach().clone()
    for step in range(12):
        layer.weight.data += 0.1 * layer.weight.std() * torch.randn_like(layer.weight)
        decay = min(0.6, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * layer.weight
        gan.update_ema(model.ema_generator, model.generator, 0.6, step)
        assert torch.allclose(averaged_layer.weight, expected, atol=1e-6)
        sigma = averaged_layer.u @ averaged_layer.weight.flatten(1) @ averaged_layer.v
        assert sigma.item() == pytest.approx(torch.linalg.matrix_norm(averaged_layer.weight.flatten(1), 2).item(), 0.05)


def test_generator_without_moving_average_is_saved_itself():
    model = make_gan(TINY.model_copy(update={"ema": 0}))
    assert model.ema_generator is None and model.trained_generator is model.generator


@pytest.mark.heavy
def test_constant_has_a_learning_rate_of_its_own():
    changes = []
    for factor in (0.0, 0.1, 1.0):
        params = TINY.model_copy(
            update={"generator": TINY.generator.model_copy(update={"constant_lr_multiplier": factor})}
        )
        model = make_gan(params)
        before = model.generator.constant.detach().clone()
        gan.train_step(model, make_batch(), torch.float32, WEIGHTS)
        changes.append((model.generator.constant - before).abs().max().item())
    assert changes == pytest.approx([0, 0.1 * TINY.lr_generator, TINY.lr_generator], rel=0.02)


@pytest.mark.heavy
def test_gradient_norms_are_those_of_single_images():
    """They are the norms of each image's own weighted losses, and measuring them does not change the update."""
    model, batch = make_gan(dtype=torch.float64), make_batch(torch.float64)
    measured_model = copy.deepcopy(model)
    losses = gan.train_step(measured_model, batch, torch.float64, WEIGHTS, log_grad_norms=True)
    norms = []
    for i in range(len(batch[0])):
        image_model, image_batch = copy.deepcopy(model), tuple(tensor[i : i + 1] for tensor in batch)
        norms.append(gan.train_step(image_model, image_batch, torch.float64, WEIGHTS, log_grad_norms=True))
    for name in ("grad_ss", "grad_pix", "grad_fm", "grad_gen"):
        mean = sum(image_norms[name].item() for image_norms in norms) / len(norms)
        assert losses[name].item() == pytest.approx(mean, rel=1e-6), name
    num_values = batch[0][0].numel()
    assert losses["grad_pix"].item() == pytest.approx(WEIGHTS["pix"] / num_values**0.5)
    gan.train_step(model, batch, torch.float64, WEIGHTS)
    for network in ("generator", "discriminator"):
        state, expected = getattr(measured_model, network).state_dict(), getattr(model, network).state_dict()
        assert all(torch.equal(state[key], expected[key]) for key in expected), "the update is the same"


@pytest.mark.heavy
def test_parsing_map_of_the_style_loss_may_be_another_tensor():
    """As on a GPU, where it is the map on the CPU, in uint8."""
    states, batch, loss_weights = [], make_batch(), WEIGHTS | {"ss": 1e12}
    for labels in (None, batch[2].byte()):
        model = make_gan()
        losses = gan.train_step(model, batch, torch.float32, loss_weights, hq_labels=labels)
        assert losses["ss"] > 0
        states.append(model.generator.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.heavy
@pytest.mark.parametrize("unweighted", [{"ss", "fm"}, {"fm", "gen"}])
def test_losses_without_weight_are_skipped(unweighted):
    """The generator's gradient equals that of a step with all losses; an unused discriminator is not updated."""
    model = make_gan(dtype=torch.float64)
    loss_weights = WEIGHTS | dict.fromkeys(unweighted, 0)
    reference_model, initial_discriminator = copy.deepcopy(model), copy.deepcopy(model.discriminator)
    batch = make_batch(torch.float64)
    with reference.plain_forward():
        expected = reference.train_step(reference_model, batch, loss_weights)
    actual = gan.train_step(model, batch, torch.float64, loss_weights)
    skips_discriminator = {"fm", "gen"} <= unweighted
    skipped = {"ss"} & unweighted
    if skips_discriminator:
        skipped |= {"fm", "gen", "disc"}
    assert expected.keys() - actual.keys() == skipped
    assert_grads_close(model.generator, reference_model.generator)
    state, initial = model.discriminator.state_dict(), initial_discriminator.state_dict()
    assert all(torch.equal(state[name], initial[name]) for name in initial) == skips_discriminator


@pytest.mark.heavy
def test_perceptual_loss_has_the_authors_weights_and_gradient():
    """Of all five stages, from the same features as the style loss."""
    model, batch = make_gan(dtype=torch.float64), make_batch(torch.float64)
    only = dict.fromkeys(WEIGHTS, 0.0)
    restored, hq = batch[1].clone().requires_grad_(), batch[0]
    pairs = zip(model.vgg(restored, 5), model.vgg(hq, 5), strict=True)
    expected = sum(2.0 ** -(5 - i if i < 4 else 0) * (a - b).square().mean() for i, (a, b) in enumerate(pairs))
    model.generator.forward = lambda image, labels: restored + 0 * model.generator.constant.sum()
    losses = gan.train_step(model, batch, torch.float64, only | {"pcp": 3.0, "ss": 1.0})
    assert losses["pcp"].item() == pytest.approx(expected.item(), rel=1e-5)
    style = reference.style_loss(model.vgg(restored), model.vgg(hq), batch[2])
    (grad,) = torch.autograd.grad(3 * expected + style, restored)
    assert (restored.grad - grad).norm() <= 1e-5 * grad.norm()


def test_r1_penalty_and_its_gradient():
    """Of the mean score of each real image, computed by torch's layers and finite differences."""
    model, batch = make_gan(dtype=torch.float64), make_batch(torch.float64)
    hq, _, hq_seg, _ = batch
    weight = model.discriminator.scales[0].layers[1].weight

    def penalty() -> torch.Tensor:
        image = hq.clone().requires_grad_()
        with reference.plain_forward():
            scores = [score.mean((1, 2, 3)) for score, _ in model.discriminator(image, hq_seg)]
        (grad,) = torch.autograd.grad(sum(scores).sum() / len(scores), image)
        return grad.square().sum() / len(hq)

    autocast = torch.autocast("cpu", enabled=False)
    value = gan_step.r1_penalty(model, hq, hq_seg, autocast)
    assert value.item() == pytest.approx(penalty().item(), rel=1e-6)
    value.backward()
    delta = 1e-5 * weight.detach().std()
    for index in [(0, 0, 1, 1), (1, 2, 0, 2)]:
        values = []
        for sign in (1, -1):
            weight.data[index] += sign * delta
            values.append(penalty().item())
            weight.data[index] -= sign * delta
        assert weight.grad[index].item() == pytest.approx((values[0] - values[1]) / (2 * delta.item()), rel=1e-3)


@pytest.mark.heavy
def test_r1_penalty_joins_the_update_of_the_discriminator():
    grads = []
    for weight in (0.0, 10.0):
        model = make_gan(dtype=torch.float64)
        losses = gan.train_step(model, make_batch(torch.float64), torch.float64, WEIGHTS | {"r1": weight})
        assert ("r1" in losses) == (weight > 0)
        grads.append(model.discriminator.scales[0].score.weight.grad)
    model = make_gan(dtype=torch.float64)
    power_iteration(model.discriminator)
    hq, _, hq_seg, _ = make_batch(torch.float64)
    (5 * gan_step.r1_penalty(model, hq, hq_seg, torch.autocast("cpu", enabled=False))).backward()
    expected = model.discriminator.scales[0].score.weight.grad
    assert (grads[1] - grads[0] - expected).norm() <= 1e-6 * expected.norm()
