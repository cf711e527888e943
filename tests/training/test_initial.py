"""Trainings that start from a checkpoint."""

import copy
import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

from psfr.data import images, labels
from psfr.networks import serialization
from psfr.networks.discriminator import Discriminator
from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.generator import Generator
from psfr.networks.vgg import VggFeatures
from psfr.params import read_params
from psfr.training import fpn, gan
from psfr.training.checkpoint import CheckpointManager
from psfr.utils.errors import UserError

TINY = read_params(Path(__file__).parents[2] / "params/tiny.yaml")
TINY = TINY.model_copy(update={"compute": TINY.compute.model_copy(update={"workers": 0})})
FOLDER = Path("models/init/gan")
ARGUMENTS = list(inspect.signature(Generator).parameters)


def with_init(**inits: str):
    groups = {name: getattr(TINY, name).model_copy(update={"init": init}) for name, init in inits.items()}
    return TINY.model_copy(update=groups)


def assert_equal_weights(actual: torch.nn.Module, expected: torch.nn.Module) -> None:
    expected_state = expected.state_dict()
    assert actual.state_dict().keys() == expected_state.keys()
    assert all(torch.equal(value, expected_state[key]) for key, value in actual.state_dict().items())


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    (tmp_path / FOLDER).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def vgg():
    return VggFeatures("vgg16", 64, 1.0)


def test_gan_starts_from_checkpoints(vgg):
    torch.manual_seed(5)
    generator, discriminator = Generator(**gan.generator_config(TINY)), Discriminator(**gan.discriminator_config(TINY))
    serialization.save(FOLDER / "g.safetensors", generator, **gan.generator_config(TINY))
    serialization.save(FOLDER / "d.safetensors", discriminator, **gan.discriminator_config(TINY))
    params = with_init(generator=str(FOLDER / "g.safetensors"), discriminator=str(FOLDER / "d.safetensors"))
    model = gan.build(params.model_copy(update={"ema": 0.9}), copy.deepcopy(vgg))
    assert_equal_weights(model.generator, generator)
    assert_equal_weights(model.trained_generator, generator)
    assert_equal_weights(model.discriminator, discriminator)
    assert model.generator.training and model.discriminator.training


def test_antialias_and_padding_may_differ_from_the_checkpoint(vgg):
    config = gan.generator_config(TINY)
    published = config | {"replicate_padding": False, "antialias": False}
    torch.manual_seed(5)
    generator = Generator(**published)
    serialization.save(FOLDER / "g.safetensors", generator, **published)
    model = gan.build(with_init(generator=str(FOLDER / "g.safetensors")), copy.deepcopy(vgg))
    assert_equal_weights(model.generator, generator)
    size = TINY.image_size
    inputs = torch.rand(1, 3, size, size), torch.randint(0, 19, (1, size, size))
    expected = Generator(**config)
    expected.load_state_dict(generator.state_dict())
    assert torch.allclose(model.generator(*inputs), expected(*inputs), atol=1e-5)
    assert not torch.allclose(model.generator(*inputs), generator(*inputs), atol=1e-2)

    # A generator alone leaves the discriminator with the weights of a training from random weights.
    model = gan.build(with_init(generator=str(FOLDER / "g.safetensors")), copy.deepcopy(vgg))
    assert_equal_weights(model.generator, generator)
    assert not torch.equal(model.generator.constant, gan.build(TINY, copy.deepcopy(vgg)).generator.constant)


def test_published_generator_is_read_in_its_format(monkeypatch, vgg):
    config = gan.generator_config(TINY)
    monkeypatch.setattr(Generator.__init__, "__defaults__", tuple(config[name] for name in ARGUMENTS))
    generator = Generator()
    path = Path("data/weights/published/psfrgan_epoch15_net_G.pth")
    path.parent.mkdir(parents=True)
    torch.save(serialization.to_published("generator", generator), path)
    assert_equal_weights(gan.build(with_init(generator="published"), copy.deepcopy(vgg)).generator, generator)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_other_sizes_are_named(vgg, suffix):
    path = FOLDER / f"g{suffix}"
    if suffix == ".pth":  # has the published sizes
        torch.save({"weight": torch.zeros(1)}, path)
        different = "image_size is 512, not 64"
    else:
        config = gan.generator_config(TINY) | {"max_channels": 2 * TINY.generator.max_channels}
        serialization.save(path, Generator(**config), **config)
        different = f"max_channels is {config['max_channels']}, not {TINY.generator.max_channels}"
    with pytest.raises(UserError, match=rf"^generator\.init: {path} has other sizes .*{different}.*: change"):
        gan.build(with_init(generator=str(path)), copy.deepcopy(vgg))


@pytest.mark.parametrize(
    ("content", "problem"), [(None, "no such file: copy it there"), (b"damaged", "not a checkpoint")]
)
def test_missing_and_damaged_checkpoints_are_named(vgg, content, problem):
    path = FOLDER / "g.safetensors"
    if content:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"{path}: {problem}"):
        gan.build(with_init(generator=str(path)), copy.deepcopy(vgg))


def test_parsing_network_starts_from_a_checkpoint(tmp_path):
    config = fpn.network_config(TINY)
    torch.manual_seed(5)
    network = FaceParsingNetwork(**config)
    path = Path("models/init/fpn/start.safetensors")
    serialization.save(path, network, **config)
    for name in ("images", "labels"):
        for index in range(TINY.fpn.batch_size):
            pixels = np.full((64, 64, 3), 9 * index, np.uint8)
            file = Path(name, f"{index}.png")
            images.write(file, pixels) if name == "images" else labels.write(file, pixels[..., 0] % 19)
    params = with_init(fpn=str(path))
    params = params.model_copy(update={"fpn": params.fpn.model_copy(update={"epochs": 1, "learning_rate": 1e-12})})
    names = [str(index) for index in range(TINY.fpn.batch_size)]
    trained, history = fpn.train(Path(), names, params, CheckpointManager(tmp_path, 60))
    assert len(history) == 1
    for expected, actual in zip(network.parameters(), trained.parameters(), strict=True):
        assert torch.allclose(actual, expected, atol=1e-9)
