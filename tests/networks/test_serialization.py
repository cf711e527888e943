"""Checkpoints come back as they went, and what does not fit is refused in one line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import save_file

from psfr import params
from psfr.networks import serialization
from psfr.networks.discriminator import Discriminator
from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.generator import Generator
from psfr.utils.errors import InputError

SIZES = {"image_size": 32, "constant_size": 16, "min_channels": 4, "max_channels": 8}


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    network, path = Generator(**SIZES), tmp_path / "generator.safetensors"
    serialization.save(path, network, **SIZES)
    return network, path


def test_a_checkpoint_comes_back(saved):
    network, path = saved
    image, labels = torch.rand(1, 3, 32, 32), torch.randint(0, 19, (1, 32, 32))
    assert torch.equal(serialization.load(path, Generator)(image, labels), network(image, labels))


def test_the_same_weights_give_the_same_bytes(saved, tmp_path):
    network, path = saved
    serialization.save(tmp_path / "again.safetensors", network, **SIZES)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "no such checkpoint.*dvc"),
        (lambda path: path.write_bytes(path.read_bytes()[:1000]), "not a checkpoint of this project"),
        (lambda path: path.write_text("no tensors"), "not a checkpoint of this project"),
        (lambda path: save_file({"a": torch.zeros(1)}, path), "not a checkpoint of this project"),
        (
            lambda path: serialization.save(path, Discriminator(1, 1, 2), scales=1, layers=1, base_channels=2),
            "holds a Discriminator, a Generator",
        ),
        (
            lambda path: serialization.save(path, Generator(32, 16, 4, 16), **SIZES),
            "weights do not fit a Generator of sizes",
        ),
        (lambda path: serialization.save(path, Generator(**SIZES), **SIZES, colour=3), "sizes that make no Generator"),
    ],
)
def test_what_does_not_fit_is_refused(saved, damage, message):
    _, path = saved
    damage(path)
    with pytest.raises(InputError, match=message) as error:
        serialization.load(path, Generator)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "described"),
    [
        (Generator, {"class": "Generator", "sizes": {**SIZES, "max_channels": 2**40}}),
        (Generator, {"class": "Generator", "sizes": {**SIZES, "image_size": 8192, "min_channels": 8192, "max_channels": 8192}}),
        (Generator, {"class": "Generator", "sizes": {**SIZES, "constant_size": 0}}),
        (Generator, {"class": "Generator", "sizes": {**SIZES, "min_channels": -4}}),
        (Generator, {"class": "Generator", "sizes": {**SIZES, "min_channels": 4.5}}),
        (Generator, {"class": "Generator", "sizes": {**SIZES, "min_channels": {"a": [1]}}}),
        (Generator, {"class": "Generator", "sizes": {**SIZES, "x" * 10**6: 1}}),
        (Generator, {"class": "Generator", "sizes": [1, 2]}),
        (Generator, {"class": ["Generator"], "sizes": SIZES}),
        (Generator, {"class": "x\n" * 10**6, "sizes": SIZES}),
        (FaceParsingNetwork, {"class": "FaceParsingNetwork", "sizes": {"body_blocks": 10**9}}),
        (FaceParsingNetwork, {"class": "FaceParsingNetwork", "sizes": {"labels": 200}}),
        (Discriminator, {"class": "Discriminator", "sizes": {"scales": 8, "layers": 8, "base_channels": 8192}}),
        (Generator, "[" * 100_000),
        (Generator, '{"class": "Generator", "sizes": {"image_size": ' + "9" * 5000 + "}}"),
        (Generator, "null"),
    ],
)  # fmt: skip
def test_no_description_takes_memory_or_time(tmp_path, kind, described):
    path = tmp_path / "a.safetensors"
    save_file(
        {"a": torch.zeros(1)}, path, {"network": described if isinstance(described, str) else json.dumps(described)}
    )
    with pytest.raises(InputError) as caught:
        serialization.load(path, kind)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 800


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(3, dtype=torch.int32), "to_image.bias is torch.int32, not torch.float32"),
        (torch.zeros(3, dtype=torch.complex64), "to_image.bias is torch.complex64"),
        (torch.tensor([0, float("nan"), 0]), "to_image.bias has values that are no numbers"),
        (torch.tensor([0, float("inf"), 0]), "to_image.bias has values that are no numbers"),
    ],
)
def test_weights_that_are_no_numbers_are_refused(saved, value, message):
    network, path = saved
    with safe_open(path, "pt") as file:
        described = file.metadata()
    save_file(network.state_dict() | {"to_image.bias": value}, path, described)
    with pytest.raises(InputError, match=message):
        serialization.load(path, Generator)


@pytest.mark.parametrize(
    "name",
    [
        "body_blocks",
        "scales",
        "layers",
        "base_channels",
        "min_channels",
        "max_channels",
        "constant_size",
        "min_feature_size",
    ],
)
def test_what_the_parameters_allow_can_be_loaded(name):
    _, most = serialization._BOUNDS_OF.get(name, serialization._BOUNDS)
    groups = [group for group in (params.Fpn, params.Generator, params.Discriminator) if name in group.model_fields]
    assert groups
    for group in groups:
        values = yaml.safe_load(Path("params.yaml").read_text())[group.__name__.lower()]
        with pytest.raises(ValidationError, match=name):
            group.model_validate(values | {name: 2 * most})


def test_published_weights_of_other_sizes_are_refused():
    with pytest.raises(InputError, match="the published fpn.*is missing"):
        serialization.from_published(
            "fpn", {"encoder.0.conv2d.weight": torch.zeros(8, 3, 3, 3)}, image_size=64, base_channels=8
        )


def test_published_weights_of_half_precision_and_data_parallel():
    torch.manual_seed(0)
    ours = Discriminator(1, 1, 2)
    theirs = {}
    for name, value in ours.state_dict().items():
        name = name.replace("scales.", "D_pool.").replace("score.", "score_out.conv2d.")
        name = name.replace(".layers.0.", ".model.0.conv2d.").replace(".layers.1.", ".model.1.conv2d.")
        name = name.replace(".weight", ".weight_orig").replace(".u", ".weight_u").replace(".v", ".weight_v")
        theirs[f"module.{name}"] = value.half()
    found = serialization.from_published("discriminator", theirs, scales=1, layers=1, base_channels=2)
    for name, value in ours.state_dict().items():
        assert torch.equal(found.state_dict()[name], value.half().float()), name


@pytest.mark.parametrize("kind", ["fpn", "generator", "discriminator"])
def test_published_weights_go_out_as_they_came_in(kind):
    with safe_open(Path(__file__).parents[1] / f"fixtures/{kind}.safetensors", "pt") as file:
        weights = {
            key.removeprefix("weights/"): file.get_tensor(key) for key in file.keys() if key.startswith("weights/")
        }  # noqa: SIM118
        network = serialization.from_published(kind, weights, **file.metadata())
    back = serialization.to_published(kind, network)
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[name], weights[name]) for name in weights)


def test_export_writes_what_the_authors_tools_read(saved, tmp_path):
    network, path = saved
    out = tmp_path / "generator.pth"
    done = subprocess.run(
        [sys.executable, "-m", "psfr.checkpoints", "export", path, out], capture_output=True, text=True, check=True
    )
    assert str(out) in done.stdout
    weights = torch.load(out, weights_only=True)
    assert {"const_input", "head.0.weight_orig", "body.0.2.norm_0.conv1.0.weight_u", "img_out.bias"} <= weights.keys()
    again = serialization.from_published("generator", weights, **SIZES)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in again.state_dict().items())


def test_export_of_no_checkpoint_is_one_line(tmp_path):
    (tmp_path / "a.safetensors").write_text("no tensors")
    command = [sys.executable, "-m", "psfr.checkpoints", "export", tmp_path / "a.safetensors", tmp_path / "b.pth"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "not a checkpoint of this project" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "b.pth").exists()
