"""Loss scaling in float16: skipped updates, resuming, several processes, and gradients of the size of float32's."""

import copy
from contextlib import nullcontext

import pytest
import torch

from psfr.data.datasets import VariantBatchSampler
from psfr.training import checkpoint, fpn, gan, gan_step, loop
from psfr.training.checkpoint import CheckpointManager
from psfr.training.scaling import LossScaler
from psfr.utils.errors import UserError
from tests.training.test_gan import TINY, make_batch, make_gan, train

CPU = torch.device("cpu")
LOSS_WEIGHTS = {"ss": 0.0, "pix": 10.0, "fm": 10.0, "gen": 1.0}  # VGG takes most of the time of a step
SMALL = {
    "generator": TINY.generator.model_copy(update={"min_channels": 8, "max_channels": 8, "constant_size": 32}),
    "discriminator": TINY.discriminator.model_copy(update={"base_channels": 8, "scales": 1, "layers": 2}),
    "compute": TINY.compute.model_copy(update={"device": "cpu", "precision": "fp16"}),
}
PARAMS = TINY.model_copy(update=SMALL)


def make_model() -> gan.Gan:
    model = make_gan(PARAMS)
    assert model.scaler.is_enabled()
    return model


def fp16_step(model: gan.Gan, **options: object) -> dict[str, torch.Tensor]:
    return gan.train_step(model, make_batch(), torch.float16, LOSS_WEIGHTS, **options)


def set_scale(model: gan.Gan, scale: float) -> None:
    model.scaler.load_state_dict(model.scaler.state_dict() | {"scale": scale})


def state_of(*modules: torch.nn.Module | torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {
        name: tensor.clone()
        for i, module in enumerate(modules)
        for name, tensor in checkpoint._floating_tensors(module.state_dict(), str(i))
        if not name.endswith((".u", ".v"))  # the power iteration runs in any case
    }


def assert_equal(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], equal: bool = True) -> None:
    assert actual.keys() == expected.keys() or not equal
    assert all(torch.equal(actual[name], expected[name]) for name in expected) == equal


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_other_dtypes_are_not_scaled(dtype):
    scaler, loss = LossScaler(CPU, dtype), torch.tensor(3.0)
    assert not scaler.is_enabled() and scaler.scale(loss) is loss and scaler.unscale(loss) is loss
    assert scaler.state_dict() == {}


@pytest.mark.heavy
def test_gradients_are_those_of_float32():
    """Also of losses whose gradients are below the smallest number of float16, 6e-8."""
    model, loss_weights = make_model(), {name: 1e-6 * weight for name, weight in LOSS_WEIGHTS.items()}
    exact = copy.deepcopy(model)
    exact.scaler = LossScaler(CPU, torch.float32)
    gan.train_step(exact, make_batch(), torch.float32, loss_weights)
    set_scale(model, 2.0**32)  # the losses of the generator are a millionth; float16 has 2^40 for its gradients
    found = gan.train_step(model, make_batch(), torch.float16, loss_weights, log_grad_norms=True)
    assert found["skipped_generator"] == 0
    for name in ("constant", "to_image.weight", "stages.1.conv.weight"):
        actual, expected = (network.generator.get_parameter(name).grad for network in (model, exact))
        assert (actual - expected).norm() < 0.05 * expected.norm() and expected.norm() > 0, name
    num_values = make_batch()[0][0].numel()
    assert found["grad_pix"].item() == pytest.approx(loss_weights["pix"] / num_values**0.5, rel=1e-3)


@pytest.mark.heavy
def test_overflow_skips_the_update_of_that_network():
    """Its weights and its optimizer stay as they are, the other network's don't, and no gradient norm is logged."""
    model = make_model()
    fp16_step(model)
    set_scale(model, 2.0**40)  # both overflow
    before = state_of(model.generator, model.optimizer_g, model.discriminator, model.optimizer_d)
    found = fp16_step(model, log_grad_norms=True)
    assert (found["skipped_generator"], found["skipped_discriminator"]) == (1, 1)
    assert_equal(state_of(model.generator, model.optimizer_g, model.discriminator, model.optimizer_d), before)
    assert model.scaler.get_scale() == 2.0**39
    assert not [name for name in found if name.startswith("grad_")]
    assert all(value.isfinite() for value in found.values()), "losses are not scaled"

    set_scale(model, 1024.0)
    discriminator, generator = (state_of(network) for network in (model.discriminator, model.generator))
    hook = model.generator.constant.register_hook(lambda gradient: gradient * torch.inf)
    found = fp16_step(model)
    hook.remove()
    assert (found["skipped_generator"], found["skipped_discriminator"]) == (1, 0)
    assert_equal(state_of(model.generator), generator)
    assert_equal(state_of(model.discriminator), discriminator, equal=False)


def test_overflow_in_another_process_skips_the_update_in_all(monkeypatch):
    """The gradients are averaged over the processes before they are checked."""

    def average_with_overflow(network: torch.nn.Module) -> None:
        next(network.parameters()).grad.view(-1)[0] = torch.inf

    monkeypatch.setattr(gan_step, "all_reduce_gradients", average_with_overflow)
    model = make_model()
    set_scale(model, 1024.0)
    before = state_of(model.generator, model.discriminator)
    found = fp16_step(model)
    assert (found["skipped_generator"], found["skipped_discriminator"]) == (1, 1)
    assert_equal(state_of(model.generator, model.discriminator), before)


@pytest.mark.heavy
def test_training_resumes_exactly(tmp_path):
    """With the scale and the skipped steps that it had."""
    update = {"pixel_warmup": 0.3, "style_interval": 1, "lambda_ss": 0.0, "ema": 0.5, "batch_size": 2, "epochs": 3}
    params = PARAMS.model_copy(update=update)
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    model, history = train(params, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(params, tmp_path / "parts", 1)
    resumed, resumed_history = train(params, tmp_path / "parts")
    assert resumed_history == history and 0 < history[0]["skipped_generator"] <= 1
    assert resumed.scaler.state_dict() == model.scaler.state_dict()
    assert model.scaler.get_scale() < 2**16
    for network in ("generator", "ema_generator", "discriminator", "optimizer_g", "optimizer_d"):
        assert_equal(state_of(getattr(resumed, network)), state_of(getattr(model, network)))


def test_parsing_network_is_scaled(tmp_path, monkeypatch):
    params = TINY.model_copy(update={"compute": SMALL["compute"]})
    network = fpn.FaceParsingNetwork(**fpn.network_config(params))
    optimizer = torch.optim.Adam(network.parameters(), 1e-3, fused=True)
    scaler = LossScaler(CPU, torch.float16)
    images, seg = torch.rand(2, 3, params.image_size, params.image_size), torch.zeros(2, 64, 64, dtype=torch.int64)
    results = []
    for scale in (2.0**30, 256.0):
        scaler.load_state_dict(scaler.state_dict() | {"scale": scale})
        before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
        found = fpn.train_step(network, optimizer, (images, images, seg), torch.ones(19), params, scaler)
        results.append((found["skipped"].item(), scaler.get_scale()))
        assert_equal(dict(network.named_parameters()), before, equal=found["skipped"] == 1)
    assert results == [(1, 2.0**29), (0, 256)]

    loops = []
    monkeypatch.setattr(fpn, "training_loop", lambda **options: loops.append(options) or [])
    monkeypatch.setattr(fpn, "class_weights", lambda *_: torch.ones(19))
    for precision in ("fp16", "fp32"):
        compute = params.compute.model_copy(update={"precision": precision})
        fpn.train(tmp_path, ["a"] * 8, params.model_copy(update={"compute": compute}), CheckpointManager(tmp_path, 0))
    assert [set(options["modules"]) - {"network", "optimizer", "scheduler"} for options in loops] == [{"scaler"}, set()]


@pytest.mark.parametrize("updated_step", [20, 50])
def test_too_many_skipped_updates_in_a_row_are_an_error(tmp_path, updated_step):
    sampler = VariantBatchSampler(2, 1, 0)
    monitor = loop.LossMonitor("train", ["a", "b"], sampler, CheckpointManager(tmp_path, 0))
    error = "^train: gradients overflow float16 in each of 33 steps .*precision to fp32$"
    with pytest.raises(UserError, match=error) if updated_step == 50 else nullcontext():
        for step in range(45):
            monitor.update(step, {"pix": torch.ones(()), "skipped_generator": torch.tensor(int(step != updated_step))})
