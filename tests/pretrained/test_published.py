"""The published networks in the user's cache: fetched once, resumed and verified."""

import io
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import platformdirs
import pytest
import torch

from psfr import restore
from psfr.data import images
from psfr.networks import serialization
from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.generator import Generator
from psfr.photos import detection
from psfr.photos.restorer import Restorer
from psfr.pretrained import download, published
from psfr.pretrained.network_files import PUBLISHED_FPN, PUBLISHED_GENERATOR
from psfr.utils.errors import UserError
from tests.helpers import photos
from tests.helpers.webserver import WebServer

FPN, GENERATOR = f"/{PUBLISHED_FPN}", f"/{PUBLISHED_GENERATOR}"  # paths on the server


def weights_file(**shapes: torch.Size) -> bytes:
    """Return a file of torch.save whose tensors repeat one number, so that it is small at any shapes."""
    buffer = io.BytesIO()
    dtypes = {key: torch.int64 if key.endswith("num_batches_tracked") else torch.float32 for key in shapes}
    torch.save({key: torch.full((), 0.01).to(dtypes[key]).expand(shape) for key, shape in shapes.items()}, buffer)
    return buffer.getvalue()


def published_file(kind: str, network_class: type[torch.nn.Module]) -> bytes:
    """Return a weights file with the published keys, shapes and dtypes."""
    with torch.device("meta"):
        tensors = network_class().state_dict()
    return weights_file(**{serialization._to_published_key(kind, key): value.shape for key, value in tensors.items()})


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """The user's cache, empty; downloads are not retried and written in small chunks."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name, **_: tmp_path / "cache" / name)
    monkeypatch.delenv(published.MIRROR_VARIABLE, raising=False)
    monkeypatch.setattr(download, "RETRY", download.RETRY.new(total=0))
    monkeypatch.setattr(download, "CHUNK", 64)
    return tmp_path / "cache/psfr"


@pytest.fixture
def server():
    """A server that has files of the published names."""
    contents = {FPN: weights_file(a=torch.Size([3])), GENERATOR: weights_file(b=torch.Size([4]))}
    with WebServer(contents).serving() as web:
        yield web


def run_restore(monkeypatch, capsys, *arguments: object) -> tuple[object, str]:
    """Run psfr-restore; return its exit status or error message, and what it printed."""
    monkeypatch.setattr(sys, "argv", ["psfr-restore", *map(str, arguments)])
    status = None
    try:
        restore.cli()
    except SystemExit as stop:
        status = stop.code
    return status, "".join(capsys.readouterr())


@pytest.mark.heavy
def test_one_command_restores_a_photograph(tmp_path, monkeypatch, capsys, cache):
    """At the published shapes, with a dropped connection. A second run fetches nothing."""
    contents = {FPN: published_file("fpn", FaceParsingNetwork), GENERATOR: published_file("generator", Generator)}
    monkeypatch.setattr(download, "RETRY", download.RETRY.new(total=5, backoff_factor=0))
    monkeypatch.setattr(detection, "find_faces", lambda _: [photos.FRAME])
    # The networks are built, but a face of 512 pixels would take them seconds.
    monkeypatch.setattr(Restorer, "__call__", lambda restorer, aligned: photos.flawed_restorer(aligned))
    images.write(tmp_path / "photo.png", photos.astronaut())
    with WebServer(contents, cuts=[30_000]).serving() as web:
        arguments = (tmp_path / "photo.png", "-o", tmp_path / "out.png", "--model", "published", "--strength", 1)
        status, printed = run_restore(monkeypatch, capsys, *arguments, "--mirror", web.address)
        assert status is None and "out.png: 1 face" in printed
        assert "CC BY-NC-SA 4.0: no commercial use" in printed and "100%" in printed
        requests = [(path, part is not None) for path, part, _ in web.requests]
        assert requests == [(FPN, False), (FPN, True), (GENERATOR, False)]
        assert np.abs(images.read(tmp_path / "out.png").astype(int) - photos.astronaut()).max() > 5
        web.requests.clear()
    status, printed = run_restore(monkeypatch, capsys, *arguments)
    assert status is None and "out.png: 1 face" in printed and "CC BY-NC-SA" not in printed and not web.requests
    assert sorted(path.name for path in cache.iterdir() if path.name != ".lock") == sorted(
        name + suffix for name in published.NAMES for suffix in ("", ".sha256")
    )


def test_ctrl_c_is_resumed(tmp_path, monkeypatch, capsys, server, cache):
    class InterruptedBar(download.tqdm):
        def update(self, n: float | None = 1) -> bool | None:
            if self.n >= 512:
                raise KeyboardInterrupt
            return super().update(n)

    arguments = (tmp_path / "photo.png", "-o", tmp_path / "out.png", "--model", "published", "--mirror", server.address)
    images.write(tmp_path / "photo.png", photos.astronaut())
    with monkeypatch.context() as patch:
        patch.setattr(download, "tqdm", InterruptedBar)
        status, printed = run_restore(monkeypatch, capsys, *arguments)
    assert status == 130 and "stopped by Ctrl-C: run it again to resume" in printed
    server.requests.clear()
    assert published.fetch_published(server.address).read_bytes() == server.files[GENERATOR]
    assert [(path, part) for path, part, _ in server.requests] == [(FPN, "bytes=576-"), (GENERATOR, None)]


def test_a_changed_file_is_refused(server, cache):
    """A damaged file is fetched again, but only as it was when it was first used."""
    published.fetch_published(server.address)
    original = server.files[GENERATOR]
    (cache / PUBLISHED_GENERATOR).write_bytes(original[:-1])
    server.files[GENERATOR] = weights_file(b=torch.Size([5]))
    message = (
        r"net_G\.pth has SHA-256 \w{8}\.\.\., not \w{8}\.\.\.: if the authors .* remove .*net_G\.pth\.sha256 and run"
    )
    with pytest.raises(UserError, match=message):
        published.fetch_published(server.address)
    server.files[GENERATOR] = original
    assert published.fetch_published(server.address).read_bytes() == original
    # A file that is put there by hand is recorded at its first use.
    for path in cache.glob("*.sha256"):
        path.unlink()
    server.requests.clear()
    published.fetch_published(server.address)
    assert not server.requests and len(list(cache.glob("*.sha256"))) == 2


def test_a_page_instead_of_the_file_is_refused(server, cache):
    server.files[FPN] = b"<html>sign in</html>"
    with pytest.raises(UserError, match=r"90000\.pth is not a weights file: name another --mirror and run it again"):
        published.fetch_published(server.address)
    assert not list(cache.glob("*.pth"))


def test_the_variable_names_a_folder_or_a_url(tmp_path, monkeypatch, server, cache):
    (tmp_path / "mirror").mkdir()
    for name, content in server.files.items():
        (tmp_path / f"mirror{name}").write_bytes(content)
    monkeypatch.setenv(published.MIRROR_VARIABLE, str(tmp_path / "mirror"))
    assert published.fetch_published().read_bytes() == server.files[GENERATOR] and not server.requests
    for path in cache.glob("*.pth"):
        path.unlink()
    monkeypatch.setenv(published.MIRROR_VARIABLE, server.address)
    assert published.fetch_published().is_file() and len(server.requests) == 2


def test_nothing_can_be_reached(tmp_path, monkeypatch, capsys):
    """One line, for servers and for folders. Passwords do not get into the partial download's record."""
    arguments = (tmp_path / "photo.png", "-o", tmp_path / "out.png", "--model", "published", "--mirror")
    for mirror, reason in {"http://127.0.0.1:9": "Connection refused", tmp_path: "No such file"}.items():
        status, _ = run_restore(monkeypatch, capsys, *arguments, mirror)
        expected = rf"cannot be fetched from {mirror}/{PUBLISHED_FPN} \(.*{reason}.*\): download .* --mirror or PSFR_W"
        assert isinstance(status, str) and len(status.splitlines()) == 1
        with pytest.raises(UserError, match=expected):
            published.fetch_published(str(mirror))
    with pytest.raises(UserError, match="not a plain http"):
        published.fetch_published("https://user:secret@host/x")
    status, printed = run_restore(monkeypatch, capsys, *arguments, "x", "--model", "models")
    assert status == 2 and "--mirror: needs --model published" in printed


def test_several_processes_fetch_once(server):
    with ThreadPoolExecutor(4) as threads:
        paths = set(threads.map(lambda _: published.fetch_published(server.address), range(4)))
    assert len(paths) == 1 and len(server.requests) == 2
