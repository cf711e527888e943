"""Reference implementation of the networks, the style loss and the training step.

Everything is computed layer by layer as the paper and the reimplementation define it, in float32 or float64 and
without the rewrites that make the pipeline fast. Tests compare the optimized code with it, benchmarks measure the
speedup. The pipeline does not use it.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from psfr.networks import NUM_CLASSES, discriminator, fpn, generator
from psfr.networks.functional import LEAKY_SLOPE, concat_one_hot
from psfr.networks.spectral_norm import ConvPool2d, UpsampleConv2d, power_iteration
from psfr.params import Params
from psfr.training import fpn as fpn_training
from psfr.training import gan, losses
from psfr.training.schedule import LossWeights, make_schedule


def upsample_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, padding: str) -> Tensor:
    """Apply 2x nearest-neighbor upsampling, padding by 1 in a mode of `F.pad`, then a 3x3 convolution."""
    return F.conv2d(F.pad(F.interpolate(x, scale_factor=2, mode="nearest"), (1, 1, 1, 1), padding), weight, bias)


def antialiased_upsample_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, padding: str) -> Tensor:
    """Apply padding by 1 in a mode of `F.pad`, 2x bilinear upsampling, then a 3x3 convolution of what was not added."""
    upsampled = F.interpolate(F.pad(x, (1, 1, 1, 1), padding), scale_factor=2, mode="bilinear", align_corners=False)
    return F.conv2d(upsampled[:, :, 1:-1, 1:-1], weight, bias)


def conv2d_avg_pool(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Apply reflection padding by 1, a 3x3 convolution, then 2x2 average pooling."""
    return F.avg_pool2d(F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), weight, bias), 2)


def _upsample_conv_forward(layer: UpsampleConv2d, x: Tensor) -> Tensor:
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    function = antialiased_upsample_conv2d if layer.antialias else upsample_conv2d
    return function(x, layer.normalized_weight(), layer.bias, mode)


def _conv_pool_forward(layer: ConvPool2d, x: Tensor) -> Tensor:
    return conv2d_avg_pool(x, layer.normalized_weight(), layer.bias)


def _conv_layer_forward(layer: fpn.ConvLayer, x: Tensor) -> Tensor:
    if layer.scale == "up":
        x = F.interpolate(x, scale_factor=2, mode="nearest")
    x = layer.norm(layer.conv(F.pad(x, (1, 1, 1, 1), "reflect")))
    return F.leaky_relu(x, LEAKY_SLOPE) if layer.activation else x


def _spade_norm_forward(norm: generator.SpadeNorm, x: Tensor, condition: Tensor) -> Tensor:
    if condition.shape[-1] != x.shape[-1]:
        condition = F.interpolate(condition, x.shape[2:], mode="bicubic", align_corners=False)
    hidden = F.leaky_relu(norm.hidden(condition), LEAKY_SLOPE)
    return F.instance_norm(x) * norm.gamma(hidden) + norm.beta(hidden)


def _resize_condition(condition: Tensor, size: int, antialias: bool) -> Tensor:
    if antialias:
        return F.adaptive_avg_pool2d(condition, size)
    return condition  # the SPADE norms resize it themselves


def _style_block_forward(block: generator.StyleBlock, x: Tensor, condition: Tensor) -> Tensor:
    residual = block.conv0(F.leaky_relu(block.norm0(x, condition), LEAKY_SLOPE))
    return x + block.conv1(F.leaky_relu(block.norm1(residual, condition), LEAKY_SLOPE))


def _generator_forward(network: generator.Generator, image: Tensor, labels: Tensor) -> Tensor:
    condition = concat_one_hot(image, labels).contiguous()
    x = network.constant.repeat(image.shape[0], 1, 1, 1)
    for stage in network.stages:
        x = stage(x, condition)
    return network.to_image(x)


@contextmanager
def plain_forward() -> Iterator[None]:
    """Context manager in which the networks compute with the reference implementation of their layers."""
    replacements = [
        (UpsampleConv2d, "forward", _upsample_conv_forward),
        (ConvPool2d, "forward", _conv_pool_forward),
        (fpn.ConvLayer, "forward", _conv_layer_forward),
        (generator.SpadeNorm, "forward", _spade_norm_forward),
        (generator.StyleBlock, "forward", _style_block_forward),
        (generator.Generator, "forward", _generator_forward),
        (generator, "resize_condition", _resize_condition),
        (discriminator, "instance_norm", F.instance_norm),
    ]
    with ExitStack() as stack:
        for target, name, replacement in replacements:
            stack.enter_context(mock.patch.object(target, name, replacement))
        yield


def style_loss(restored_features: list[Tensor], hq_features: list[Tensor], labels: Tensor) -> Tensor:
    """Return `losses.semantic_style_loss`, from the Gram matrix of each region in turn."""
    map_losses = []
    for restored, hq in zip(restored_features, hq_features, strict=True):
        batch, channels, height, width = restored.shape
        seg = F.interpolate(labels[:, None].double(), (height, width))[:, 0].long()
        squares = restored.new_zeros(())
        for label in range(NUM_CLASSES):
            mask = (seg == label).unsqueeze(1).to(restored.dtype)
            grams = []
            for features in (restored, hq.detach()):
                inside = (features * mask).flatten(2)
                grams.append(inside @ inside.transpose(1, 2) / (channels * (mask.sum((2, 3)).unsqueeze(2) + 1e-8)))
            squares = squares + (grams[0] - grams[1]).square().sum()
        map_losses.append(squares / (batch * NUM_CLASSES * channels**2))
    return losses.sum_tensors(map_losses)


def train_step(model: gan.Gan, batch: gan.Batch, loss_weights: LossWeights) -> dict[str, Tensor]:
    """Compute the gradients of a training step in the published order, without updating the weights.

    The discriminator runs three times, and all losses of an update share one backward pass.

    Returns:
        The unweighted losses (ss, pix, fm, gen, disc), detached.
    """
    hq, lq, hq_seg, lq_seg = batch
    power_iteration(model.generator)
    power_iteration(model.discriminator)
    model.generator.zero_grad()
    restored = model.generator(lq, lq_seg)
    real = model.discriminator(hq, hq_seg)
    fake_d, fake_g = model.discriminator(restored.detach(), hq_seg), model.discriminator(restored, hq_seg)
    loss_values = {
        "ss": style_loss(model.vgg(restored), model.vgg(hq), hq_seg),
        "pix": losses.pixel_loss(restored, hq),
        "fm": losses.feature_matching_loss(fake_g, real),
        "gen": losses.hinge_generator_loss(fake_g),
    }
    losses.sum_tensors(loss_weights[name] * value for name, value in loss_values.items()).backward()
    model.discriminator.zero_grad()
    loss_values["disc"] = losses.hinge_discriminator_loss(real, fake_d)
    loss_values["disc"].backward()
    return {name: value.detach() for name, value in loss_values.items()}


def make_train_step(params: Params, model: gan.Gan, batch: gan.Batch) -> Callable[[], None]:
    """Create a whole training step for the benchmark, which also predicts the parsing map of the degraded images."""
    hq, lq, hq_seg, _ = batch
    loss_weights = make_schedule(params, steps_per_epoch=1).loss_weights
    face_parser = fpn.FaceParsingNetwork(**fpn_training.network_config(params)).to(hq.device).eval()
    for network in (face_parser, model.generator, model.discriminator, model.vgg):
        _to_contiguous(network)

    def step() -> None:
        with plain_forward():
            with torch.no_grad():
                lq_seg = face_parser(lq)[0].argmax(1)
            train_step(model, (hq, lq, hq_seg, lq_seg), loss_weights)
        model.optimizer_g.step()
        model.optimizer_d.step()

    return step


def make_restore(
    face_parser: fpn.FaceParsingNetwork, network: generator.Generator, image: Tensor
) -> Callable[[], Tensor]:
    """Create a function for the benchmark that parses and restores the image."""

    def restore() -> Tensor:
        with plain_forward():
            return network(image, face_parser(image)[0].argmax(1))

    return restore


def _to_contiguous(network: nn.Module) -> None:
    """Undo the channels-last memory format."""
    network.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]: missing in torch's stub


def weighted_grad(output: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Return the gradient of a weighted sum of the output; the weights are uneven, so that errors do not cancel."""
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return torch.autograd.grad((output * weights).sum(), inputs)
