"""The interface of the benchmarks: the last line is JSON with the documented keys."""

import json

import pytest
import torch

from benchmarks import machine
from psfr.compute.devices import has_bf16
from tests.helpers.running import ROOT, run_module

# A processor without bf16 emulates it: a step of the published networks takes minutes.
FASTEST = "bf16" if has_bf16(torch.device("cpu")) else "fp32"


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if "\ndef main(" in path.read_text())
)
def test_help_names_the_command(name):
    done = run_module(ROOT, f"benchmarks.{name}", "--help")
    assert done.returncode == 0 and done.stdout.startswith(f"usage: python -m benchmarks.{name} "), done.stdout


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (
            ["train_step", "--image-size", "64", "--batch-size", "1", "--precision", FASTEST, "--steps", "1"],
            {"seconds_per_step", "peak_memory_gb"},
        ),
        (["train_step", "--image-size", "64", "--plain", "--steps", "1"], {"seconds_per_step", "peak_memory_gb"}),
        (
            ["inference", "--image-size", "64", "--batch-size", "2", "--precision", "fp32", "--images", "2"],
            {"seconds_per_image"},
        ),
        (["inference", "--image-size", "64", "--plain", "--images", "1"], {"seconds_per_image"}),
        pytest.param(
            ["data", "--count", "2", "--size", "64"],
            {"resize", "degrade", "training_sample"},
            marks=pytest.mark.process,
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_last_line_is_json_result(arguments, keys, monkeypatch):
    """With small networks: a step of the published ones takes ten seconds."""
    monkeypatch.setattr(machine, "PUBLISHED_PARAMS", ROOT / "params/tiny.yaml")
    done = run_module(ROOT, f"benchmarks.{arguments[0]}", *arguments[1:])
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert keys <= result.keys()
    assert all(result[key] > 0 for key in keys)
