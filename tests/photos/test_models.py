"""The networks that `--model` names: generators of single steps of a training."""

import json
import re
import shutil

import pytest
import torch

from psfr.networks import serialization
from psfr.networks.generator import Generator
from psfr.photos import models
from psfr.utils.errors import UserError
from tests.photos.test_restore import run_folder  # noqa: F401 (fixture)


@pytest.fixture
def kept(run_folder, tmp_path):
    """A folder of models whose generator of step 3 differs from the last one, of step 5, in its constant input."""
    folder = tmp_path / "models"
    shutil.copytree(run_folder / "models", folder)
    path = folder / models.GENERATOR_FILE
    config, generator = serialization.read_config(path), serialization.load(path, Generator)
    generator.constant.data.fill_(7)
    serialization.save(folder / "psfrgan/steps/0000003.safetensors", generator, **config)
    record = {"last": 5, "best": 3, "files": {"3": "steps/0000003.safetensors", "5": "generator.safetensors"}}
    (folder / "psfrgan/checkpoints.json").write_text(json.dumps(record))
    return folder


@pytest.mark.parametrize(("step", "is_earlier"), [("3", True), ("best", True), ("5", False)])
def test_step_of_a_training(kept, step, is_earlier):
    face_parser, generator = models.load_networks(f"{kept}/psfrgan@{step}")
    expected_parser, last = models.load_networks(str(kept))
    assert torch.equal(face_parser.to_image.conv.weight, expected_parser.to_image.conv.weight)
    assert torch.equal(generator.constant, last.constant) != is_earlier
    assert bool((generator.constant == 7).all()) == is_earlier
    (kept.parent / "dvc.lock").write_text("stages: {download@ffhq: {params: {params.yaml: {ffhq: {source: sample}}}}}")
    assert models.is_trained_on_portraits(f"{kept}/psfrgan@{step}")


def test_step_that_is_not_kept(kept):
    for step in ("4", ""):
        message = f"{kept}/psfrgan@{step}: no generator of this step is kept: choose one of 3 (best), 5"
        with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
            models.load_networks(f"{kept}/psfrgan@{step}")
    (kept / "psfrgan/checkpoints.json").write_text("{")
    with pytest.raises(UserError, match="checkpoints.json: damaged: train again"):
        models.load_networks(f"{kept}/psfrgan@3")
    (kept / "psfrgan/checkpoints.json").unlink()
    with pytest.raises(UserError, match=f"psfrgan@best: only the last generator is there: .* --model {kept}/psfrgan$"):
        models.load_networks(f"{kept}/psfrgan@best")


def test_folder_of_the_generator(kept):
    """`models/psfrgan`, the path of the artifact, is its last generator."""
    (kept.parent / "dvc.lock").write_text("stages: {download@ffhq: {params: {params.yaml: {ffhq: {source: sample}}}}}")
    for model in (kept.parent, kept, kept / "psfrgan"):
        assert not (models.load_networks(str(model))[1].constant == 7).all()
        assert models.is_trained_on_portraits(str(model))
