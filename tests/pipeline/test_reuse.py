"""What the stages take from their last result, run in-process in a repository with their part of the real dvc.yaml."""

import importlib
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from dvc.repo import Repo

from psfr.data import images, labels
from psfr.networks import serialization
from psfr.networks.fpn import FaceParsingNetwork
from psfr.sources import rclone
from psfr.training import fpn
from psfr.utils.errors import run_main
from tests.helpers.s3 import commands, s3, write_files  # noqa: F401 - commands and s3 are fixtures
from tests.helpers.sets import ROOT, read_tree, write_params

RAW = Path("data/ffhq/raw")
LR, SEG = Path("data/ffhq/lr"), Path("data/ffhq/parse")


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    """A repository of DVC with all stages; their code is there as one-line files."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    Repo.init(no_scm=True).close()
    text = (ROOT / "dvc.yaml").read_text()
    Path("dvc.yaml").write_text(text)
    Path("psfr/utils").mkdir(parents=True)
    for name in (".dvcignore", "psfr/utils/versions.yaml"):
        shutil.copy(ROOT / name, name)
    for stage in yaml.safe_load(text)["stages"].values():
        for dep in stage.get("do", stage)["deps"]:
            if dep.startswith(("psfr", "stages")):
                path = Path(dep) if dep.endswith(".py") else Path(dep, "code.py")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("# code\n")
    return folder


def edit(module: str) -> None:
    path = Path(module)
    path.write_text(path.read_text() + "# a comment\n")


def run(stage: str, *arguments: str) -> None:
    """Run the script of a stage."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [stage, *arguments])
        importlib.import_module(f"stages.{stage}").main()


def record(stage: str, *outputs: Path) -> None:
    """Record the result of a stage, and remove it as DVC does before it runs the stage again."""
    with Repo() as repo:
        repo.commit(stage, force=True)
    for path in outputs:
        shutil.rmtree(path)


# Degraded copies and their parsing maps


@pytest.fixture
def written(monkeypatch) -> list[str]:
    """The paths of the images and parsing maps that stages write, relative to their temporary folder."""
    paths = []
    for module in (images, labels):

        def write(path: Path, pixels: np.ndarray, original=module.write) -> None:
            paths.append(path.as_posix().partition(".partial/")[2])
            original(path, pixels)

        monkeypatch.setattr(module, "write", write)
    return paths


@pytest.mark.heavy
def test_raising_the_variants_makes_only_the_new_copies(repository, written):
    num_images = 3
    params = write_params(repository, ffhq={"count": num_images})
    for stage in ("download", "resize"):
        run(stage, "ffhq")
        record(f"{stage}@ffhq")
    network = FaceParsingNetwork(**fpn.network_config(params))
    serialization.save(Path("models/fpn.safetensors"), network, **fpn.network_config(params))

    def run_with(variants: int) -> dict[str, bytes]:
        write_params(repository, ffhq={"count": num_images}, degrade={"variants": variants})
        written.clear()
        run("degrade")
        record("degrade")
        run("parse")
        files = {f"{path.name}/{name}": content for path in (LR, SEG) for name, content in read_tree(path).items()}
        record("parse", SEG, LR)
        return files

    def names(*variants: int) -> set[str]:
        return {f"{variant}/{number:05d}.png" for variant in variants for number in range(num_images)}

    two = run_with(2)
    assert len(two) == (2 + 3) * num_images
    three = run_with(3)
    assert set(written) == names(2) | {f"lr/{name}" for name in names(2)}
    assert len(three) == (3 + 4) * num_images and two.items() <= three.items()
    one = run_with(1)
    assert written == []
    assert len(one) == (1 + 2) * num_images and one.items() <= two.items()


# Sets that are not rendered


def picture(seed: int) -> bytes:
    return cv2.imencode(".bmp", np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8))[1].tobytes()


FILES = {f"{number}.bmp": picture(number) for number in range(6)}


class Source:
    """The images of a user, in a folder or on a server."""

    def __init__(self, repository: Path, name: str, folder: Path, address: str):
        self.repository, self.name, self.folder, self.address = repository, name, folder, address
        write_files(folder, FILES)

    def set_params(self, count: int = 4, image_size: int = 64) -> None:
        write_params(self.repository, ffhq={"source": self.name, "images": self.address, "count": count})
        path = self.repository / "params.yaml"
        path.write_text(path.read_text().replace("image_size: 64", f"image_size: {image_size}"))


@pytest.fixture(params=["folder", "rclone"])
def source(request, repository, s3) -> Iterator[Source]:
    folder = s3.root / "faces"
    address = "s3:faces" if request.param == "rclone" else str(folder)
    yield Source(repository, request.param, folder, address)


@pytest.fixture
def result(source, monkeypatch, commands) -> dict[str, bytes]:
    """The recorded result of the first download; the source is asked once more, without retries, from then on."""
    monkeypatch.setattr(rclone, "RETRY_DELAYS", ())
    source.set_params()
    run("download", "ffhq")
    files = read_tree(RAW)
    assert len(files) == 4 and files.items() <= FILES.items()
    record("download@ffhq", RAW)
    commands.clear()
    return files


def change_version(package: str) -> None:
    path = Path("psfr/utils/versions.yaml")
    text, count = re.subn(rf"({package}: ).*", r"\g<1>0.0.1", path.read_text())
    assert count
    path.write_text(text)


@pytest.mark.parametrize("change", ["image_size", "renderer"])
def test_a_change_of_the_renderer_asks_the_source_for_nothing(source, result, s3, change, commands):
    """The source is away. An interrupted run with other parameters is left over."""
    s3.kill()
    source.folder.rename(source.folder.with_name("away"))
    Path("data/ffhq/.raw.partial").mkdir()
    if change == "renderer":
        edit("psfr/portraits/code.py")
        change_version("scipy")
    else:
        source.set_params(image_size=128)
    run("download", "ffhq")
    assert read_tree(RAW) == result
    assert commands == []
    assert [path.name for path in RAW.parent.iterdir()] == ["raw"]


def test_a_damaged_object_of_the_cache_is_fetched_again(source, result):
    damaged = next(path for path in Path(".dvc/cache/files/md5").glob("*/*") if path.stat().st_size == len(picture(0)))
    damaged.chmod(0o644)
    damaged.write_bytes(picture(99))
    source.set_params(image_size=128)
    run("download", "ffhq")
    assert read_tree(RAW) == result
    record("download@ffhq", RAW)
    with Repo() as repo:
        repo.checkout([str(RAW)])
    assert read_tree(RAW) == result


@pytest.mark.parametrize("change", ["code", "seed", "file"])
def test_files_are_compared_with_the_source_after_a_change_of_the_code(source, result, commands, change):
    """Only files that differ are fetched; the images of the wrong count or seed are removed."""
    Path("data/ffhq/.raw.last.partial").mkdir()  # left by a killed run
    edit("psfr/sources/code.py")
    change_version("pillow")
    expected = result
    if change == "file":
        name = min(result)
        write_files(source.folder, {name: picture(99)})
        expected = result | {name: picture(99)}
    if change == "seed":
        path = Path("params.yaml")
        path.write_text(path.read_text().replace("seed: 1", "seed: 2"))
    run("download", "ffhq")
    assert [path.name for path in RAW.parent.iterdir()] == ["raw"]
    files = read_tree(RAW)
    if change == "seed":
        assert len(files) == 4 and files.items() <= FILES.items() and files != result
    else:
        assert files == expected
    if source.name == "rclone":
        num_copies = [command[0] for command in commands].count("copy")
        assert num_copies == (0 if change == "code" else 1)


def test_a_failed_download_names_the_command_that_restores_the_last_result(source, result, s3):
    s3.kill()
    source.folder.rename(source.folder.with_name("away"))
    source.set_params(count=5)
    with pytest.raises(SystemExit) as caught:
        run_main(lambda: run("download", "ffhq"))
    error = str(caught.value)
    assert error.startswith("error: ") and "\n" not in error
    assert error.endswith("; `dvc checkout data/ffhq/raw` restores the last result")
    with Repo() as repo:
        repo.checkout([str(RAW)])
    assert read_tree(RAW) == result


def test_a_failed_download_without_a_recorded_result_names_no_command(source, s3, monkeypatch):
    monkeypatch.setattr(rclone, "RETRY_DELAYS", ())
    s3.kill()
    source.folder.rename(source.folder.with_name("away"))
    source.set_params()
    with pytest.raises(SystemExit, match="error: ") as caught:
        run_main(lambda: run("download", "ffhq"))
    assert "dvc checkout" not in str(caught.value)
