"""Training of PSFR-GAN (the reimplementation, section Training)."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from psfr.compute.devices import compute_dtype, get_device, num_workers
from psfr.data.datasets import PairedFaceDataset
from psfr.networks.discriminator import Discriminator
from psfr.networks.generator import Generator
from psfr.networks.spectral_norm import power_iteration
from psfr.networks.vgg import VggFeatures
from psfr.params import Params
from psfr.training.checkpoint import CheckpointManager
from psfr.training.gan_step import Batch, Gan, prepare_batch, train_step
from psfr.training.initial import load_initial
from psfr.training.loop import Watcher, training_loop
from psfr.training.scaling import LossScaler
from psfr.training.schedule import make_schedule
from psfr.utils.seeds import derive_seed

BETAS = (0.5, 0.999)


def generator_config(params: Params) -> dict[str, int]:
    """Return the arguments of `Generator`."""
    not_arguments = {"init", "constant_scale", "constant_lr_multiplier"}
    return {"image_size": params.image_size, **params.generator.model_dump(exclude=not_arguments)}


def discriminator_config(params: Params) -> dict[str, int]:
    """Return the arguments of `Discriminator`."""
    return params.discriminator.model_dump(exclude={"init", "max_shift"})


def build(params: Params, vgg: VggFeatures) -> Gan:
    """Create the networks, with the weights of `init` or seeded ones, and their optimizers on the device of `params`.

    Raises:
        UserError: see `load_initial`.
    """
    torch.manual_seed(derive_seed(params.seed, "train"))
    device = get_device(params.compute)
    config_g, config_d = generator_config(params), discriminator_config(params)
    generator = load_initial("generator", Generator, params.generator.init, config_g)
    if generator is None:
        generator = Generator(**config_g)
        generator.constant.data *= params.generator.constant_scale
    discriminator = load_initial("discriminator", Discriminator, params.discriminator.init, config_d)
    discriminator = discriminator or Discriminator(**config_d)
    generator, discriminator = generator.to(device).train(), discriminator.to(device).train()
    other_parameters = [parameter for parameter in generator.parameters() if parameter is not generator.constant]
    constant_lr = params.generator.constant_lr_multiplier * params.lr_generator
    return Gan(
        generator=generator,
        ema_generator=copy.deepcopy(generator) if params.ema else None,
        discriminator=discriminator,
        # torch's stub lacks this form of `to`
        vgg=vgg.to(device, memory_format=torch.channels_last),  # pyright: ignore[reportCallIssue]
        optimizer_g=_adam((other_parameters, params.lr_generator), ([generator.constant], constant_lr)),
        optimizer_d=_adam((list(discriminator.parameters()), params.lr_discriminator)),
        scaler=LossScaler(device, compute_dtype(params.compute, device)),
    )


def _adam(*groups: tuple[list[nn.Parameter], float]) -> torch.optim.Adam:
    """Create an optimizer of groups of parameters, each with its learning rate, which `Schedule` multiplies."""
    param_groups = [{"params": parameters, "lr": rate, "initial_lr": rate} for parameters, rate in groups]
    return torch.optim.Adam(param_groups, betas=BETAS, fused=True)


@torch.no_grad()
def update_ema(ema_generator: Generator, generator: Generator, decay: float, step: int) -> None:
    """Update an exponential moving average of a generator's weights after a step, counted from 0.

    The decay grows from 0.1 to its final value, so that the first weights do not weigh more than later ones. Spectral
    norm has singular vectors of its own for the averaged weights.
    """
    decay = min(decay, (1 + step) / (10 + step))
    for averaged, parameter in zip(ema_generator.parameters(), generator.parameters(), strict=True):
        averaged.lerp_(parameter, 1 - decay)
    power_iteration(ema_generator)


def train(
    params: Params,
    gan: Gan,
    dataset: PairedFaceDataset,
    checkpoints: CheckpointManager,
    watcher: Watcher | None = None,
) -> int:
    """Train for `params.epochs` epochs, starting from the latest checkpoint if there is one.

    Args:
        params: the experiment's parameters.
        gan: networks and optimizers as `build` creates them, changed in place.
        dataset: the training set.
        checkpoints: where the state of the training is saved.
        watcher: see `training_loop`; it is also told the learning rates (rate_generator, rate_discriminator).

    Returns:
        The number of steps.

    Raises:
        UserError: see `training_loop`.
        KeyboardInterrupt: see `training_loop`.
    """
    device = get_device(params.compute)
    dtype = compute_dtype(params.compute, device)
    steps_per_epoch = len(dataset) // min(params.batch_size, len(dataset))
    schedule = make_schedule(params, steps_per_epoch)
    modules: dict[str, Any] = {
        "generator": gan.generator,
        "discriminator": gan.discriminator,
        "optimizer_g": gan.optimizer_g,
        "optimizer_d": gan.optimizer_d,
    }
    if gan.ema_generator:
        modules["ema_generator"] = gan.ema_generator
    if gan.scaler.is_enabled():
        modules["scaler"] = gan.scaler

    def step_fn(batch: Batch, step: int) -> dict[str, Tensor]:
        schedule.set_learning_rates(gan.optimizer_g, step)
        schedule.set_learning_rates(gan.optimizer_d, step)
        loss_weights = schedule.loss_weights_at(step)
        log_grad_norms, shift = schedule.measures_gradients(step), schedule.shift_at(step)
        losses = train_step(gan, prepare_batch(batch, device), dtype, loss_weights, log_grad_norms, shift, batch[2])
        if "grad_ss" in losses:
            losses["grad_ss"] /= params.style_interval  # its mean over the steps, like that of the other losses
        if "grad_pcp" in losses:
            losses["grad_pcp"] /= params.style_interval
        if gan.ema_generator:
            update_ema(gan.ema_generator, gan.generator, params.ema, step)
        factor = schedule.rate_factor_at(step)
        for name, rate in (("generator", params.lr_generator), ("discriminator", params.lr_discriminator)):
            losses[f"rate_{name}"] = torch.full((), factor * rate, device=device)
        return losses

    training_loop(
        name="train",
        dataset=dataset,
        sample_names=dataset.names,
        modules=modules,
        step_fn=step_fn,
        batch_size=params.batch_size,
        epochs=params.epochs,
        seed=params.seed,
        num_workers=num_workers(params.compute),
        device=device,
        checkpoints=checkpoints,
        watcher=watcher,
    )
    return schedule.total_steps
