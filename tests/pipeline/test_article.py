"""params/ffhq.yaml as it stands, at its full sizes, on a miniature of the article's data: a stand-in for the internet has few images and random weights."""

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
from tests.helpers.running import clone, environment, ran, stages_run

compat.before_torchvision()
import torchvision  # noqa: E402
from pytorch_fid import inception  # noqa: E402

from psfr.metrics import report  # noqa: E402

FFHQ = [
    "00000/00000.png",
    "00000/00999.png",
    "01000/01000.png",
    "35000/35017.png",
    "69000/69999.png",
]  # in folders of a thousand
CELEBAHQ = ["02911.jpg", "03277.jpg", "04957.jpg", "29819.jpg"]
IDENTITIES = {"1tZUcXDBeOibC6jcMCtgRRz67pzrAHeHL": "ffhq", "11Vz0fqHS2rXDb5pprgTjpD7S2BAJhi1P": "celebahq"}
SETTINGS = {"ffhq.count": 4, "celebahq.count": 3, "celebamask.count": 2, "epochs": 1}

# Runs `python -m stages.NAME` as Python would, but that the weights of the registry, whose hashes nobody can match, have those of the stand-ins.
PYTHON = """#!{python}
import os, runpy, sys
from dataclasses import replace
sys.path[0] = os.getcwd()
sys.argv = sys.argv[2:]
from psfr.pretrained import registry
registry.DOWNLOADED = tuple(replace(weight, sha256={hashes}[weight.name]) for weight in registry.DOWNLOADED)
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def draw_images(place: Path) -> None:
    """Portraits of 1024x1024 under the names of both sets."""
    for index, name in enumerate([f"ffhq/{name}" for name in FFHQ] + [f"celebahq/{name}" for name in CELEBAHQ]):
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(portraits.draw(5, index, 256)[0]).resize((1024, 1024), Image.Resampling.BICUBIC).save(path)
    (place / "ffhq" / "LICENSE.txt").write_text("none of an image")
    with zipfile.ZipFile(place / "celebahq" / "data1024x1024.zip", "w") as archive:  # the images of this set lie in one
        for name in CELEBAHQ:
            archive.write(place / "celebahq" / name, f"data1024x1024/{name}")
            (place / "celebahq" / name).unlink()


def make_weights(place: Path) -> dict[str, str]:
    """Random weights of the published networks, as large as those, under the published names; their SHA-256 by name."""
    torch.manual_seed(0)
    with torch.device("meta"), pytest.MonkeyPatch.context() as patch:
        caught = {}
        patch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: caught)
        patch.setattr(
            torchvision.models.Inception3, "load_state_dict", lambda self, _: caught.update(self.state_dict())
        )
        inception.fid_inception_v3()
        planned = {
            network_files.VGG_BACKBONES["vgg19"]: torchvision.models.vgg19().state_dict(),
            metric_files.VGG16: torchvision.models.vgg16().state_dict(),
            metric_files.INCEPTION: caught,
        }
    states = {name: {key: random(key, value.shape) for key, value in state.items()} for name, state in planned.items()}
    states[network_files.PUBLISHED_FPN] = serialization.to_published("fpn", FaceParsingNetwork())
    states[network_files.PUBLISHED_GENERATOR] = serialization.to_published("generator", Generator())
    place.mkdir()
    for name, state in states.items():
        torch.save(state, place / name)
    return {name: hashlib.sha256((place / name).read_bytes()).hexdigest() for name in states}


def random(name: str, shape: torch.Size) -> torch.Tensor:
    """Convolutions that keep the size of the signal, as trained ones do, and norms that leave it alone."""
    if len(shape) == 4:
        return torch.randn(shape) * (2 / shape[1:].numel()) ** 0.5
    return torch.ones(shape) if name.endswith(("bn.weight", "running_var")) else torch.zeros(shape)


@pytest.fixture
def internet(tmp_path, monkeypatch):
    """The stand-in, set up for rclone and for Python as a user behind a proxy does."""
    draw_images(tmp_path / "drive")
    hashes = make_weights(tmp_path / "published")
    program = tmp_path / "bin" / "python"
    program.parent.mkdir()
    program.write_text(PYTHON.format(python=sys.executable, hashes=hashes))
    program.chmod(S_IRWXU)
    token = {"access_token": "a", "token_type": "Bearer", "refresh_token": "r", "expiry": "2099-01-01T00:00:00Z"}
    (tmp_path / "rclone.conf").write_text(
        f"[drive]\ntype = drive\nscope = drive.readonly\ntoken = {json.dumps(token)}\n"
    )
    hosts = {
        "www.googleapis.com": Drive({identity: tmp_path / "drive" / name for identity, name in IDENTITIES.items()})
    }
    for weight in registry.DOWNLOADED:
        host, _, place = weight.url.removeprefix("https://").partition("/")
        hosts[host] = either(hosts.get(host), folder(tmp_path / "published", f"/{place}"))
    stand_in = Internet(hosts)
    certificate = tmp_path / "authority.pem"
    with stand_in.serving(certificate):
        for name, value in {
            "RCLONE_CONFIG": tmp_path / "rclone.conf", "HTTPS_PROXY": stand_in.proxy, "RCLONE_CA_CERT": certificate, "REQUESTS_CA_BUNDLE": certificate,
        }.items():  # fmt: skip
            monkeypatch.setenv(name, str(value))
        yield stand_in


def either(first, second):
    """A host that answers as one of two does."""
    return second if first is None else lambda address: first(address) or second(address)


@pytest.mark.slow
def test_the_articles_parameters_on_a_miniature_of_its_data(tmp_path, internet):
    project = clone(tmp_path / "project")
    shutil.copy(project / "params/ffhq.yaml", project / "params.yaml")
    ran(["git", "commit", "-q", "-a", "-m", "the article's setting"], project)
    path = f"PATH={tmp_path / 'bin'}{os.pathsep}{environment()['PATH']}"
    output = ran(
        ["env", path, "dvc", "exp", "run", *(f"-S{name}={value}" for name, value in SETTINGS.items())], project
    )
    print(output, f"largest process: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20:.1f} GiB")
    assert len(stages_run(output)) == 14
    parameters = json.loads(ran(["dvc", "params", "diff", "--json"], project))["params.yaml"]
    assert {name: change["new"] for name, change in parameters.items()} == SETTINGS
    published = yaml.safe_load((project / "params/ffhq.yaml").read_text())
    assert published["image_size"] == 512 and set(published["models"]) == {"ours", "published"}

    evaluation = json.loads((project / "metrics/evaluation.json").read_text())
    assert evaluation["reasons"] == {}
    table = (project / "metrics/plots/table.md").read_text()
    assert table in output
    lines = table.splitlines()
    assert lines[0] == "| model | PSNR ↑ | SSIM ↑ | LPIPS ↓ | FID ↓ |" and lines[5:] == ["", f"FID: {report.LOSSLESS}."]
    for line, version in zip(lines[2:5], ("degraded", "ours", "published"), strict=True):
        assert (
            line
            == f"| {version} | "
            + " | ".join(f"{evaluation[version][metric]:.4f}" for metric in ("psnr", "ssim", "lpips", "fid"))
            + " |"
        )
        assert all(np.isfinite(value) and value != 0 for value in evaluation[version].values())
    for kind, network, model, name in [
        ("fpn", FaceParsingNetwork, "models/fpn.safetensors", network_files.PUBLISHED_FPN),
        ("generator", Generator, "models/psfrgan/generator.safetensors", network_files.PUBLISHED_GENERATOR),
    ]:
        ours = serialization.to_published(kind, serialization.load(project / model, network))
        theirs = loader.load(tmp_path / "published" / name)
        assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in theirs.items()}
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs) == (kind == "fpn"), (
            "the one is taken, the other trained"
        )
    asked = [address.removeprefix("GET ") for address in internet.asked]
    assert all(asked.count(f"{weight.url}/{weight.name}") == 1 for weight in registry.DOWNLOADED)
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
    assert stages_run(ran(["dvc", "repro"], project)) == []

    shutil.rmtree(project / "data/weights")
    output = ran(["env", path, "dvc", "exp", "run", f"-Sweights.mirror={tmp_path / 'published'}"], project)
    assert stages_run(output) == ["fetch_weights"], "a mirror's files are the publishers'"
    assert len(internet.asked) == len(asked)
