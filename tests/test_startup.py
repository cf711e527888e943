"""What a stage or a command imports before it begins: heavy packages only where they are always needed."""

import gc
import importlib
import json
import subprocess
import sys

import pytest

import stages
from psfr.networks import serialization
from psfr.networks.fpn import FaceParsingNetwork
from psfr.utils.errors import run_main
from tests.helpers.running import ROOT

HEAVY = {"torch", "torchvision", "torchmetrics", "imgaug", "skimage", "matplotlib", "pandas", "scipy", "dvc", "dvclive"}
HEAVY |= {"distributed", "sympy", "torch._dynamo", "ijson", "vl_convert", "spandrel", "gradio"}

# Imports them one after another and then loads a network; prints which heavy packages each has added.
PROGRAM = """
import importlib, json, sys
heavy, network, *modules = json.loads(sys.argv[1])
seen, added = set(), {}
def note(name):
    added[name] = sorted(set(heavy) & sys.modules.keys() - seen)
    seen.update(sys.modules)
for module in modules:
    importlib.import_module(module)
    note(module)
if network:
    from psfr.networks import fpn, serialization
    serialization.load(network, fpn.FaceParsingNetwork)
    note("load")
print(json.dumps(added))
"""


def heavy_packages(*modules: str, network: str = "") -> dict[str, list[str]]:
    arguments = json.dumps([sorted(HEAVY), network, *modules])
    done = subprocess.run([sys.executable, "-c", PROGRAM, arguments], cwd=ROOT, capture_output=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.process
def test_images_and_networks_import_nothing_else(tmp_path):
    """Neither does a network that is loaded: PyTorch imports its compiler for some operations."""
    sizes = {"image_size": 32, "base_channels": 4, "min_channels": 4, "max_channels": 4, "body_blocks": 1}
    serialization.save(tmp_path / "fpn.safetensors", FaceParsingNetwork(**sizes), None, **sizes)
    commands = ("psfr.restore", "psfr.align", "psfr.photos.demo")
    images = ("stages.fetch_weights", "stages.download", "stages.resize", *commands)
    networks = ("stages.parse", "stages.infer", "stages.evaluate", "stages.train")
    found = heavy_packages(*images, *networks, network=str(tmp_path / "fpn.safetensors"))
    assert found == {name: [] for name in found} | {"stages.parse": ["torch"]}
    assert "load" in found


@pytest.mark.process
def test_degradation_imports_imgaug_but_not_torch():
    found = heavy_packages("stages.degrade", "stages.make_testset")
    assert found == {"stages.degrade": ["imgaug", "scipy", "skimage"], "stages.make_testset": []}


@pytest.mark.parametrize(("argument", "enabled"), [("-m", False), ("/usr/bin/pytest", True)])
def test_garbage_is_collected_from_the_start_of_the_work(monkeypatch, argument, enabled):
    monkeypatch.setattr(sys, "argv", [argument])
    monkeypatch.setattr("atexit.register", lambda _: None)
    seen = []
    try:
        importlib.reload(stages)
        assert gc.isenabled() == enabled
        run_main(lambda: seen.append((gc.isenabled(), gc.get_freeze_count() > 0)))
    finally:
        gc.enable()
        gc.unfreeze()
    assert seen == [(True, not enabled)]
