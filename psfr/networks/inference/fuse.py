"""Conversion of a network to its form for inference."""

from typing import overload

import torch

from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.generator import Generator
from psfr.networks.inference.fpn import FusedParsingNetwork
from psfr.networks.inference.generator import FusedGenerator


@overload
def fuse(network: FaceParsingNetwork, dtype: torch.dtype) -> FusedParsingNetwork: ...


@overload
def fuse(network: Generator, dtype: torch.dtype) -> FusedGenerator: ...


def fuse(network: FaceParsingNetwork | Generator, dtype: torch.dtype) -> FusedParsingNetwork | FusedGenerator:
    """Build the form of a network for inference, with fixed weights, on the network's device.

    The weights are copied: a later change of the network does not reach the fused form. Feature maps are channels-last
    in `dtype`, with and without autocast.

    Args:
        network: a parsing network or a generator; it is set to evaluation mode.
        dtype: dtype of the convolutions.
    """
    network.eval()
    with torch.no_grad():
        if isinstance(network, FaceParsingNetwork):
            return FusedParsingNetwork(network, dtype)
        return FusedGenerator(network, dtype)
