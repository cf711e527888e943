"""Small networks, random tensors and errors, for the tests of the networks."""

import torch
from torch import Tensor

from psfr.networks.discriminator import Discriminator
from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.generator import Generator

GENERATORS = ("generator", "generator (replicate)", "generator (antialias)", "generator (replicate, antialias)")


def max_error(actual: Tensor, expected: Tensor) -> float:
    """Return the largest absolute difference."""
    return (actual - expected).abs().max().item()


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Return the norm of the difference, relative to that of the expected value."""
    return ((actual - expected).norm() / expected.norm()).item()


def randn64(*shape: int, requires_grad: bool = False) -> Tensor:
    """Return a random float64 tensor."""
    return torch.randn(*shape, dtype=torch.float64).requires_grad_(requires_grad)


def flatten(output) -> Tensor:
    """Return all tensors of a nested output as one vector."""
    if isinstance(output, Tensor):
        return output.flatten()
    return torch.cat([flatten(part) for part in output])


def small_network(name: str) -> tuple[torch.nn.Module, tuple[Tensor, ...]]:
    """Return a small network in float64 and its inputs.

    Args:
        name: one of `GENERATORS`, by the arguments that are true, "discriminator" or "fpn".
    """
    torch.manual_seed(0)
    image, labels = torch.rand(2, 3, 32, 32, dtype=torch.float64) * 2 - 1, torch.randint(0, 19, (2, 32, 32))
    if name.startswith("generator"):
        options = {"replicate_padding": "replicate" in name, "antialias": "antialias" in name}
        return Generator(32, 8, 4, 8, **options).double(), (image, labels)
    if name == "discriminator":
        return Discriminator(2, 2, 4).double(), (image, labels)
    return FaceParsingNetwork(32, 8, 4, 4, 8, 2).double(), (image,)
