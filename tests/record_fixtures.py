"""Record tests/fixtures/*.safetensors from the authors' code, as docs/parity.md describes.

git clone https://github.com/chaofengc/PSFRGAN AUTHORS_CHECKOUT
python -m tests.record_fixtures AUTHORS_CHECKOUT [--out DIR]
"""

import argparse
import importlib
import sys
from pathlib import Path
from types import ModuleType

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from psfr.networks import NUM_CLASSES
from psfr.utils.compat import patch_torchvision
from psfr.utils.errors import UserError, run_main

SEED = 0
FIXTURES = Path(__file__).parent / "fixtures"

# Arguments of this project's networks; each file's metadata holds them.
FPN_CONFIG = {
    "image_size": 64,
    "min_feature_size": 4,
    "base_channels": 8,
    "min_channels": 4,
    "max_channels": 16,
    "body_blocks": 10,
    "labels": NUM_CLASSES,
}
GENERATOR_CONFIG = {"image_size": 64, "constant_size": 16, "min_channels": 4, "max_channels": 16}
DISCRIMINATOR_CONFIG = {"scales": 3, "layers": 4, "base_channels": 2, "input_channels": 3 + NUM_CLASSES}


def import_authors_module(checkout: Path, name: str) -> ModuleType:
    """Import `models.<name>` of the authors' repository.

    Raises:
        UserError: the folder does not contain it.
    """
    if not (checkout / "models" / f"{name}.py").is_file():
        hint = "clone https://github.com/chaofengc/PSFRGAN and pass its folder"
        raise UserError(f"{checkout}: models/{name}.py is missing: {hint}")
    patch_torchvision()
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    return importlib.import_module(f"models.{name}")


def random_image(batch: int, size: int) -> Tensor:
    """Return uniform noise in [-1, 1], float32 (batch, 3, size, size)."""
    return torch.rand(batch, 3, size, size) * 2 - 1


def random_labels(batch: int, size: int, cell: int = 8) -> Tensor:
    """Return a parsing map, int64 (batch, size, size), with a random label in each cell of `cell` x `cell` pixels."""
    cells = torch.randint(0, NUM_CLASSES, (batch, size // cell, size // cell))
    return cells.repeat_interleave(cell, 1).repeat_interleave(cell, 2)


def one_hot(labels: Tensor) -> Tensor:
    """Return the one-hot planes, float32 (B, 19, H, W), of a parsing map (B, H, W)."""
    return F.one_hot(labels, NUM_CLASSES).permute(0, 3, 1, 2).float()


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    return {f"weights/{name}": value.clone() for name, value in network.state_dict().items()}


@torch.no_grad()
def converge_spectral_norm(network: nn.Module, *inputs: Tensor) -> None:
    """Improve the stored singular vectors by forward passes in training mode, then set evaluation mode."""
    network.train()
    for _ in range(10):
        network(*inputs)
    network.eval()


@torch.no_grad()
def record_fpn(checkout: Path) -> dict[str, Tensor]:
    """Return weights, input and outputs of the face parsing network in evaluation mode."""
    networks = import_authors_module(checkout, "networks")
    config = FPN_CONFIG
    network = networks.ParseNet(
        in_size=config["image_size"],
        out_size=config["image_size"],
        min_feat_size=config["min_feature_size"],
        base_ch=config["base_channels"],
        parsing_ch=config["labels"],
        res_depth=config["body_blocks"],
        relu_type="LeakyReLU",
        norm_type="bn",
        ch_range=[config["min_channels"], config["max_channels"]],
    ).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics and parameters as after training
            assert module.running_mean is not None and module.running_var is not None
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.2)
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    image = random_image(2, config["image_size"])
    mask_logits, restored = network(image)
    return {"image": image, "mask_logits": mask_logits, "restored": restored, **weights_of(network)}


@torch.no_grad()
def record_generator(checkout: Path) -> dict[str, Tensor]:
    """Return weights, inputs and output of the generator in evaluation mode."""
    networks = import_authors_module(checkout, "networks")
    psfrnet = import_authors_module(checkout, "psfrnet")
    config = GENERATOR_CONFIG
    network = psfrnet.PSFRGenerator(
        3,
        3,
        in_size=config["image_size"],
        out_size=config["image_size"],
        min_feat_size=config["constant_size"],
        parse_ch=NUM_CLASSES,
        relu_type="LeakyReLU",
        ch_range=[config["min_channels"], config["max_channels"]],
        norm_type="spade",
    )
    networks.apply_norm(network, "spectral_norm")
    image, labels = random_image(2, config["image_size"]), random_labels(2, config["image_size"])
    converge_spectral_norm(network, image, one_hot(labels))
    restored = network(image, one_hot(labels))
    return {"image": image, "labels": labels, "restored": restored, **weights_of(network)}


def record_discriminator(checkout: Path) -> dict[str, Tensor]:
    """Return weights and inputs of the discriminators, features and scores of the real image, and the losses."""
    networks, loss = (import_authors_module(checkout, name) for name in ("networks", "loss"))
    config, size = DISCRIMINATOR_CONFIG, 192  # the smallest size for three scales of four layers
    network = networks.MultiScaleDiscriminator(
        config["input_channels"], config["base_channels"], config["layers"], norm_type="in", num_D=config["scales"]
    )
    networks.apply_norm(network, "spectral_norm")
    networks.init_weights(network, init_type="normal", init_gain=0.02)
    high, restored, labels = random_image(1, size), random_image(1, size), random_labels(1, size)
    restored.requires_grad_()
    planes = one_hot(labels)
    converge_spectral_norm(network, torch.cat([high, planes], 1))
    real = network(torch.cat([high, planes], 1), return_feat=True)
    fake = network(torch.cat([restored, planes], 1), return_feat=True)

    gan_loss, fm_loss = loss.GANLoss("hinge"), loss.FMLoss()
    fm = gen = disc = torch.zeros(())
    for (real_score, real_features), (fake_score, fake_features) in zip(real, fake, strict=True):
        fm = fm + fm_loss(fake_features, real_features) / config["scales"]
        gen = gen + gan_loss(fake_score, True, for_discriminator=False) / config["scales"]
        disc = disc + 0.5 * (gan_loss(fake_score, False) + gan_loss(real_score, True)) / config["scales"]
    pix = F.l1_loss(restored, high)
    (grad,) = torch.autograd.grad(10 * fm + gen + 10 * pix, restored)

    tensors = {
        "high": high,
        "restored": restored,
        "labels": labels,
        "feature_matching_loss": fm,
        "generator_loss": gen,
        "discriminator_loss": disc,
        "pixel_loss": pix,
        "gradient_of_10fm_plus_gen_plus_10pix_wrt_restored": grad,
        **weights_of(network),
    }
    for scale, (score, features) in enumerate(real):
        tensors[f"real/{scale}/score"] = score
        for layer, feature in enumerate(features):
            tensors[f"real/{scale}/feature/{layer}"] = feature
    return tensors


def record_style_loss(checkout: Path) -> dict[str, Tensor]:
    """Return random features, the semantic-aware style loss of them and its gradients. VGG itself takes no part."""
    shapes = [(2, 16, 32, 32), (2, 32, 16, 16), (2, 32, 8, 8)]
    restored = [torch.randn(shape, requires_grad=True) for shape in shapes]
    high = [torch.randn(shape) for shape in shapes]
    labels = random_labels(2, 128)
    style_loss = import_authors_module(checkout, "loss").RegionStyleLoss()
    unused = [torch.zeros(0)] * 2  # the first two of VGG's five feature maps
    value = style_loss(unused + restored, unused + high, one_hot(labels))
    tensors = {"labels": labels, "style_loss": value}
    for i, grad in enumerate(torch.autograd.grad(value, restored)):
        tensors |= {f"restored_feature/{i}": restored[i], f"high_feature/{i}": high[i], f"gradient/{i}": grad}
    return tensors


RECORDINGS = {
    "fpn": (record_fpn, FPN_CONFIG),
    "generator": (record_generator, GENERATOR_CONFIG),
    "discriminator": (record_discriminator, DISCRIMINATOR_CONFIG),
    "style_loss": (record_style_loss, None),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.record_fixtures", description="Record the parity fixtures from the authors' code."
    )
    parser.add_argument("checkout", type=Path, help="a clone of https://github.com/chaofengc/PSFRGAN")
    parser.add_argument(
        "--out", type=Path, default=FIXTURES, help="folder of the files to write (default: %(default)s)"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, (record, config) in RECORDINGS.items():
        torch.manual_seed(SEED)
        tensors = {key: value.detach().contiguous() for key, value in record(args.checkout.resolve()).items()}
        metadata = None if config is None else {key: str(value) for key, value in config.items()}
        path = args.out / f"{name}.safetensors"
        save_file(tensors, path, metadata)
        print(f"{path}: written")


if __name__ == "__main__":
    run_main(main)
