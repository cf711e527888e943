"""Training of PSFR-GAN (the reimplementation, sections Losses and Training)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from psfr.compute.devices import compute_dtype, get_device, num_workers
from psfr.data.datasets import PairedFaceDataset, normalize
from psfr.networks.blocks import cache_kernels, power_iteration
from psfr.networks.discriminator import Discriminator
from psfr.networks.generator import Generator
from psfr.networks.vgg import VggFeatures
from psfr.params import Params
from psfr.training.checkpoint import CheckpointManager
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
from psfr.utils.seeds import derive_seed

BETAS = (0.5, 0.999)

Batch = tuple[Tensor, Tensor, Tensor, Tensor]  # hq, lq, hq_seg, lq_seg


@dataclass
class Gan:
    """The networks and optimizers of a training, and the weights of its losses."""

    generator: Generator
    discriminator: Discriminator
    vgg: VggFeatures
    optimizer_g: torch.optim.Optimizer
    optimizer_d: torch.optim.Optimizer
    loss_weights: dict[str, float]  # of the generator's losses: ss, pix, fm, gen

    @property
    def uses_discriminator(self) -> bool:
        """Whether a loss with a weight depends on the discriminator; otherwise the discriminator is not trained."""
        return bool(self.loss_weights["fm"] or self.loss_weights["gen"])


def generator_config(params: Params) -> dict[str, int]:
    """Return the arguments of `Generator`."""
    return {"image_size": params.image_size, **params.generator.model_dump(exclude={"constant_scale"})}


def build(params: Params, vgg: VggFeatures) -> Gan:
    """Create the networks, with seeded weights, and their optimizers on the device that `params` selects."""
    torch.manual_seed(derive_seed(params.seed, "train"))
    device = get_device(params.compute)
    generator = Generator(**generator_config(params)).to(device)
    generator.constant.data *= params.generator.constant_scale
    discriminator = Discriminator(**params.discriminator.model_dump()).to(device)
    return Gan(
        generator=generator,
        discriminator=discriminator,
        # torch's stub lacks this form of `to`
        vgg=vgg.to(device, memory_format=torch.channels_last),  # pyright: ignore[reportCallIssue]
        optimizer_g=torch.optim.Adam(generator.parameters(), params.lr_generator, BETAS, fused=True),
        optimizer_d=torch.optim.Adam(discriminator.parameters(), params.lr_discriminator, BETAS, fused=True),
        loss_weights={
            "ss": params.lambda_ss,
            "pix": params.lambda_pix,
            "fm": params.lambda_fm,
            "gen": params.lambda_gen,
        },
    )


def train_step(gan: Gan, batch: Batch, dtype: torch.dtype) -> dict[str, Tensor]:
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
        dtype: dtype of the convolutions, `torch.bfloat16`, `torch.float32` or `torch.float64`.

    Returns:
        The unweighted losses (ss, pix, fm, gen, disc) and the discriminator's mean scores (score_real, score_fake),
        detached, without those that were skipped.
    """
    hq, lq, hq_seg, lq_seg = batch
    autocast = torch.autocast(hq.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)
    power_iteration(gan.generator)
    gan.optimizer_g.zero_grad(set_to_none=True)

    with cache_kernels(gan.generator, dtype):
        with autocast:
            output = gan.generator(lq, lq_seg)
        restored = output.detach().to(hq.dtype).requires_grad_()
        losses, grad = _reconstruction_grad(gan, restored, hq, hq_seg, autocast)
        if gan.uses_discriminator:
            adv_losses, adv_grad = _adversarial_step(gan, restored, hq, hq_seg, autocast, dtype)
            losses |= adv_losses
            grad += adv_grad
        output.backward(grad.to(output.dtype))
    all_reduce_gradients(gan.generator)
    gan.optimizer_g.step()
    return losses


def _reconstruction_grad(
    gan: Gan, restored: Tensor, hq: Tensor, hq_seg: Tensor, autocast: torch.autocast
) -> tuple[dict[str, Tensor], Tensor]:
    """Return style and pixel loss, and the gradient of their weighted sum with respect to the restored image."""
    losses = {}
    if gan.loss_weights["ss"]:
        with autocast:
            with torch.no_grad():
                hq_features = gan.vgg(hq)
            restored_features = gan.vgg(restored)
        losses["ss"] = semantic_style_loss(restored_features, hq_features, hq_seg)
    losses["pix"] = pixel_loss(restored, hq)
    total = sum_tensors(gan.loss_weights[name] * loss for name, loss in losses.items())
    (grad,) = torch.autograd.grad(total, restored)
    return _detach(losses), grad


def _adversarial_step(
    gan: Gan, restored: Tensor, hq: Tensor, hq_seg: Tensor, autocast: torch.autocast, dtype: torch.dtype
) -> tuple[dict[str, Tensor], Tensor]:
    """Update the discriminator.

    Returns:
        The losses and mean scores of `train_step` that depend on the discriminator, and the gradient of the weighted
        feature matching and generator losses with respect to the restored image.
    """
    power_iteration(gan.discriminator)
    gan.optimizer_d.zero_grad(set_to_none=True)
    with cache_kernels(gan.discriminator, dtype) as cache:
        losses, grad = _adversarial_grad(gan, restored, hq, hq_seg, autocast, cache.leaves)
    all_reduce_gradients(gan.discriminator)
    gan.optimizer_d.step()
    return losses, grad


def _adversarial_grad(
    gan: Gan, restored: Tensor, hq: Tensor, hq_seg: Tensor, autocast: torch.autocast, kernels: list[Tensor]
) -> tuple[dict[str, Tensor], Tensor]:
    """Return what `_adversarial_step` returns, and accumulate the gradient of the discriminator's loss in `kernels`.

    A single pass over the restored image serves both networks: its gradient with respect to the image trains the
    generator, that with respect to the kernels trains the discriminator.
    """
    with autocast:
        real = gan.discriminator(hq, hq_seg)
    disc_real = hinge_real_loss(real)
    disc_real.backward(inputs=kernels)
    real = [(score.detach(), [feature.detach() for feature in features]) for score, features in real]

    with autocast:
        fake = gan.discriminator(restored, hq_seg)
    fm, gen = feature_matching_loss(fake, real), hinge_generator_loss(fake)
    weighted = gan.loss_weights["fm"] * fm + gan.loss_weights["gen"] * gen
    (grad,) = torch.autograd.grad(weighted, restored, retain_graph=True)
    disc_fake = hinge_fake_loss(fake)
    disc_fake.backward(inputs=kernels)

    losses = {"fm": fm, "gen": gen, "disc": disc_real + disc_fake}
    scores = {"score_real": mean_score(real), "score_fake": mean_score(fake)}
    return _detach(losses | scores), grad


def _detach(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in tensors.items()}


def linear_decay(
    optimizer: torch.optim.Optimizer, total_steps: int, decay_fraction: float
) -> torch.optim.lr_scheduler.LambdaLR:
    """Create a scheduler that decays the learning rate linearly to 0 over the last `decay_fraction` of the steps."""
    decay_steps = max(decay_fraction * total_steps, 1)
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (total_steps - step) / decay_steps))


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
    total_steps = params.epochs * (len(dataset) // min(params.batch_size, len(dataset)))
    schedulers = {"scheduler_g": linear_decay(gan.optimizer_g, total_steps, params.lr_decay)}
    if gan.uses_discriminator:
        schedulers["scheduler_d"] = linear_decay(gan.optimizer_d, total_steps, params.lr_decay)
    modules: dict[str, Any] = {
        "generator": gan.generator,
        "discriminator": gan.discriminator,
        "optimizer_g": gan.optimizer_g,
        "optimizer_d": gan.optimizer_d,
        **schedulers,
    }

    def step(batch: Batch) -> dict[str, Tensor]:
        losses = train_step(gan, prepare_batch(batch, device), dtype)
        for scheduler in schedulers.values():
            scheduler.step()
        return losses

    training_loop(
        name="train",
        dataset=dataset,
        sample_names=dataset.names,
        modules=modules,
        step_fn=step,
        batch_size=params.batch_size,
        epochs=params.epochs,
        seed=params.seed,
        num_workers=num_workers(params.compute),
        device=device,
        checkpoints=checkpoints,
        on_epoch_end=on_epoch_end,
    )
