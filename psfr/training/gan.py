"""Training of PSFR-GAN (article, sections Losses and Training)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from psfr.compute import processes
from psfr.compute.devices import device, precision
from psfr.data.datasets import Quartets, to_unit
from psfr.networks.blocks import kernels, power_iteration
from psfr.networks.discriminator import Discriminator
from psfr.networks.generator import Generator
from psfr.networks.vgg import VggFeatures
from psfr.params import Params
from psfr.training import loop, losses
from psfr.training.checkpoint import Snapshots
from psfr.training.loop import Course
from psfr.utils.seeds import seed_of

BETAS = (0.5, 0.999)

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass
class Gan:
    """Everything that a training step reads and changes."""

    generator: Generator
    discriminator: Discriminator
    vgg: VggFeatures
    optimizer_g: torch.optim.Optimizer
    optimizer_d: torch.optim.Optimizer
    weights: dict[str, float]  # of the generator's losses: ss, pix, fm, gen

    @property
    def judged(self) -> bool:
        """Whether a loss needs the discriminator; it learns nothing otherwise."""
        return bool(self.weights["fm"] or self.weights["gen"])


def generator_sizes(params: Params) -> dict[str, int]:
    return {"image_size": params.image_size, **params.generator.model_dump(exclude={"constant_scale"})}


def build(params: Params, vgg: VggFeatures) -> Gan:
    """The networks with seeded weights, on the device that params name, and their optimisers."""
    torch.manual_seed(seed_of(params.seed, "train"))
    where = device(params.compute)
    generator = Generator(**generator_sizes(params)).to(where)
    generator.constant.data *= params.generator.constant_scale
    discriminator = Discriminator(**params.discriminator.model_dump()).to(where)
    return Gan(
        generator,
        discriminator,
        vgg.to(where, memory_format=torch.channels_last),
        torch.optim.Adam(generator.parameters(), params.lr_generator, BETAS, fused=True),
        torch.optim.Adam(discriminator.parameters(), params.lr_discriminator, BETAS, fused=True),
        {"ss": params.lambda_ss, "pix": params.lambda_pix, "fm": params.lambda_fm, "gen": params.lambda_gen},
    )


def train_step(gan: Gan, batch: Batch, precision: torch.dtype) -> dict[str, Tensor]:
    """One update of the generator and one of the discriminator, each with the other as it was before the step, as in the published training.

    Where processes share the batch, each calls this with its part, and the gradients are the mean over the processes: that of the whole batch.

    The losses see the restored image as a leaf: each group hands over its gradient of the image and lets its graph go before the next one
    builds its own. A group whose losses all weigh 0 is passed over: VGG without style loss, the discriminator, which then learns nothing,
    without both of its losses.

    Args:
        batch: high-quality and degraded images, float (B, 3, H, W) in [-1, 1], and their labels, int64 (B, H, W).
        precision: of the networks' convolutions, bfloat16 or float32.

    Returns:
        The losses before their weights (ss, pix, fm, gen, disc) and the mean scores (score_real, score_fake), detached, but those passed over.
    """
    high, low, high_labels, low_labels = batch
    mixed = torch.autocast(high.device.type, torch.bfloat16, enabled=precision == torch.bfloat16)
    power_iteration(gan.generator)
    gan.optimizer_g.zero_grad(set_to_none=True)

    with kernels(gan.generator, precision):
        with mixed:
            restored = gan.generator(low, low_labels)
        image = restored.detach().to(high.dtype).requires_grad_()
        terms, gradient = _compare(gan, image, high, high_labels, mixed)
        if gan.judged:
            judged, its_gradient = _judge(gan, image, high, high_labels, mixed, precision)
            terms |= judged
            gradient += its_gradient
        restored.backward(gradient.to(restored.dtype))
    processes.mean_(parameter.grad for parameter in gan.generator.parameters())
    gan.optimizer_g.step()
    return terms


def _compare(
    gan: Gan, image: Tensor, high: Tensor, labels: Tensor, mixed: torch.autocast
) -> tuple[dict[str, Tensor], Tensor]:
    """The losses that compare with the true image, and the gradient of their weighted sum by the restored one."""
    terms = {}
    if gan.weights["ss"]:
        with mixed:
            with torch.no_grad():
                high_features = gan.vgg(high)
            restored_features = gan.vgg(image)
        terms["ss"] = losses.semantic_style_loss(restored_features, high_features, labels)
    terms["pix"] = losses.pixel_loss(image, high)
    (gradient,) = torch.autograd.grad(sum(gan.weights[name] * term for name, term in terms.items()), image)
    return {name: term.detach() for name, term in terms.items()}, gradient


def _judge(
    gan: Gan, image: Tensor, high: Tensor, labels: Tensor, mixed: torch.autocast, precision: torch.dtype
) -> tuple[dict[str, Tensor], Tensor]:
    """Update the discriminator; its losses and scores, and the gradient of the generator's weighted losses by the restored image.

    One pass over the restored image serves both updates: the generator's takes from it the gradient of the image, the discriminator's that
    of the weights.
    """
    power_iteration(gan.discriminator)
    gan.optimizer_d.zero_grad(set_to_none=True)
    with kernels(gan.discriminator, precision) as shared:
        with mixed:
            real = gan.discriminator(high, labels)
        disc_real = losses.hinge_real_loss(real)
        disc_real.backward(inputs=shared.leaves)
        real = [(score.detach(), [feature.detach() for feature in features]) for score, features in real]

        with mixed:
            fake = gan.discriminator(image, labels)
        terms = {"fm": losses.feature_matching_loss(fake, real), "gen": losses.hinge_generator_loss(fake)}
        (gradient,) = torch.autograd.grad(
            gan.weights["fm"] * terms["fm"] + gan.weights["gen"] * terms["gen"], image, retain_graph=True
        )
        disc_fake = losses.hinge_fake_loss(fake)
        disc_fake.backward(inputs=shared.leaves)
        terms |= {
            "disc": disc_real + disc_fake,
            "score_real": losses.mean_score(real),
            "score_fake": losses.mean_score(fake),
        }
        terms = {name: term.detach() for name, term in terms.items()}
        del real, fake, disc_fake
    processes.mean_(parameter.grad for parameter in gan.discriminator.parameters())
    gan.optimizer_d.step()
    return terms, gradient


def falling(optimizer: torch.optim.Optimizer, steps: int, share: float) -> torch.optim.lr_scheduler.LambdaLR:
    """The optimiser's rate as it is, but over the last `share` of so many steps, where it falls to 0 in a straight line."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (steps - step) / max(share * steps, 1)))


def on_device(batch: Batch, where: torch.device) -> Batch:
    """A batch of bytes, as the loader gives it, on the device as `train_step` takes it."""
    high, low, high_labels, low_labels = (tensor.to(where, non_blocking=True) for tensor in batch)
    return to_unit(high), to_unit(low), high_labels.long(), low_labels.long()


def train(
    params: Params, gan: Gan, dataset: Quartets, kept: Snapshots, after_epoch: Callable[[int, dict[str, float]], None]
) -> None:
    """Train for `params.epochs` epochs, from the newest snapshot if there is one; `after_epoch` as in `Course`.

    Raises:
        InputError, KeyboardInterrupt: as `loop.run`.
    """
    where = device(params.compute)
    mixed = precision(params.compute, where)
    steps = params.epochs * (len(dataset) // min(params.batch_size, len(dataset)))
    schedules = [
        falling(optimizer, steps, params.lr_decay)
        for optimizer in ([gan.optimizer_g, gan.optimizer_d] if gan.judged else [gan.optimizer_g])
    ]
    state = {
        "generator": gan.generator,
        "discriminator": gan.discriminator,
        "optimizer_g": gan.optimizer_g,
        "optimizer_d": gan.optimizer_d,
    }
    state |= {f"schedule_{place}": schedule for place, schedule in enumerate(schedules)}

    def step(batch: Batch) -> dict[str, Tensor]:
        terms = train_step(gan, on_device(batch, where), mixed)
        for schedule in schedules:
            schedule.step()
        return terms

    loop.run(
        Course("train", dataset, dataset.names, params.batch_size, params.epochs, state, step, after_epoch),
        params,
        kept,
    )
