"""params/ffhq.yaml at its full sizes, with few images and random weights.

A local proxy stands in for the internet: it serves images and weights under the published addresses.
"""

import hashlib
import json
import os
import resource
import shutil
import sys
import zipfile
from pathlib import Path
from stat import S_IRWXU

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from psfr import portraits
from psfr.networks import serialization
from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.generator import Generator
from psfr.pretrained import loader, metric_files, network_files, registry
from psfr.utils import compat
from tests.helpers.internet import Drive, Internet, folder
from tests.helpers.running import clone, run_command, stages_run, user_environment

compat.patch_torchvision()
import torchvision  # noqa: E402 (after the patch)
from pytorch_fid import inception  # noqa: E402 (after the patch)

from psfr.metrics import report  # noqa: E402 (after the patch)

FFHQ = [  # in folders of a thousand
    "00000/00000.png",
    "00000/00999.png",
    "01000/01000.png",
    "35000/35017.png",
    "69000/69999.png",
]
CELEBAHQ = ["02911.jpg", "03277.jpg", "04957.jpg", "29819.jpg"]
FOLDER_IDS = {"1tZUcXDBeOibC6jcMCtgRRz67pzrAHeHL": "ffhq", "11Vz0fqHS2rXDb5pprgTjpD7S2BAJhi1P": "celebahq"}
OVERRIDES = {"ffhq.count": 4, "celebahq.count": 3, "celebamask.count": 2, "epochs": 1}

# A substitute for `python -m stages.NAME` that gives the registry the hashes of the random weights.
PYTHON = """#!{python}
import os, runpy, sys
from dataclasses import replace
sys.path[0] = os.getcwd()
sys.argv = sys.argv[2:]
from psfr.pretrained import registry
registry.DOWNLOADABLE = tuple(replace(weight, sha256={hashes}[weight.name]) for weight in registry.DOWNLOADABLE)
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def write_images(folder: Path) -> None:
    """Write portraits of 1024x1024 pixels under the names of both sets."""
    for index, name in enumerate([f"ffhq/{name}" for name in FFHQ] + [f"celebahq/{name}" for name in CELEBAHQ]):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(portraits.draw(5, index, 256)[0]).resize((1024, 1024), Image.Resampling.BICUBIC).save(path)
    (folder / "ffhq" / "LICENSE.txt").write_text("not an image")
    celebahq = folder / "celebahq"
    with zipfile.ZipFile(celebahq / "data1024x1024.zip", "w") as archive:  # this set is published as an archive
        for name in CELEBAHQ:
            archive.write(celebahq / name, f"data1024x1024/{name}")
            (celebahq / name).unlink()


def write_weights(folder: Path) -> dict[str, str]:
    """Write random weights of the published networks under the published names; return their SHA-256 by name."""
    torch.manual_seed(0)
    with torch.device("meta"), pytest.MonkeyPatch.context() as patch:
        caught = {}
        patch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: caught)
        patch.setattr(
            torchvision.models.Inception3, "load_state_dict", lambda self, _: caught.update(self.state_dict())
        )
        inception.fid_inception_v3()
        shapes = {
            network_files.VGG_BACKBONES["vgg19"]: torchvision.models.vgg19().state_dict(),
            metric_files.VGG16: torchvision.models.vgg16().state_dict(),
            metric_files.INCEPTION: caught,
        }
    states = {}
    for name, state in shapes.items():
        states[name] = {key: random_weight(key, value.shape) for key, value in state.items()}
    states[network_files.PUBLISHED_FPN] = serialization.to_published("fpn", FaceParsingNetwork())
    states[network_files.PUBLISHED_GENERATOR] = serialization.to_published("generator", Generator())
    folder.mkdir()
    for name, state in states.items():
        torch.save(state, folder / name)
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in states}


def random_weight(name: str, shape: torch.Size) -> torch.Tensor:
    """Initialize convolutions so that they preserve the scale of the signal, and norms as identities."""
    if len(shape) == 4:
        return torch.randn(shape) * (2 / shape[1:].numel()) ** 0.5
    return torch.ones(shape) if name.endswith(("bn.weight", "running_var")) else torch.zeros(shape)


@pytest.fixture
def internet(tmp_path, monkeypatch):
    """The local proxy, configured for rclone and for Python as a user behind a proxy does."""
    write_images(tmp_path / "drive")
    hashes = write_weights(tmp_path / "published")
    program = tmp_path / "bin" / "python"
    program.parent.mkdir()
    program.write_text(PYTHON.format(python=sys.executable, hashes=hashes))
    program.chmod(S_IRWXU)
    token = {"access_token": "a", "token_type": "Bearer", "refresh_token": "r", "expiry": "2099-01-01T00:00:00Z"}
    (tmp_path / "rclone.conf").write_text(
        f"[drive]\ntype = drive\nscope = drive.readonly\ntoken = {json.dumps(token)}\n"
    )
    hosts = {
        "www.googleapis.com": Drive({folder_id: tmp_path / "drive" / name for folder_id, name in FOLDER_IDS.items()})
    }
    for weight in registry.DOWNLOADABLE:
        host, _, prefix = weight.url.removeprefix("https://").partition("/")
        hosts[host] = first_answer(hosts.get(host), folder(tmp_path / "published", f"/{prefix}"))
    proxy = Internet(hosts)
    certificate = tmp_path / "authority.pem"
    with proxy.serving(certificate):
        monkeypatch.setenv("RCLONE_CONFIG", str(tmp_path / "rclone.conf"))
        monkeypatch.setenv("HTTPS_PROXY", proxy.proxy)
        monkeypatch.setenv("RCLONE_CA_CERT", str(certificate))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        yield proxy


def first_answer(first, second):
    """Return a host that answers as the first of two hosts that has an answer."""
    return second if first is None else lambda address: first(address) or second(address)


@pytest.mark.slow
@pytest.mark.process
def test_ffhq_setting_runs_on_few_images(tmp_path, internet):
    project = clone(tmp_path / "project")
    shutil.copy(project / "params/ffhq.yaml", project / "params.yaml")
    run_command(["git", "commit", "-q", "-a", "-m", "setting of the reimplementation"], project)
    path = f"PATH={tmp_path / 'bin'}{os.pathsep}{user_environment()['PATH']}"
    output = run_command(
        ["env", path, "dvc", "exp", "run", *(f"-S{key}={value}" for key, value in OVERRIDES.items())], project
    )
    print(output, f"largest process: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20:.1f} GiB")
    assert len(stages_run(output)) == 14
    parameters = json.loads(run_command(["dvc", "params", "diff", "--json"], project))["params.yaml"]
    assert {name: change["new"] for name, change in parameters.items()} == OVERRIDES
    ffhq = yaml.safe_load((project / "params/ffhq.yaml").read_text())
    assert ffhq["image_size"] == 512 and set(ffhq["models"]) == {"ours", "published"}

    evaluation = json.loads((project / "metrics/evaluation.json").read_text())
    assert evaluation["reasons"].keys() - {"niqe"} == {
        "fid_reference",
        "musiq",
        "dists",
        "lmd",
        "deg",
    }  # NIQE: if an image is flat
    table = (project / "metrics/plots/table.md").read_text()
    assert table in output
    lines = table.splitlines()
    assert lines[0] == "| model | PSNR ↑ | SSIM ↑ | LPIPS ↓ | FID ↓ |"
    (second_table,) = [number for number, line in enumerate(lines) if line.startswith("| model | ST-LPIPS ↓ |")]
    assert f"FID: {report.LOSSLESS}." in lines[5:second_table]
    for line, variant in zip(lines[2:5], ("degraded", "ours", "published"), strict=True):
        cells = [f"{evaluation[variant][metric]:.4f}" for metric in ("psnr", "ssim", "lpips", "fid")]
        assert line == f"| {variant} | {' | '.join(cells)} |"
        left_out = {*report.PATTERN_METRICS, *evaluation["reasons"]}
        values = {name: value for name, value in evaluation[variant].items() if name not in left_out}
        assert all(np.isfinite(value) and value != 0 for value in values.values())
    for network_name, network_class, model, weights_file in [
        ("fpn", FaceParsingNetwork, "models/fpn.safetensors", network_files.PUBLISHED_FPN),
        ("generator", Generator, "models/psfrgan/generator.safetensors", network_files.PUBLISHED_GENERATOR),
    ]:
        trained = serialization.to_published(network_name, serialization.load(project / model, network_class))
        published = loader.load(tmp_path / "published" / weights_file)
        assert trained.keys() == published.keys()
        assert all(trained[key].shape == published[key].shape for key in published)
        is_equal = all(torch.equal(trained[key], published[key]) for key in published)
        assert is_equal == (network_name == "fpn"), "the setting uses the published FPN and trains the generator"
    requested = [address.removeprefix("GET ") for address in internet.requests]
    assert all(requested.count(f"{weight.url}/{weight.name}") == 1 for weight in registry.DOWNLOADABLE)
    for name, count in [
        ("data/ffhq/hr", 4),
        ("data/ffhq/lr/3", 4),
        ("data/testset/hr", 3),
        ("data/testset/sr/ours", 3),
        ("data/testset/sr/published", 3),
    ]:
        files = list((project / name).glob("*.png"))
        assert len(files) == count, name
        assert all(Image.open(file).size == (512, 512) for file in files), name
    assert stages_run(run_command(["dvc", "repro"], project)) == []

    shutil.rmtree(project / "data/weights")
    output = run_command(["env", path, "dvc", "exp", "run", f"-Sweights.mirror={tmp_path / 'published'}"], project)
    assert stages_run(output) == ["fetch_weights"], "the mirror has the same files, so no other stage runs"
    assert len(internet.requests) == len(requested)
