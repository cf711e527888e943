"""Training of PSFR-GAN (the reimplementation, sections Losses and Training)."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from psfr.compute.devices import compute_dtype, get_device, num_workers
from psfr.data.datasets import PairedFaceDataset, normalize
from psfr.networks.blocks import cache_kernels, power_iteration
from psfr.networks.discriminator import Discriminator
from psfr.networks.generator import Generator
from psfr.networks.vgg import VggFeatures
from psfr.params import Params
from psfr.training.checkpoint import CheckpointManager
from psfr.training.initial import load_initial
from psfr.training.loop import EpochCallback, all_reduce_gradients, training_loop
from psfr.training.losses import (
    feature_matching_loss,
    hinge_fake_loss,
    hinge_generator_loss,
    hinge_real_loss,
    mean_score,
    pixel_loss,
    semantic_style_loss,
    sum_tensors,
)
from psfr.training.scaling import LossScaler
from psfr.training.schedule import LossWeights, make_schedule
from psfr.utils.seeds import derive_seed

BETAS = (0.5, 0.999)

Batch = tuple[Tensor, Tensor, Tensor, Tensor]  # hq, lq, hq_seg, lq_seg


@dataclass
class Gan:
    """The networks and optimizers of a training."""

    generator: Generator
    ema_generator: Generator | None  # exponential moving average of the generator
    discriminator: Discriminator
    vgg: VggFeatures
    optimizer_g: torch.optim.Optimizer
    optimizer_d: torch.optim.Optimizer
    scaler: LossScaler  # of both optimizers

    @property
    def trained_generator(self) -> Generator:
        """The generator that restores images: the moving average if there is one."""
        return self.ema_generator or self.generator


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


def train_step(
    gan: Gan,
    batch: Batch,
    dtype: torch.dtype,
    loss_weights: LossWeights,
    log_grad_norms: bool = False,
    shift: tuple[int, int] = (0, 0),
    hq_labels: Tensor | None = None,
) -> dict[str, Tensor]:
    """Update the generator and the discriminator once.

    Each is updated with the other as it was before the step, as in the published training.

    In a distributed training each process passes its part of the batch, and the gradients are averaged over the
    processes.

    The restored image is detached; each group of losses computes its gradient with respect to the image and frees its
    graph, which bounds the peak memory. A group whose weights are all 0 is skipped: VGG without style loss; the
    discriminator, which is then not trained, without feature matching and generator loss.

    Args:
        gan: the networks and optimizers, changed in place.
        batch: high-quality and degraded images, float (B, 3, H, W) in [-1, 1], and the parsing map of each, int64 (B,
            H, W).
        dtype: dtype of the convolutions, `torch.bfloat16`, `torch.float16` (if `gan` was built for it),
            `torch.float32` or `torch.float64`.
        loss_weights: weights of ss, pix, fm and gen.
        log_grad_norms: whether to return the gradient norms too, which takes a second backward pass of the
            discriminator. The update is the same.
        shift: rows and columns by which the discriminator's images and parsing maps are shifted cyclically.
        hq_labels: the parsing map of the high-quality images on the CPU, integer (B, H, W), for the style loss, see
            `semantic_style_loss`; by default that of `batch`.

    Returns:
        The unweighted losses (ss, pix, fm, gen, disc) and the discriminator's mean scores (score_real, score_fake),
        detached, without those that were skipped. With `log_grad_norms` also grad_ss, grad_pix, grad_fm and grad_gen,
        the norm of the gradient of each loss with a weight with respect to a restored image, see `_grad_norm`. With
        float16 also skipped_generator and skipped_discriminator, which are 1 if the network was not updated because its
        gradients overflowed, else 0; then there are no norms.
    """
    hq, lq, hq_seg, lq_seg = batch
    autocast = torch.autocast(hq.device.type, dtype, enabled=dtype in (torch.bfloat16, torch.float16))
    power_iteration(gan.generator)
    gan.optimizer_g.zero_grad(set_to_none=True)

    with cache_kernels(gan.generator, dtype):
        with autocast:
            output = gan.generator(lq, lq_seg)
        restored = output.detach().to(hq.dtype).requires_grad_()
        labels = hq_seg if hq_labels is None else hq_labels
        losses, grads = _reconstruction_grads(gan, restored, hq, labels, autocast, loss_weights)
        grad = sum_tensors(grads.values())
        if uses_discriminator(loss_weights):
            adv_losses, adv_grad, gen_grad = _adversarial_step(
                gan, restored, hq, hq_seg, autocast, dtype, loss_weights, log_grad_norms, shift
            )
            losses |= adv_losses
            grad = grad + adv_grad
            if gen_grad is not None:
                grads |= {"fm": adv_grad - gen_grad, "gen": gen_grad}
        output.backward(grad.to(output.dtype))
    all_reduce_gradients(gan.generator)
    gan.scaler.step(gan.optimizer_g)
    if gan.scaler.is_enabled():
        losses["skipped_generator"] = gan.scaler.skipped(gan.optimizer_g)
        log_grad_norms = log_grad_norms and not losses["skipped_generator"].item()  # overflowed norms say nothing
    if log_grad_norms:
        norms = {name: gan.scaler.unscale(_grad_norm(grad)) for name, grad in grads.items() if loss_weights[name]}
        losses |= {f"grad_{name}": norm for name, norm in norms.items()}
    gan.scaler.update()
    return losses


def uses_discriminator(loss_weights: LossWeights) -> bool:
    """Return whether a loss with a weight depends on the discriminator; otherwise the discriminator is not trained."""
    return bool(loss_weights["fm"] or loss_weights["gen"])


def _grad_norm(grad: Tensor) -> Tensor:
    """Return the mean over the images of |d(loss_i) / d(image_i)|, where loss_i is the loss of image i alone.

    Args:
        grad: gradient of the batch's loss, the mean of loss_i, with respect to the images, (B, 3, H, W).
    """
    return len(grad) * torch.linalg.vector_norm(grad.flatten(1), dim=1).mean()


def _reconstruction_grads(
    gan: Gan, restored: Tensor, hq: Tensor, labels: Tensor, autocast: torch.autocast, loss_weights: LossWeights
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return style and pixel loss, and the gradient of each, weighted and scaled, of the restored image."""
    losses = {}
    if loss_weights["ss"]:
        with autocast:
            with torch.no_grad():
                hq_features = gan.vgg(hq)
            restored_features = gan.vgg(restored)
        losses["ss"] = semantic_style_loss(restored_features, hq_features, labels)
    losses["pix"] = pixel_loss(restored, hq)
    weighted = {name: gan.scaler.scale(loss_weights[name] * loss) for name, loss in losses.items()}
    grads = {name: torch.autograd.grad(loss, restored)[0] for name, loss in weighted.items()}
    return _detach(losses), grads


def _adversarial_step(
    gan: Gan,
    restored: Tensor,
    hq: Tensor,
    hq_seg: Tensor,
    autocast: torch.autocast,
    dtype: torch.dtype,
    loss_weights: LossWeights,
    needs_gen_grad: bool,
    shift: tuple[int, int],
) -> tuple[dict[str, Tensor], Tensor, Tensor | None]:
    """Update the discriminator.

    Returns:
        The losses and mean scores of `train_step` that depend on the discriminator; the scaled gradient of the weighted
        feature matching and generator losses with respect to the restored image; with `needs_gen_grad` also that of
        the weighted generator loss alone.
    """
    power_iteration(gan.discriminator)
    gan.optimizer_d.zero_grad(set_to_none=True)
    hq_seg = torch.roll(hq_seg, shift, (1, 2))
    with cache_kernels(gan.discriminator, dtype) as cache:
        # A single pass over the restored image serves both networks: its gradient with respect to the image trains the
        # generator, that with respect to the kernels trains the discriminator.
        with autocast:
            real = gan.discriminator(torch.roll(hq, shift, (2, 3)), hq_seg)
        disc_real = hinge_real_loss(real)
        gan.scaler.scale(disc_real).backward(inputs=cache.leaves)
        real = [(score.detach(), [feature.detach() for feature in features]) for score, features in real]

        with autocast:
            fake = gan.discriminator(torch.roll(restored, shift, (2, 3)), hq_seg)
        fm, gen = feature_matching_loss(fake, real), hinge_generator_loss(fake)
        weighted = loss_weights["fm"] * fm + loss_weights["gen"] * gen
        (grad,) = torch.autograd.grad(gan.scaler.scale(weighted), restored, retain_graph=True)
        gen_grad = None
        if needs_gen_grad:
            weighted_gen = gan.scaler.scale(loss_weights["gen"] * gen)
            (gen_grad,) = torch.autograd.grad(weighted_gen, restored, retain_graph=True)
        disc_fake = hinge_fake_loss(fake)
        gan.scaler.scale(disc_fake).backward(inputs=cache.leaves)
    all_reduce_gradients(gan.discriminator)
    gan.scaler.step(gan.optimizer_d)
    losses = {"fm": fm, "gen": gen, "disc": disc_real + disc_fake}
    if gan.scaler.is_enabled():
        losses["skipped_discriminator"] = gan.scaler.skipped(gan.optimizer_d)
    scores = {"score_real": mean_score(real), "score_fake": mean_score(fake)}
    return _detach(losses | scores), grad, gen_grad


def _detach(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in tensors.items()}


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


def prepare_batch(batch: Batch, device: torch.device) -> Batch:
    """Convert a batch of `PairedFaceDataset`, in uint8, to what `train_step` takes, on the device."""
    hq, lq, hq_seg, lq_seg = (tensor.to(device, non_blocking=True) for tensor in batch)
    return normalize(hq), normalize(lq), hq_seg.long(), lq_seg.long()


def train(
    params: Params,
    gan: Gan,
    dataset: PairedFaceDataset,
    checkpoints: CheckpointManager,
    on_epoch_end: EpochCallback,
) -> None:
    """Train for `params.epochs` epochs, starting from the latest checkpoint if there is one.

    Args:
        params: the experiment's parameters.
        gan: networks and optimizers as `build` creates them, changed in place.
        dataset: the training set.
        checkpoints: where the state of the training is saved.
        on_epoch_end: called on rank 0 after each epoch, see `training_loop`.

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
        if gan.ema_generator:
            update_ema(gan.ema_generator, gan.generator, params.ema, step)
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
        on_epoch_end=on_epoch_end,
    )
