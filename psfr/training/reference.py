"""Networks, style loss and training step as the article writes them, to hold the faster forms against."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from psfr import params
from psfr.networks import discriminator, fpn, generator
from psfr.networks.blocks import SLOPE, DoublingConv2d, PoolingConv2d, power_iteration, with_regions
from psfr.training import fpn as fpn_training
from psfr.training import gan, losses


def doubled_convolution(x: Tensor, weight: Tensor, bias: Tensor | None, padding: str) -> Tensor:
    """Nearest doubling, padding by one ("constant" is zero), 3x3 convolution."""
    return F.conv2d(F.pad(F.interpolate(x, scale_factor=2, mode="nearest"), (1, 1, 1, 1), padding), weight, bias)


def pooled_convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Reflection padding, 3x3 convolution, 2x2 average pooling."""
    return F.avg_pool2d(F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), weight, bias), 2)


def _parsing_layer(layer: fpn.ConvLayer, x: Tensor) -> Tensor:
    if layer.scale == "double":
        x = F.interpolate(x, scale_factor=2, mode="nearest")
    x = layer.norm(layer.conv(F.pad(x, (1, 1, 1, 1), "reflect")))
    return F.leaky_relu(x, SLOPE) if layer.activation else x


def _spade_norm(norm: generator.SpadeNorm, x: Tensor, condition: Tensor) -> Tensor:
    if condition.shape[-1] != x.shape[-1]:
        condition = F.interpolate(condition, x.shape[2:], mode="bicubic", align_corners=False)
    hidden = F.leaky_relu(norm.hidden(condition), SLOPE)
    return F.instance_norm(x) * norm.gamma(hidden) + norm.beta(hidden)


def _style_block(block: generator.StyleBlock, x: Tensor, condition: Tensor) -> Tensor:
    residual = block.conv0(F.leaky_relu(block.norm0(x, condition), SLOPE))
    return x + block.conv1(F.leaky_relu(block.norm1(residual, condition), SLOPE))


def _generate(network: generator.Generator, image: Tensor, labels: Tensor) -> Tensor:
    condition = with_regions(image, labels).contiguous()
    x = network.constant.repeat(image.shape[0], 1, 1, 1)
    for stage in network.stages:
        x = stage(x, condition)
    return network.to_image(x)


@contextmanager
def layers() -> Iterator[None]:
    """Within it every network computes layer by layer, as it is written."""
    forms = [
        (DoublingConv2d, "forward", lambda layer, x: doubled_convolution(x, layer.kernel(), layer.bias, "constant")),
        (PoolingConv2d, "forward", lambda layer, x: pooled_convolution(x, layer.kernel(), layer.bias)),
        (fpn.ConvLayer, "forward", _parsing_layer),
        (generator.SpadeNorm, "forward", _spade_norm),
        (generator.StyleBlock, "forward", _style_block),
        (generator.Generator, "forward", _generate),
        (generator, "resized", lambda condition, size: condition),  # each norm resizes for itself
        (discriminator, "instance_norm", F.instance_norm),
    ]
    with ExitStack() as stack:
        for place, name, form in forms:
            stack.enter_context(mock.patch.object(place, name, form))
        yield


def style_loss(restored: list[Tensor], high: list[Tensor], labels: Tensor, regions: int = 19) -> Tensor:
    """All Gram matrices of all regions, one after the other."""
    total = 0
    for x, y in zip(restored, high, strict=True):
        batch, channels, height, width = x.shape
        small = F.interpolate(labels[:, None].double(), (height, width))[:, 0].long()
        squares = x.new_zeros(())
        for region in range(regions):
            mask = (small == region).unsqueeze(1).to(x.dtype)
            grams = []
            for features in (x, y.detach()):
                inside = (features * mask).flatten(2)
                grams.append(inside @ inside.transpose(1, 2) / (channels * (mask.sum((2, 3)).unsqueeze(2) + 1e-8)))
            squares = squares + (grams[0] - grams[1]).square().sum()
        total = total + squares / (batch * regions * channels**2)
    return total


def step(state: gan.Gan, batch: gan.Batch) -> dict[str, Tensor]:
    """Gradients in the published order: three passes of the discriminators, one backward pass of everything for each update.

    Returns the losses before their weights.
    """
    high, low, high_labels, low_labels = batch
    power_iteration(state.generator)
    power_iteration(state.discriminator)
    state.generator.zero_grad()
    restored = state.generator(low, low_labels)
    real = state.discriminator(high, high_labels)
    fake_d, fake_g = state.discriminator(restored.detach(), high_labels), state.discriminator(restored, high_labels)
    terms = {
        "ss": style_loss(state.vgg(restored), state.vgg(high), high_labels),
        "pix": losses.pixel_loss(restored, high),
        "fm": losses.feature_matching_loss(fake_g, real),
        "gen": losses.hinge_generator_loss(fake_g),
    }
    sum(state.weights[name] * term for name, term in terms.items()).backward()
    state.discriminator.zero_grad()
    terms["disc"] = losses.hinge_discriminator_loss(real, fake_d)
    terms["disc"].backward()
    return {name: term.detach() for name, term in terms.items()}


def training_step(values: params.Params, state: gan.Gan, batch: gan.Batch) -> Callable[[], None]:
    """A whole step without any short cut, for the benchmark: the region map is parsed anew, layouts and precision are torch's own."""
    high, low, high_labels, _ = batch
    parser = _as_stored(fpn.FaceParsingNetwork(**fpn_training.sizes(values)).to(high.device).eval())
    for network in (state.generator, state.discriminator, state.vgg):
        _as_stored(network)

    def run() -> None:
        with layers():
            with torch.no_grad():
                low_labels = parser(low)[0].argmax(1)
            step(state, (high, low, high_labels, low_labels))
        state.optimizer_g.step()
        state.optimizer_d.step()

    return run


def restoration(parser: fpn.FaceParsingNetwork, network: generator.Generator, image: Tensor) -> Callable[[], Tensor]:
    """Parsing and restoring without any short cut, for the benchmark."""

    def run() -> Tensor:
        with layers():
            return network(image, parser(image)[0].argmax(1))

    return run


def _as_stored(network: nn.Module) -> nn.Module:
    return network.to(memory_format=torch.contiguous_format)


def gradients(output: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Of a sum with uneven weights, so that no error cancels."""
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return torch.autograd.grad((output * weights).sum(), inputs)
