"""Networks on disk: safetensors of our own, and the authors' checkpoints."""

import importlib
import json
import re
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from psfr.utils.errors import InputError, quoted, shortened
from psfr.utils.files import replacing

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

# Least and most of a network's sizes: pixels a side and channels, unless they are named here.
_BOUNDS = (1, 2**13)
_BOUNDS_OF = {
    "body_blocks": (1, 64),
    "scales": (1, 8),
    "layers": (1, 8),
    "labels": (19, 19),
    "input_channels": (22, 22),
}

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
        InputError: keys are missing, unknown, or of other sizes; values are no numbers.
    """
    network_class = getattr(importlib.import_module(f"psfr.networks.{kind}"), _CLASSES[kind])
    network = _planned(network_class, sizes, f"the published {kind}")
    ours = {_published(kind, name): name for name in network.state_dict()}
    names = {name: name.removeprefix("module.") for name in state_dict}
    tensors = {ours.get(names[name], names[name]): value for name, value in state_dict.items()}
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
        raise InputError(
            f"{path}: holds a {found}, the authors have no such network: name a parsing network, a generator or a discriminator"
        )
    network = load(path, getattr(importlib.import_module(f"psfr.networks.{kind}"), found))
    with replacing(out) as temporary:
        torch.save(to_published(kind, network), temporary)


def save(path: Path, network: nn.Module, **sizes: int) -> None:
    """Write a network's weights, with its class and sizes, as safetensors; the same weights give the same bytes."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    with replacing(path) as temporary:
        save_file(
            tensors,
            temporary,
            {"network": json.dumps({"class": type(network).__name__, "sizes": sizes}, sort_keys=True)},
        )


def load(path: Path, network_class: type[Network]) -> Network:
    """Read a network that `save` wrote, in evaluation mode.

    Raises:
        InputError: no such file, damaged, of another class, or not matching its own sizes.
    """
    found, sizes, tensors = _read(path)
    if found != network_class.__name__:
        raise InputError(f"{path}: holds a {found}, a {network_class.__name__} is needed: name another file")
    return _filled(_planned(network_class, sizes, str(path)), tensors, sizes, str(path))


def _read(path: Path) -> tuple[str, dict[str, int], dict[str, Tensor]]:
    """Class, sizes and weights of what `save` wrote."""
    if not Path(path).is_file():
        raise InputError(f"{path}: no such checkpoint: train it with `dvc repro`, or fetch it with `dvc pull`")
    try:
        with safe_open(path, "pt") as file:
            described = json.loads((file.metadata() or {})["network"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        found, sizes = described["class"], described["sizes"]
        if not (isinstance(found, str) and isinstance(sizes, dict)):
            raise TypeError("no class and sizes")
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: not a checkpoint of this project ({shortened(error)}): make it again with `dvc repro`"
        ) from None
    return shortened(found, 40), sizes, tensors


def _planned(network_class: type[Network], sizes: dict, source: str) -> Network:
    """The network without memory for its weights: sizes from outside may promise any amount."""
    try:
        sizes = {name: _size(name, value) for name, value in sizes.items()}
        with torch.device("meta"):
            return network_class(**sizes)
    except (TypeError, ValueError) as error:
        mend = "take the sizes it was trained with"
        raise InputError(
            f"{source}: sizes that make no {network_class.__name__} ({shortened(error)}): {mend}"
        ) from None


def _size(name: str, value: int | str) -> int:
    size = int(value) if isinstance(value, int | str) else None
    least, most = _BOUNDS_OF.get(name, _BOUNDS)
    if size is None or not least <= size <= most:
        raise ValueError(f"{shortened(name, 40)} is {quoted(value)}, not {least} to {most}")
    return size


def _filled(network: Network, tensors: dict[str, Tensor], sizes: dict, source: str) -> Network:
    """Give a planned network its weights, as float32 on the CPU, once all of them are known to fit."""
    wanted = network.state_dict()
    problems = [f"{name} is missing" for name in wanted.keys() - tensors.keys()]
    problems += [f"{shortened(name, 80)} is unknown" for name in tensors.keys() - wanted.keys()]
    problems += filter(None, (_misfit(name, tensors[name], wanted[name]) for name in wanted.keys() & tensors.keys()))
    if problems:
        kind, first = type(network).__name__, "; ".join(sorted(problems)[:3])
        raise InputError(
            f"{source}: {len(problems)} of its weights do not fit a {kind} of sizes {quoted(sizes)} ({first}): give the sizes it was trained with"
        )
    network.to_empty(device="cpu").load_state_dict(tensors)
    if bad := [name for name, value in network.state_dict().items() if not value.isfinite().all()]:
        raise InputError(
            f"{source}: {bad[0]} has values that are no numbers, as {len(bad) - 1} more: train again, or name another"
        )
    return network.eval()


def _misfit(name: str, value: Tensor, wanted: Tensor) -> str | None:
    if value.shape != wanted.shape:
        return f"{name} is {tuple(value.shape)}, not {tuple(wanted.shape)}"
    if value.is_floating_point() != wanted.is_floating_point() or value.is_complex():
        return f"{name} is {value.dtype}, not {wanted.dtype}"
    return None
