"""A training step of PSFR-GAN (the reimplementation, sections Losses and Training)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from psfr.data.datasets import normalize
from psfr.networks.discriminator import Discriminator
from psfr.networks.generator import Generator
from psfr.networks.kernels import cache_kernels
from psfr.networks.spectral_norm import power_iteration
from psfr.networks.vgg import VggFeatures
from psfr.training.loop import all_reduce_gradients
from psfr.training.losses import (
    feature_matching_loss,
    hinge_fake_loss,
    hinge_generator_loss,
    hinge_real_loss,
    mean_score,
    perceptual_loss,
    pixel_loss,
    semantic_style_loss,
    sum_tensors,
)
from psfr.training.scaling import LossScaler
from psfr.training.schedule import LossWeights

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


def prepare_batch(batch: Batch, device: torch.device) -> Batch:
    """Convert a batch of `PairedFaceDataset`, in uint8, to what `train_step` takes, on the device."""
    hq, lq, hq_seg, lq_seg = (tensor.to(device, non_blocking=True) for tensor in batch)
    return normalize(hq), normalize(lq), hq_seg.long(), lq_seg.long()


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
    graph, which bounds the peak memory. A group whose weights are all 0 is skipped: VGG without style and perceptual
    loss; the discriminator, which is then not trained, without feature matching and generator loss.

    Args:
        gan: the networks and optimizers, changed in place.
        batch: high-quality and degraded images, float (B, 3, H, W) in [-1, 1], and the parsing map of each, int64 (B,
            H, W).
        dtype: dtype of the convolutions, `torch.bfloat16`, `torch.float16` (if `gan` was built for it),
            `torch.float32` or `torch.float64`.
        loss_weights: weights of ss, pcp, pix, fm, gen and r1.
        log_grad_norms: whether to return the gradient norms too, which takes a second backward pass of the
            discriminator. The update is the same.
        shift: rows and columns by which the discriminator's images and parsing maps are shifted cyclically.
        hq_labels: the parsing map of the high-quality images on the CPU, integer (B, H, W), for the style loss, see
            `semantic_style_loss`; by default that of `batch`.

    Returns:
        The unweighted losses (ss, pcp, pix, fm, gen, disc, r1) and the discriminator's mean scores (score_real,
        score_fake), detached, without those that were skipped. With `log_grad_norms` also grad_ss, grad_pcp, grad_pix,
        grad_fm and grad_gen, the norm of the gradient of each loss with a weight with respect to a restored image, see
        `_grad_norm`. With
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
    """Return style, perceptual and pixel loss, and the gradient of each, weighted and scaled, of the restored image."""
    losses = {}
    uses_style, uses_perceptual = loss_weights["ss"] > 0, loss_weights.get("pcp", 0) > 0
    if uses_style or uses_perceptual:
        num_stages = 5 if uses_perceptual else 3
        with autocast:
            with torch.no_grad():
                hq_features = gan.vgg(hq, num_stages)
            restored_features = gan.vgg(restored, num_stages)
        if uses_style:
            losses["ss"] = semantic_style_loss(restored_features[-3:], hq_features[-3:], labels)
        if uses_perceptual:
            losses["pcp"] = perceptual_loss(restored_features, hq_features)
    losses["pix"] = pixel_loss(restored, hq)
    grads = {}
    for name, loss in losses.items():
        weighted = gan.scaler.scale(loss_weights[name] * loss)
        shares_graph = name == "ss" and uses_perceptual
        (grads[name],) = torch.autograd.grad(weighted, restored, retain_graph=shares_graph)
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
        losses = {"fm": fm, "gen": gen, "disc": disc_real + disc_fake}
        if loss_weights.get("r1"):
            losses["r1"] = r1_penalty(gan, torch.roll(hq, shift, (2, 3)), hq_seg, autocast)
            gan.scaler.scale(0.5 * loss_weights["r1"] * losses["r1"]).backward(inputs=cache.leaves)
    all_reduce_gradients(gan.discriminator)
    gan.scaler.step(gan.optimizer_d)
    if gan.scaler.is_enabled():
        losses["skipped_discriminator"] = gan.scaler.skipped(gan.optimizer_d)
    scores = {"score_real": mean_score(real), "score_fake": mean_score(fake)}
    return _detach(losses | scores), grad, gen_grad


def r1_penalty(gan: Gan, hq: Tensor, hq_seg: Tensor, autocast: torch.autocast) -> Tensor:
    """Return the squared norm of the gradient of the discriminator's score of real images (Mescheder et al., 2018).

    The score of an image is the mean of its score maps, averaged over the scales; the result is the mean over the
    images, which loss scaling does not change.

    Args:
        gan: the networks and optimizers.
        hq: high-quality images, (B, 3, H, W) in [-1, 1].
        hq_seg: their parsing maps, int64 (B, H, W).
        autocast: context of the discriminator's forward pass.
    """
    image = hq.detach().requires_grad_()
    with autocast:
        score_sum = len(hq) * mean_score(gan.discriminator(image, hq_seg, twice_differentiable=True))
    (grad,) = torch.autograd.grad(gan.scaler.scale(score_sum), image, create_graph=True)
    return gan.scaler.unscale(grad.float()).square().sum((1, 2, 3)).mean()


def _detach(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in tensors.items()}
