"""Model card: the license that the data leaves, what was measured, and how the training ran."""

import pytest
import yaml

from psfr.params import ImageSetParams
from psfr.training import model_card
from psfr.training.kept_generators import KeptGenerators
from tests.training.test_gan import TINY

FOLDER = ImageSetParams(source="folder", count=8, skip=0, images="photos")
START = TINY.generator.model_copy(update={"init": "published"})


class Faces(list):
    """Stands in for a training set of six photographs."""

    num_variants = 5

    def __init__(self):
        super().__init__("abcdef")


SCORES = {f"{name}{suffix}": 0.25 for name in ("psnr", "st_lpips", "identity") for suffix in ("", "_low", "_high")}


@pytest.mark.parametrize(
    ("update", "identifier", "terms"),
    [
        ({}, "mit", "MIT, as the code that draws its portraits"),
        ({"ffhq": FOLDER}, "other", "that of the photographs in `ffhq`"),
        ({"fpn": TINY.fpn.model_copy(update={"source": "published"})}, "cc-by-nc-sa-4.0", "no commercial use"),
        ({"generator": START, "ffhq": FOLDER}, "cc-by-nc-sa-4.0", "no commercial use"),
        ({"generator": START.model_copy(update={"init": "models/init/gan/a.safetensors"})}, "other", "checkpoints"),
    ],
)
def test_license_follows_the_data(update, identifier, terms):
    found, text = model_card.license_terms(TINY.model_copy(update=update))
    assert found == identifier and terms in text


@pytest.mark.parametrize("is_validated", [True, False])
def test_card_says_what_was_measured(tmp_path, is_validated):
    kept = KeptGenerators(tmp_path / "state", 1)
    if is_validated:
        kept.add(4, SCORES)
    kept.write(tmp_path, 4)
    compute = {"device": "CPU (some)", "precision": "fp32", "processes": 2}
    model_card.write(tmp_path, TINY.model_copy(update={"ffhq": FOLDER}), Faces(), 2 * is_validated, compute)
    text = (tmp_path / "README.md").read_text()
    header, *_, parameters = text.split("---\n")[1:2] + text.split("```yaml\n")[1:]
    assert yaml.safe_load(header)["license"] == "other"
    values = yaml.safe_load(parameters.removesuffix("```\n"))
    assert values["lambda_ss"] == TINY.lambda_ss and values["generator"] == TINY.generator.model_dump()
    for sentence in (
        "6 photographs of a folder, each in 5 degraded copies",
        "4 steps of 4 images, starting from random weights",
        "CPU (some), fp32",
    ):
        assert sentence in text
    row = "| 4 | 0.25 (0.25 to 0.25) | 0.25 (0.25 to 0.25) | 0.25 (0.25 to 0.25) | `generator.safetensors` |"
    assert (row in text) == is_validated
    assert ("None: `validate_every` or `held_out` is 0." in text) != is_validated
