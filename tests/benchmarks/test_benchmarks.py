"""The interface of the benchmarks: the last line is JSON with the documented keys."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (
            ["train_step", "--image-size", "64", "--batch-size", "1", "--precision", "bf16", "--steps", "1"],
            {"seconds_per_step", "peak_memory_gb"},
        ),
        (["train_step", "--image-size", "64", "--plain", "--steps", "1"], {"seconds_per_step", "peak_memory_gb"}),
        (
            ["inference", "--image-size", "64", "--batch-size", "2", "--precision", "fp32", "--images", "2"],
            {"seconds_per_image"},
        ),
        (["inference", "--image-size", "64", "--plain", "--images", "1"], {"seconds_per_image"}),
        (["data", "--count", "2", "--size", "64"], {"resize", "degrade", "training_sample"}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_last_line_is_json_result(arguments, keys):
    process = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{arguments[0]}", *arguments[1:]], cwd=ROOT, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    result = json.loads(process.stdout.splitlines()[-1])
    assert keys <= result.keys()
    assert all(result[key] > 0 for key in keys)
