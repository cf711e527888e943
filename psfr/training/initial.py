"""Networks that a training starts from, instead of random weights."""

import inspect
from typing import TypeVar

from torch import nn

from psfr.compute import processes
from psfr.networks import serialization
from psfr.params import PUBLISHED
from psfr.pretrained import loader, network_files
from psfr.utils.errors import UserError
from psfr.utils.project import provide, workspace_path

PUBLISHED_FILES = {"fpn": network_files.PUBLISHED_FPN, "generator": network_files.PUBLISHED_GENERATOR}

NOT_SIZES = ("replicate_padding", "antialias")  # arguments that change how a network computes, but no weight's shape

Network = TypeVar("Network", bound=nn.Module)


def load_initial(kind: str, network_class: type[Network], init: str | None, config: dict[str, int]) -> Network | None:
    """Load the network that a training starts from.

    Args:
        kind: the group of parameters: "fpn", "generator" or "discriminator".
        network_class: the class of the network.
        init: the parameter `KIND.init`: "published", a checkpoint of this project (.safetensors), or one in the
            authors' format (.pth); None for random weights.
        config: the arguments of the network to train. Those of the checkpoint may differ in `NOT_SIZES`.

    Returns:
        The network in evaluation mode, float32 on the CPU; None for random weights.

    Raises:
        UserError: the checkpoint is missing or damaged, or has other sizes than the network to train.
    """
    if init is None:
        return None
    if init == PUBLISHED:
        path = loader.WEIGHTS_DIR / "published" / PUBLISHED_FILES[kind]
    else:
        path = workspace_path(init)
        if processes.get_rank() == 0:
            provide([path])
        processes.broadcast_from_rank_zero(None)  # the others wait for the file
    is_own = path.suffix == ".safetensors"
    published = _published_config(network_class)
    # The authors' format has no sizes: it is read with the published ones.
    sizes = published | (serialization.read_config(path) if is_own else {})
    changed = {name for name, size in config.items() if int(sizes[name]) != size}
    different = [f"{name} is {sizes[name]}, not {config[name]}" for name in config if name in changed - {*NOT_SIZES}]
    if different:
        problem = f"{path} has other sizes than the network of the parameters ({', '.join(different)})"
        raise UserError(f"{kind}.init: {problem}: change these parameters, or start from another checkpoint")
    if is_own:
        network = serialization.load(path, network_class)
    else:
        network = serialization.from_published(kind, loader.load(path))
        assert isinstance(network, network_class)
    if changed:
        weights = network.state_dict()
        network = network_class(**config).eval()
        network.load_state_dict(weights)
    return network


def _published_config(network_class: type[nn.Module]) -> dict[str, int]:
    """Return the published sizes of a network, which are the defaults of its arguments."""
    return {name: argument.default for name, argument in inspect.signature(network_class).parameters.items()}
