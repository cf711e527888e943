"""Training of PSFR-GAN (article, sections Losses and Training)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from psfr import losses
from psfr.datasets import ShuffledVariants, loader, to_unit
from psfr.devices import autocast, device, workers
from psfr.networks.blocks import power_iteration
from psfr.networks.discriminator import Discriminator
from psfr.networks.generator import Generator
from psfr.networks.vgg import VggFeatures
from psfr.params import Params
from psfr.seeds import seed_of

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


def generator_sizes(params: Params) -> dict[str, int]:
    return {"image_size": params.image_size, **params.generator.model_dump()}


def build(params: Params, vgg: VggFeatures) -> Gan:
    """The networks with seeded weights, on the device that params name, and their optimisers."""
    torch.manual_seed(seed_of(params.seed, "train"))
    where = device(params.compute)

    def placed(network: nn.Module) -> nn.Module:
        return network.to(where, memory_format=torch.channels_last)

    generator = placed(Generator(**generator_sizes(params)))
    discriminator = placed(Discriminator(**params.discriminator.model_dump()))
    return Gan(
        generator,
        discriminator,
        placed(vgg),
        torch.optim.Adam(generator.parameters(), params.lr_generator, BETAS),
        torch.optim.Adam(discriminator.parameters(), params.lr_discriminator, BETAS),
        {"ss": params.lambda_ss, "pix": params.lambda_pix, "fm": params.lambda_fm, "gen": params.lambda_gen},
    )


def train_step(gan: Gan, batch: Batch, precision: torch.autocast) -> dict[str, Tensor]:
    """One update of the generator, then one of the discriminator.

    One pass of the discriminator over the restored image serves both: the generator's update takes from it the gradient of the image, the
    discriminator's that of the weights. Both see the discriminator as it was before the step, as in the published training.

    Args:
        batch: high-quality and degraded images, float (B, 3, H, W) in [-1, 1], and their labels, int64 (B, H, W).

    Returns:
        The losses before their weights (ss, pix, fm, gen, disc) and the mean scores (score_real, score_fake), detached.
    """
    high, low, high_labels, low_labels = batch
    power_iteration(gan.generator)
    power_iteration(gan.discriminator)

    with precision:
        restored = gan.generator(low, low_labels)
        # The losses see the image as a leaf, so that their graphs go as soon as its gradient is known.
        image = restored.detach().float().requires_grad_()
        fake = gan.discriminator(image, high_labels)
        real = gan.discriminator(high, high_labels)
        with torch.no_grad():
            high_features = gan.vgg(high)
        restored_features = gan.vgg(image)

    terms = {
        "ss": losses.semantic_style_loss(restored_features, high_features, high_labels),
        "pix": losses.pixel_loss(image, high),
        "fm": losses.feature_matching_loss(fake, real),
        "gen": losses.hinge_generator_loss(fake),
    }
    weighted = {name: gan.weights[name] * term for name, term in terms.items()}
    (gradient,) = torch.autograd.grad(weighted["ss"] + weighted["pix"], image)
    gradient += torch.autograd.grad(weighted["fm"] + weighted["gen"], image, retain_graph=True)[0]
    gan.optimizer_g.zero_grad(set_to_none=True)
    restored.backward(gradient.to(restored.dtype))
    gan.optimizer_g.step()

    terms["disc"] = losses.hinge_discriminator_loss(real, fake)
    gan.optimizer_d.zero_grad(set_to_none=True)
    terms["disc"].backward(inputs=list(gan.discriminator.parameters()))
    gan.optimizer_d.step()

    scores = {"score_real": real, "score_fake": fake}
    terms |= {name: sum(score.float().mean() for score, _ in judged) / len(judged) for name, judged in scores.items()}
    return {name: term.detach() for name, term in terms.items()}


def on_device(batch: Batch, where: torch.device) -> Batch:
    """A batch of bytes, as the loader gives it, on the device as `train_step` takes it."""
    high, low, high_labels, low_labels = (tensor.to(where, non_blocking=True) for tensor in batch)
    return to_unit(high), to_unit(low), high_labels.long(), low_labels.long()


def train(params: Params, gan: Gan, dataset, after_epoch: Callable[[int, dict[str, float]], None]) -> None:
    """Train for `params.epochs` epochs; after each, `after_epoch` gets its number (from 1) and the means of what the steps returned."""
    where = device(params.compute)
    order = ShuffledVariants(len(dataset), params.seed)
    batches = loader(dataset, params.batch_size, order, workers(params.compute), drop_last=len(dataset) >= params.batch_size)
    with tqdm(total=params.epochs * len(batches), desc="train", unit="step") as progress:
        for epoch in range(1, params.epochs + 1):
            order.epoch = epoch - 1
            sums: dict[str, Tensor] = {}
            for batch in batches:
                terms = train_step(gan, on_device(batch, where), autocast(params.compute, where))
                sums = {name: sums.get(name, 0) + term for name, term in terms.items()}
                progress.update()
            means = {name: (total / len(batches)).item() for name, total in sums.items()}
            progress.set_postfix({name: f"{mean:.3g}" for name, mean in means.items()})
            after_epoch(epoch, means)
