"""Checkpoints of networks: this project's safetensors files and the authors' format."""

import importlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from psfr.networks import NUM_CLASSES
from psfr.utils.errors import UserError, join_first, safe_repr, truncate
from psfr.utils.files import atomic_write

Compute = Mapping[str, str | int]  # "device", "precision" and "processes"

# The modules psfr.networks.<key> are imported by name, so that a stage of one network does not depend on the others.
_CLASSES = {"fpn": "FaceParsingNetwork", "generator": "Generator", "discriminator": "Discriminator"}

# Regular expressions of this project's keys and their replacements in the authors' keys, applied in order.
_Replacement = str | Callable[[re.Match[str]], str]
_PUBLISHED_KEYS: dict[str, list[tuple[str, _Replacement]]] = {
    "fpn": [
        (r"\.conv\.", ".conv2d."),
        (r"\.norm\.", ".norm.norm."),
        (r"\.shortcut\.", ".shortcut_func."),
        (r"^to_image", "out_img_conv"),
        (r"^to_labels", "out_mask_conv"),
    ],
    "generator": [
        (r"^constant", "const_input"),
        (r"^to_image", "img_out"),
        (r"^stages\.0\.conv\.", "head.0."),
        (r"^stages\.0\.style\.", "head.1."),
        (r"^stages\.(\d+)\.conv\.", lambda match: f"body.{int(match[1]) - 1}.1."),
        (r"^stages\.(\d+)\.style\.", lambda match: f"body.{int(match[1]) - 1}.2."),
        (r"\.(norm|conv)([01])\.", r".\1_\2."),
        (r"\.hidden\.", ".conv1.0."),
        (r"\.(gamma|beta)\.", r".\1_conv."),
    ],
    "discriminator": [
        (r"^scales\.", "D_pool."),
        (r"\.layers\.(\d+)\.", r".model.\1.conv2d."),
        (r"\.score\.", ".score_out.conv2d."),
    ],
}
_SPECTRAL_NORM_KEYS: list[tuple[str, _Replacement]] = [(r"\.weight$", ".weight_orig"), (r"\.([uv])$", r".weight_\1")]

# Smallest and largest allowed value of a network's arguments, which may come from an untrusted file.
_DEFAULT_LIMITS = (1, 2**13)
_LIMITS = {
    "body_blocks": (1, 64),
    "scales": (1, 8),
    "layers": (1, 8),
    "labels": (NUM_CLASSES, NUM_CLASSES),
    "input_channels": (3 + NUM_CLASSES, 3 + NUM_CLASSES),
    "replicate_padding": (0, 1),
    "antialias": (0, 1),
}

Network = TypeVar("Network", bound=nn.Module)


def from_published(kind: str, state_dict: dict[str, Tensor], **config: int) -> nn.Module:
    """Build a network from weights in the authors' format.

    Args:
        kind: "fpn", "generator" or "discriminator".
        state_dict: weights under the authors' keys, with or without the prefix of DataParallel, of any floating point
            dtype and on any device.
        config: arguments of the network (image_size, min_channels, ...); the defaults are the published sizes.

    Returns:
        The network in evaluation mode, float32 on the CPU.

    Raises:
        UserError: weights are missing, unknown, of another shape, or not finite.
    """
    source = f"the published {kind}"
    network = _build_on_meta(_network_class(kind), config, source)
    own_keys = {_to_published_key(kind, key): key for key in network.state_dict()}
    tensors = {}
    for name, value in state_dict.items():
        key = name.removeprefix("module.")
        tensors[own_keys.get(key, key)] = value
    return _load_into(network, tensors, config, source)


def to_published(kind: str, network: nn.Module) -> dict[str, Tensor]:
    """Return a network's weights under the authors' keys; the inverse of `from_published`."""
    return {_to_published_key(kind, key): value for key, value in _cpu_state_dict(network).items()}


def _network_class(kind: str) -> type[nn.Module]:
    return getattr(importlib.import_module(f"psfr.networks.{kind}"), _CLASSES[kind])


def _to_published_key(kind: str, key: str) -> str:
    replacements = _PUBLISHED_KEYS[kind]
    if kind != "fpn":  # the parsing network has no spectral norm
        replacements = replacements + _SPECTRAL_NORM_KEYS
    for pattern, replacement in replacements:
        key = re.sub(pattern, replacement, key)
    return key


def _cpu_state_dict(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}


def export(path: Path, out: Path) -> None:
    """Convert a checkpoint of `save` to a .pth file in the authors' format, for their tools.

    Args:
        path: a .safetensors file that `save` wrote.
        out: the .pth file to write.

    Raises:
        UserError: as in `load`, or the authors' code has no such network.
    """
    class_name, _, _ = _read(path)
    kinds = [kind for kind, name in _CLASSES.items() if name == class_name]
    if not kinds:
        hint = "name the checkpoint of a parsing network, a generator or a discriminator"
        raise UserError(f"{path}: contains a {class_name}, which the authors' code does not have: {hint}")
    network = load(path, _network_class(kinds[0]))
    for name in ("replicate_padding", "antialias"):
        if getattr(network, name, False):
            problem = f"generator.{name} is true, which the authors' code does not have"
            raise UserError(f"{path}: {problem}: train a generator with it false")
    with atomic_write(out) as temporary:
        torch.save(to_published(kinds[0], network), temporary)


def save(path: Path, network: nn.Module, compute: Compute | None = None, **config: int) -> None:
    """Write a network's weights, its class name and its config as safetensors. Equal arguments give equal bytes.

    Args:
        path: the .safetensors file to write.
        network: the network, on any device.
        compute: what it was trained on, the result of `psfr.compute.devices.report_compute`.
        config: the arguments that the network was built with.
    """
    description = {"class": type(network).__name__, "sizes": config} | ({"compute": compute} if compute else {})
    with atomic_write(path) as temporary:
        save_file(_cpu_state_dict(network), temporary, {"network": json.dumps(description, sort_keys=True)})


def load(path: Path, network_class: type[Network]) -> Network:
    """Read a network that `save` wrote.

    Returns:
        The network in evaluation mode, float32 on the CPU.

    Raises:
        UserError: the file is missing or damaged, or contains another class or weights that do not match its config.
    """
    class_name, config, tensors = _read(path)
    if class_name != network_class.__name__:
        problem = f"contains a {class_name}, but a {network_class.__name__} is expected"
        raise UserError(f"{path}: {problem}: name another file")
    return _load_into(_build_on_meta(network_class, config, str(path)), tensors, config, str(path))


def read_config(path: Path) -> dict[str, int]:
    """Return the arguments that the network of a checkpoint of `save` was built with, as its file has them.

    Raises:
        UserError: as in `load`.
    """
    return _read(path)[1]


def _read(path: Path) -> tuple[str, dict[str, int], dict[str, Tensor]]:
    """Return class name, config and weights of a checkpoint."""
    if not Path(path).is_file():
        raise UserError(f"{path}: no such checkpoint: train it with `dvc repro`, or download it with `dvc pull`")
    try:
        with safe_open(path, "pt") as file:
            description = json.loads((file.metadata() or {})["network"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (`file` is no mapping)
        class_name, config = description["class"], description["sizes"]
        if not (isinstance(class_name, str) and isinstance(config, dict)):
            raise TypeError("class name or sizes are missing")
        if "compute" in description:
            _check_compute(description["compute"])
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        problem = f"not a checkpoint of this project ({truncate(error)})"
        raise UserError(f"{path}: {problem}: create it again with `dvc repro`") from None
    return truncate(class_name, 40), config, tensors


def _check_compute(compute: object) -> None:
    """Raise a TypeError unless `compute` is what `save` writes; nothing but its form matters for the network."""
    types = {name: type(value) for name, value in compute.items()} if isinstance(compute, dict) else {}
    if types != {"device": str, "precision": str, "processes": int}:
        raise TypeError("compute is not device, precision and processes")


def _build_on_meta(network_class: type[Network], config: dict, source: str) -> Network:
    """Build a network without allocating its weights: a damaged config may ask for any amount of memory."""
    try:
        config = {name: _checked_size(name, value) for name, value in config.items()}
        with torch.device("meta"):
            return network_class(**config)
    except (TypeError, ValueError) as error:
        problem = f"invalid sizes of a {network_class.__name__} ({truncate(error)})"
        raise UserError(f"{source}: {problem}: use the sizes that it was trained with") from None


def _checked_size(name: str, value: int | str) -> int:
    size = int(value) if isinstance(value, int | str) else None
    min_size, max_size = _LIMITS.get(name, _DEFAULT_LIMITS)
    if size is None or not min_size <= size <= max_size:
        raise ValueError(f"{truncate(name, 40)} is {safe_repr(value)}, not {min_size} to {max_size}")
    return size


def _load_into(network: Network, tensors: dict[str, Tensor], config: dict, source: str) -> Network:
    """Load weights into a network on the meta device, as float32 on the CPU, after checking that all of them match."""
    expected = network.state_dict()
    problems = [f"{key} is missing" for key in expected.keys() - tensors.keys()]
    problems += [f"{truncate(key, 80)} is unknown" for key in tensors.keys() - expected.keys()]
    for key in expected.keys() & tensors.keys():
        if mismatch := _mismatch(key, tensors[key], expected[key]):
            problems.append(mismatch)
    if problems:
        problem = (
            f"{len(problems)} of its weights do not match a {type(network).__name__} of sizes {safe_repr(config)} "
            f"({join_first(sorted(problems), limit=3)})"
        )
        raise UserError(f"{source}: {problem}: use the sizes that it was trained with")
    # Not to_empty(): PyTorch imports its compiler, which takes a second, to make a tensor like one on the meta device.
    tensors = {key: tensor.to(expected[key].dtype, copy=True) for key, tensor in tensors.items()}
    network.load_state_dict(tensors, assign=True)
    not_finite = [key for key, value in network.state_dict().items() if not value.isfinite().all()]
    if not_finite:
        problem = f"{not_finite[0]} has values that are not finite"
        if len(not_finite) > 1:
            problem += f", like {len(not_finite) - 1} other weights"
        raise UserError(f"{source}: {problem}: train again, or name another file")
    return network.eval()


def _mismatch(key: str, value: Tensor, expected: Tensor) -> str | None:
    if value.shape != expected.shape:
        return f"{key} is {tuple(value.shape)}, not {tuple(expected.shape)}"
    if value.is_floating_point() != expected.is_floating_point() or value.is_complex():
        return f"{key} is {value.dtype}, not {expected.dtype}"
    return None
