"""Checkpoints can be read back, and files that do not match are refused with a one-line error."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from psfr import params
from psfr.networks import serialization
from psfr.networks.discriminator import Discriminator
from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.generator import Generator
from psfr.utils.errors import UserError
from tests.helpers.running import run_module

CONFIG = {"image_size": 32, "constant_size": 16, "min_channels": 4, "max_channels": 8}


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    network, path = Generator(**CONFIG), tmp_path / "generator.safetensors"
    serialization.save(path, network, **CONFIG)
    return network, path


def test_load_returns_what_save_wrote(saved):
    network, path = saved
    image, labels = torch.rand(1, 3, 32, 32), torch.randint(0, 19, (1, 32, 32))
    assert torch.equal(serialization.load(path, Generator)(image, labels), network(image, labels))


COMPUTE = {"device": "NVIDIA H100 (cuda)", "precision": "bf16", "processes": 8}


def test_what_a_network_was_trained_on_is_in_its_checkpoint(saved, tmp_path):
    network, path = saved
    described = tmp_path / "described.safetensors"
    serialization.save(described, network, COMPUTE, **CONFIG)
    with safe_open(described, "pt") as file:
        assert json.loads(file.metadata()["network"])["compute"] == COMPUTE
    loaded, expected = (serialization.load(file, Generator).state_dict() for file in (described, path))
    assert all(torch.equal(loaded[key], expected[key]) for key in expected)


@pytest.mark.parametrize(
    "compute",
    [
        None,
        [],
        {},
        "cpu",
        COMPUTE | {"device": 1},
        COMPUTE | {"processes": "8"},
        COMPUTE | {"host": "a"},
        {"x" * 10**6: 1},
    ],
)
def test_invalid_descriptions_of_the_compute_are_refused(saved, compute):
    network, path = saved
    description = {"class": "Generator", "sizes": CONFIG, "compute": compute}
    save_file(network.state_dict(), path, {"network": json.dumps(description)})
    with pytest.raises(UserError, match="not a checkpoint of this project") as error:
        serialization.load(path, Generator)
    assert "\n" not in str(error.value) and len(str(error.value)) < 800


def test_the_same_weights_give_the_same_bytes(saved, tmp_path):
    network, path = saved
    serialization.save(tmp_path / "again.safetensors", network, **CONFIG)
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
            "contains a Discriminator, but a Generator is expected",
        ),
        (
            lambda path: serialization.save(path, Generator(32, 16, 4, 16), **CONFIG),
            "weights do not match a Generator of sizes",
        ),
        (lambda path: serialization.save(path, Generator(**CONFIG), **CONFIG, color=3), "invalid sizes of a Generator"),
    ],
)
def test_files_that_do_not_match_are_refused(saved, damage, message):
    _, path = saved
    damage(path)
    with pytest.raises(UserError, match=message) as error:
        serialization.load(path, Generator)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("network_class", "description"),
    [
        (Generator, {"class": "Generator", "sizes": {**CONFIG, "max_channels": 2**40}}),
        (
            Generator,
            {"class": "Generator", "sizes": {"image_size": 8192, "min_channels": 8192, "max_channels": 8192}},
        ),
        (Generator, {"class": "Generator", "sizes": {**CONFIG, "constant_size": 0}}),
        (Generator, {"class": "Generator", "sizes": {**CONFIG, "min_channels": -4}}),
        (Generator, {"class": "Generator", "sizes": {**CONFIG, "min_channels": 4.5}}),
        (Generator, {"class": "Generator", "sizes": {**CONFIG, "min_channels": {"a": [1]}}}),
        (Generator, {"class": "Generator", "sizes": {**CONFIG, "x" * 10**6: 1}}),
        (Generator, {"class": "Generator", "sizes": [1, 2]}),
        (Generator, {"class": ["Generator"], "sizes": CONFIG}),
        (Generator, {"class": "x\n" * 10**6, "sizes": CONFIG}),
        (FaceParsingNetwork, {"class": "FaceParsingNetwork", "sizes": {"body_blocks": 10**9}}),
        (FaceParsingNetwork, {"class": "FaceParsingNetwork", "sizes": {"labels": 200}}),
        (Discriminator, {"class": "Discriminator", "sizes": {"scales": 8, "layers": 8, "base_channels": 8192}}),
        (Generator, "[" * 100_000),
        (Generator, '{"class": "Generator", "sizes": {"image_size": ' + "9" * 5000 + "}}"),
        (Generator, "null"),
    ],
)  # fmt: skip
def test_invalid_descriptions_take_no_memory_or_time(tmp_path, network_class, description):
    path = tmp_path / "a.safetensors"
    if not isinstance(description, str):
        description = json.dumps(description)
    save_file({"a": torch.zeros(1)}, path, {"network": description})
    with pytest.raises(UserError) as error:
        serialization.load(path, network_class)
    assert "\n" not in str(error.value) and len(str(error.value)) < 800


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(3, dtype=torch.int32), "to_image.bias is torch.int32, not torch.float32"),
        (torch.zeros(3, dtype=torch.complex64), "to_image.bias is torch.complex64"),
        (torch.tensor([0, float("nan"), 0]), "to_image.bias has values that are not finite"),
        (torch.tensor([0, float("inf"), 0]), "to_image.bias has values that are not finite"),
    ],
)
def test_weights_of_other_types_or_not_finite_are_refused(saved, value, message):
    network, path = saved
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file(network.state_dict() | {"to_image.bias": value}, path, metadata)
    with pytest.raises(UserError, match=message):
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
def test_sizes_that_the_parameters_allow_can_be_loaded(name):
    _, max_size = serialization._LIMITS.get(name, serialization._DEFAULT_LIMITS)
    groups = {
        "fpn": params.FaceParserParams,
        "generator": params.GeneratorParams,
        "discriminator": params.DiscriminatorParams,
    }
    groups = {key: group for key, group in groups.items() if name in group.model_fields}
    assert groups
    for key, group in groups.items():
        values = yaml.safe_load(Path("params.yaml").read_text())[key]
        with pytest.raises(ValidationError, match=name):
            group.model_validate(values | {name: 2 * max_size})


def test_published_weights_of_other_sizes_are_refused():
    with pytest.raises(UserError, match="the published fpn.*is missing"):
        serialization.from_published(
            "fpn", {"encoder.0.conv2d.weight": torch.zeros(8, 3, 3, 3)}, image_size=64, base_channels=8
        )


def test_published_weights_in_half_precision_and_of_data_parallel_can_be_loaded():
    torch.manual_seed(0)
    network = Discriminator(1, 1, 2)
    published = {}
    for name, value in network.state_dict().items():
        key = name.replace("scales.", "D_pool.").replace("score.", "score_out.conv2d.")
        key = key.replace(".layers.0.", ".model.0.conv2d.").replace(".layers.1.", ".model.1.conv2d.")
        key = key.replace(".weight", ".weight_orig").replace(".u", ".weight_u").replace(".v", ".weight_v")
        published[f"module.{key}"] = value.half()
    loaded = serialization.from_published("discriminator", published, scales=1, layers=1, base_channels=2)
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value.half().float()), name


@pytest.mark.parametrize("kind", ["fpn", "generator", "discriminator"])
def test_to_published_is_the_inverse_of_from_published(kind):
    path = Path(__file__).parents[1] / f"fixtures/{kind}.safetensors"
    with safe_open(path, "pt") as file:
        config = file.metadata()
    weights = {
        key.removeprefix("weights/"): value for key, value in load_file(path).items() if key.startswith("weights/")
    }
    network = serialization.from_published(kind, weights, **config)
    published = serialization.to_published(kind, network)
    assert published.keys() == weights.keys()
    assert all(torch.equal(published[name], weights[name]) for name in weights)


def test_export_writes_the_authors_format(saved, tmp_path):
    network, path = saved
    out = tmp_path / "generator.pth"
    done = run_module(tmp_path, "psfr.checkpoints", "export", path, out)
    assert done.returncode == 0 and str(out) in done.stdout
    weights = torch.load(out, weights_only=True)
    assert {"const_input", "head.0.weight_orig", "body.0.2.norm_0.conv1.0.weight_u", "img_out.bias"} <= weights.keys()
    loaded = serialization.from_published("generator", weights, **CONFIG)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in loaded.state_dict().items())


@pytest.mark.parametrize("argument", ["replicate_padding", "antialias"])
def test_arguments_without_a_published_form_are_kept_and_cannot_be_exported(tmp_path, argument):
    path = tmp_path / "generator.safetensors"
    network = Generator(**CONFIG, **{argument: True})
    serialization.save(path, network, **CONFIG, **{argument: True})
    image, labels = torch.rand(1, 3, 32, 32), torch.randint(0, 19, (1, 32, 32))
    assert torch.equal(serialization.load(path, Generator)(image, labels), network(image, labels))
    with pytest.raises(UserError, match=f"generator.{argument} is true"):
        serialization.export(path, tmp_path / "generator.pth")
    assert not (tmp_path / "generator.pth").exists()


def test_export_of_an_invalid_file_prints_one_line(tmp_path):
    (tmp_path / "a.safetensors").write_text("no tensors")
    done = run_module(tmp_path, "psfr.checkpoints", "export", tmp_path / "a.safetensors", tmp_path / "b.pth")
    assert done.returncode == 1
    assert "not a checkpoint of this project" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "b.pth").exists()
