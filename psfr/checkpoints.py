"""Networks on disk: safetensors of our own, and the authors' checkpoints."""

import importlib
import json
import re
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from psfr.errors import InputError
from psfr.files import replacing

# Imported by name when one is published: a stage that uses one network does not depend on the others' modules.
_CLASSES = {"fpn": "FaceParsingNetwork", "generator": "Generator", "discriminator": "Discriminator"}

# The published key names, each pattern with our name for it, applied one after the other.
_OF_PUBLISHED = {
    "fpn": [(r"\.conv2d\.", ".conv."), (r"\.norm\.norm\.", ".norm."), (r"\.shortcut_func\.", ".shortcut."), (r"^out_img_conv", "to_image"), (r"^out_mask_conv", "to_labels")],
    "generator": [
        (r"^const_input", "constant"),
        (r"^img_out", "to_image"),
        (r"^head\.0\.", "stages.0.conv."),
        (r"^head\.1\.", "stages.0.style."),
        (r"^body\.(\d+)\.1\.", lambda m: f"stages.{int(m[1]) + 1}.conv."),
        (r"^body\.(\d+)\.2\.", lambda m: f"stages.{int(m[1]) + 1}.style."),
        (r"\.(norm|conv)_([01])\.", r".\1\2."),
        (r"\.conv1\.0\.", ".hidden."),
        (r"\.(gamma|beta)_conv\.", r".\1."),
    ],
    "discriminator": [(r"^D_pool\.", "scales."), (r"\.model\.(\d+)\.conv2d\.", r".layers.\1."), (r"\.score_out\.conv2d\.", ".score.")],
}  # fmt: skip
Network = TypeVar("Network", bound=nn.Module)

_SPECTRAL = [(r"\.weight_orig$", ".weight"), (r"\.weight_([uv])$", r".\1")]


def from_published(kind: str, state_dict: dict[str, Tensor], **sizes: int) -> nn.Module:
    """Build a network and give it weights under the authors' key names.

    Args:
        kind: "fpn", "generator" or "discriminator".
        state_dict: the authors' keys, with or without the prefix of DataParallel, of any precision and device.
        sizes: the network's arguments (image_size, min_channels, ...); those left out are the published ones.

    Returns:
        The network in evaluation mode, float32 on the CPU.

    Raises:
        InputError: keys are missing, unknown, or of other sizes.
    """
    ours = {}
    for name, value in state_dict.items():
        name = name.removeprefix("module.")
        for pattern, replacement in _OF_PUBLISHED[kind] + _SPECTRAL:
            name = re.sub(pattern, replacement, name)
        ours[name] = value.detach().cpu().float() if value.is_floating_point() else value.detach().cpu()
    network_class = getattr(importlib.import_module(f"psfr.networks.{kind}"), _CLASSES[kind])
    return _filled(network_class, ours, sizes, f"the published {kind}")


def save(path: Path, network: nn.Module, **sizes: int) -> None:
    """Write a network's weights, with its class and sizes, as safetensors; the same weights give the same bytes."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, {"network": json.dumps({"class": type(network).__name__, "sizes": sizes}, sort_keys=True)})


def load(path: Path, network_class: type[Network]) -> Network:
    """Read a network that `save` wrote, in evaluation mode.

    Raises:
        InputError: no such file, damaged, of another class, or not matching its own sizes.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such checkpoint: train it with `dvc repro`, or fetch it with `dvc pull`")
    try:
        with safe_open(path, "pt") as file:
            described = json.loads((file.metadata() or {})["network"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        found, sizes = described["class"], described["sizes"]
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not a checkpoint of this project ({error}): make it again with `dvc repro`") from None
    if found != network_class.__name__:
        raise InputError(f"{path}: holds a {found}, a {network_class.__name__} is needed: name another file")
    return _filled(network_class, tensors, sizes, str(path))


def _filled(network_class: type[Network], tensors: dict[str, Tensor], sizes: dict, source: str) -> Network:
    try:
        network = network_class(**{name: int(value) for name, value in sizes.items()})
    except (TypeError, ValueError) as error:
        raise InputError(f"{source}: sizes that make no {network_class.__name__} ({error}): take the sizes it was trained with") from None
    wanted = network.state_dict()
    problems = [f"{name} is missing" for name in wanted.keys() - tensors.keys()]
    problems += [f"{name} is unknown" for name in tensors.keys() - wanted.keys()]
    problems += [
        f"{name} is {tuple(tensors[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in wanted.keys() & tensors.keys()
        if tensors[name].shape != wanted[name].shape
    ]
    if problems:
        first = "; ".join(sorted(problems)[:3])
        raise InputError(f"{source}: {len(problems)} of its weights do not fit a {network_class.__name__} of sizes {sizes} ({first}): give the sizes it was trained with")
    network.load_state_dict(tensors)
    return network.eval()
