"""Networks on disk: safetensors of our own, and the authors' checkpoints.

python -m psfr.checkpoints export models/psfrgan/generator.safetensors generator.pth
"""

import argparse
import importlib
import json
import re
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from psfr.errors import InputError, run
from psfr.files import replacing

# Imported by name when one is published: a stage that uses one network does not depend on the others' modules.
_CLASSES = {"fpn": "FaceParsingNetwork", "generator": "Generator", "discriminator": "Discriminator"}

# Our key names, each pattern with the published name for it, applied one after the other.
_PUBLISHED = {
    "fpn": [(r"\.conv\.", ".conv2d."), (r"\.norm\.", ".norm.norm."), (r"\.shortcut\.", ".shortcut_func."), (r"^to_image", "out_img_conv"), (r"^to_labels", "out_mask_conv")],
    "generator": [
        (r"^constant", "const_input"),
        (r"^to_image", "img_out"),
        (r"^stages\.0\.conv\.", "head.0."),
        (r"^stages\.0\.style\.", "head.1."),
        (r"^stages\.(\d+)\.conv\.", lambda m: f"body.{int(m[1]) - 1}.1."),
        (r"^stages\.(\d+)\.style\.", lambda m: f"body.{int(m[1]) - 1}.2."),
        (r"\.(norm|conv)([01])\.", r".\1_\2."),
        (r"\.hidden\.", ".conv1.0."),
        (r"\.(gamma|beta)\.", r".\1_conv."),
    ],
    "discriminator": [(r"^scales\.", "D_pool."), (r"\.layers\.(\d+)\.", r".model.\1.conv2d."), (r"\.score\.", ".score_out.conv2d.")],
}  # fmt: skip
_SPECTRAL = [(r"\.weight$", ".weight_orig"), (r"\.([uv])$", r".weight_\1")]

Network = TypeVar("Network", bound=nn.Module)


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
    network = _built(getattr(importlib.import_module(f"psfr.networks.{kind}"), _CLASSES[kind]), sizes, f"the published {kind}")
    ours = {_published(kind, name): name for name in network.state_dict()}
    tensors = {}
    for name, value in state_dict.items():
        name, value = name.removeprefix("module."), value.detach().cpu()
        tensors[ours.get(name, name)] = value.float() if value.is_floating_point() else value
    return _filled(network, tensors, sizes, f"the published {kind}")


def to_published(kind: str, network: nn.Module) -> dict[str, Tensor]:
    """A network's weights under the authors' key names, as `from_published` takes them."""
    return {_published(kind, name): value.detach().cpu().contiguous() for name, value in network.state_dict().items()}


def _published(kind: str, name: str) -> str:
    for pattern, replacement in _PUBLISHED[kind] + ([] if kind == "fpn" else _SPECTRAL):
        name = re.sub(pattern, replacement, name)
    return name


def export(path: Path, out: Path) -> None:
    """Write a checkpoint that `save` wrote as a .pth under the authors' key names, for their tools.

    Raises:
        InputError: as `load`.
    """
    found, _, _ = _read(path)
    kind = next((kind for kind, name in _CLASSES.items() if name == found), None)
    if kind is None:
        raise InputError(f"{path}: holds a {found}, the authors have no such network: name a parsing network, a generator or a discriminator")
    network = load(path, getattr(importlib.import_module(f"psfr.networks.{kind}"), found))
    with replacing(out) as temporary:
        torch.save(to_published(kind, network), temporary)


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
    found, sizes, tensors = _read(path)
    if found != network_class.__name__:
        raise InputError(f"{path}: holds a {found}, a {network_class.__name__} is needed: name another file")
    return _filled(_built(network_class, sizes, str(path)), tensors, sizes, str(path))


def _read(path: Path) -> tuple[str, dict[str, int], dict[str, Tensor]]:
    """Class, sizes and weights of what `save` wrote."""
    if not Path(path).is_file():
        raise InputError(f"{path}: no such checkpoint: train it with `dvc repro`, or fetch it with `dvc pull`")
    try:
        with safe_open(path, "pt") as file:
            described = json.loads((file.metadata() or {})["network"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        return described["class"], described["sizes"], tensors
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not a checkpoint of this project ({error}): make it again with `dvc repro`") from None


def _built(network_class: type[Network], sizes: dict, source: str) -> Network:
    try:
        return network_class(**{name: int(value) for name, value in sizes.items()})
    except (TypeError, ValueError) as error:
        raise InputError(f"{source}: sizes that make no {network_class.__name__} ({error}): take the sizes it was trained with") from None


def _filled(network: Network, tensors: dict[str, Tensor], sizes: dict, source: str) -> Network:
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
        raise InputError(f"{source}: {len(problems)} of its weights do not fit a {type(network).__name__} of sizes {sizes} ({first}): give the sizes it was trained with")
    network.load_state_dict(tensors)
    return network.eval()


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m psfr.checkpoints", description="Networks on disk.")
    commands = parser.add_subparsers(required=True)
    exporting = commands.add_parser("export", help="write a checkpoint of this project under the authors' key names, for their tools")
    exporting.add_argument("checkpoint", type=Path, help="a .safetensors file of models/")
    exporting.add_argument("out", type=Path, help="the .pth file to write")
    options = parser.parse_args()
    export(options.checkpoint, options.out)
    print(f"{options.out}: written")


if __name__ == "__main__":
    run(_main)
