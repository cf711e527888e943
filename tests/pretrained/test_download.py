"""Downloads from local servers that break connections, refuse requests, change their files, or are unreachable."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from psfr.pretrained import download
from psfr.pretrained.download import Downloader, DownloadError
from tests.helpers.internet import Internet, folder
from tests.helpers.webserver import WebServer

CONTENT = np.random.default_rng(0).bytes(500_000)
OTHER = np.random.default_rng(1).bytes(400_000)


@pytest.fixture
def server():
    with WebServer({"/net.pth": CONTENT}).serving() as web:
        yield web


@pytest.fixture
def delays(monkeypatch):
    """The delays between retries, recorded instead of waited for."""
    delays = []
    monkeypatch.setattr(time, "sleep", delays.append)
    return delays


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".net.pth.partial"


@pytest.fixture
def no_retries(monkeypatch):
    monkeypatch.setattr(download, "RETRY", download.RETRY.new(total=0))


def interrupt_download(server, path, sent: int = 300_000) -> int:
    """Download in a first run that is interrupted, and return the number of bytes that it leaves."""
    server.cuts = [sent]
    with pytest.raises(DownloadError, match=r"IncompleteRead.*, 1 times"):
        Downloader().fetch(f"{server.address}/net.pth", path)
    server.requests.clear()
    size = path.stat().st_size
    assert sent - download.CHUNK <= size <= sent and path.read_bytes() == CONTENT[:size]
    return size


def complete_file(path: Path) -> bytes:
    """Return the content of a complete download, whose metadata file must be gone."""
    assert os.listdir(path.parent) == [path.name]
    return path.read_bytes()


def test_resumes_after_dropped_connection(server, path, delays):
    server.cuts = [200_000, 150_000]
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert complete_file(path) == CONTENT
    offsets = [int(requested.removeprefix("bytes=").removesuffix("-")) for _, requested, _ in server.requests[1:]]
    assert len(offsets) == 2 and 100_000 < offsets[0] <= 200_000 < offsets[1] <= 350_000
    assert all(etag.startswith('"') for _, _, etag in server.requests[1:])


def test_progress_resets_the_retries(server, path, delays):
    server.cuts = [70_000] * 7
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert complete_file(path) == CONTENT and len(server.requests) == 8
    assert delays == []


def test_the_next_run_resumes(server, path, no_retries):
    size = interrupt_download(server, path)
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert complete_file(path) == CONTENT and [requested for _, requested, _ in server.requests] == [f"bytes={size}-"]


@pytest.mark.process
def test_resumes_after_sigkill(server, path):
    program = (
        "import sys; from pathlib import Path; from psfr.pretrained.download import Downloader; "
        "Downloader().fetch(sys.argv[1], Path(sys.argv[2]))"
    )
    server.cuts, server.hold = [300_000], True
    child = subprocess.Popen(
        [sys.executable, "-c", program, f"{server.address}/net.pth", str(path)], cwd=Path(__file__).parents[2]
    )
    while not (path.is_file() and path.stat().st_size >= 300_000 - 2 * download.CHUNK):
        assert child.poll() is None
        time.sleep(0.01)
    child.kill()
    child.wait()
    size = path.stat().st_size
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert complete_file(path) == CONTENT and [requested for _, requested, _ in server.requests] == [
        None,
        f"bytes={size}-",
    ]


def test_changed_file_is_downloaded_from_the_start(server, path, no_retries):
    interrupt_download(server, path)
    server.files["/net.pth"] = OTHER
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert complete_file(path) == OTHER and server.requests[0][1] and len(server.requests) == 1


def test_other_address_is_downloaded_from_the_start(server, path, no_retries):
    interrupt_download(server, path)
    server.files["/other.pth"] = OTHER
    Downloader().fetch(f"{server.address}/other.pth", path)
    assert complete_file(path) == OTHER and server.requests == [("/other.pth", None, None)]


def test_server_without_ranges(server, path, no_retries):
    interrupt_download(server, path)
    server.ranges = False
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert complete_file(path) == CONTENT


def test_server_that_sends_another_range(server, path, delays):
    server.cuts, server.shift = [300_000], 7
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert complete_file(path) == CONTENT and [requested is None for _, requested, _ in server.requests] == [
        True,
        False,
        True,
    ]


def test_server_that_ignores_if_range(server, path, delays):
    """The ETag of the response shows that the file has changed."""
    server.if_range, server.cuts, server.after = False, [300_000], {"/net.pth": CONTENT[::-1]}
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert complete_file(path) == CONTENT[::-1] and [requested is None for _, requested, _ in server.requests] == [
        True,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("headers", "validator"),
    [
        ({"ETag": 'W/"a"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}, "Thu, 01 Jan 2026 00:00:00 GMT"),
        ({"ETag": 'W/"a"'}, None),
        ({}, None),
    ],
)
def test_validators(server, path, delays, no_retries, headers, validator):
    """Strong ETags and Last-Modified identify a file; without either, a later run downloads it from the start."""
    server.etag, server.last_modified = False, headers.pop("Last-Modified", "")
    server.headers, server.cuts = headers, [300_000]
    with pytest.raises(DownloadError) as error:
        Downloader().fetch(f"{server.address}/net.pth", path)
    assert ("bytes are kept" in str(error.value)) == (validator is not None)
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert complete_file(path) == CONTENT and server.requests[1][2] == validator
    assert (server.requests[1][1] is None) == (validator is None)


@pytest.mark.parametrize("changed", [CONTENT, OTHER])
def test_without_validator_the_same_run_resumes_files_of_equal_length(server, path, delays, changed):
    server.etag, server.cuts, server.after = False, [300_000], {"/net.pth": changed}
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert complete_file(path) == changed and [requested is None for _, requested, _ in server.requests] == (
        [True, False] if changed is CONTENT else [True, False, True]
    )


def test_complete_partial_file_is_not_downloaded_again(server, path, no_retries):
    interrupt_download(server, path)
    path.write_bytes(CONTENT)
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert (
        complete_file(path) == CONTENT
        and server.requests[0][1] == f"bytes={len(CONTENT)}-"
        and len(server.requests) == 1
    )


def test_damaged_metadata(server, path, no_retries):
    interrupt_download(server, path)
    download.partial_files(path)[1].write_text("[1")
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert complete_file(path) == CONTENT and server.requests[0][1] is None


def test_resumes_after_redirect(server, path, delays):
    server.redirects, server.cuts = {"/latest.pth": "/net.pth"}, [300_000]
    Downloader().fetch(f"{server.address}/latest.pth", path)
    assert complete_file(path) == CONTENT
    assert [(location, requested is None) for location, requested, _ in server.requests] == [
        ("/latest.pth", True), ("/net.pth", True), ("/latest.pth", False), ("/net.pth", False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("http://[::1", "Invalid IPv6 URL"),
        ("/round.pth", "Exceeded 30 redirects"),
        ("ftp://host/net.pth", "No connection adapters"),
    ],
)
def test_invalid_redirect(server, path, to, words):
    server.redirects = {"/round.pth": to}
    with pytest.raises(DownloadError, match=words):
        Downloader().fetch(f"{server.address}/round.pth", path)


def test_malformed_retry_after(server, path, delays):
    server.statuses, server.headers = [503], {"Retry-After": "soon"}
    with pytest.raises(DownloadError, match="Invalid Retry-After header: soon"):
        Downloader().fetch(f"{server.address}/net.pth", path)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_delays_grow(server, path, delays, status):
    server.statuses = [status] * 5
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert complete_file(path) == CONTENT and delays == [2, 4, 8, 16]


def test_retry_after(server, path, delays):
    server.statuses, server.headers = [429, 503], {"Retry-After": "7"}
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert complete_file(path) == CONTENT and delays == [7, 7]
    server.statuses, server.headers = [429], {"Retry-After": "86400"}
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert delays[2:] == [120], "the limit"


@pytest.mark.parametrize(("status", "words"), [(404, "404 Not Found"), (403, "403 Forbidden"), (410, "410 Gone")])
def test_permanent_errors_are_not_retried(server, path, delays, status, words):
    server.statuses = [status]
    with pytest.raises(DownloadError, match=f"^{words}$"):
        Downloader().fetch(f"{server.address}/net.pth", path)
    assert len(server.requests) == 1 and delays == [] and not path.exists()


def test_gives_up_after_all_retries(server, path, delays):
    server.statuses = [503] * 6
    with pytest.raises(DownloadError, match="^503 Service Unavailable, 6 times$"):
        Downloader().fetch(f"{server.address}/net.pth", path)
    assert len(server.requests) == 6


def test_unreachable_host_is_not_tried_for_every_file(path, delays):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        downloader = Downloader()
        for name in ("a.pth", "b.pth"):
            with pytest.raises(DownloadError, match="Connection refused, 6 times$"):
                downloader.fetch(f"{address}/{name}", path)
    assert delays == [2, 4, 8, 16]


def test_unknown_host(path, delays):
    with pytest.raises(DownloadError, match="Failed to resolve 'host.invalid'"):
        Downloader().fetch("https://host.invalid/net.pth", path)


def test_invalid_url(path):
    with pytest.raises(DownloadError, match="Invalid URL"):
        Downloader().fetch("https://", path)


def test_read_timeout_is_retried(server, path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", (1, 0.2))
    server.cuts, server.hold = [300_000], True
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert complete_file(path) == CONTENT and len(server.requests) == 2 and server.requests[1][1]


def test_file_over_the_size_limit(server, path, monkeypatch):
    monkeypatch.setattr(download, "MAX_BYTES", 100_000)
    with pytest.raises(DownloadError, match="^more than 100000 bytes$"):
        Downloader().fetch(f"{server.address}/net.pth", path)
    assert os.listdir(path.parent) == []


def test_proxy_from_the_environment(tmp_path, path, delays, monkeypatch):
    """The hosts exist only behind the proxy: with NO_PROXY, they cannot be resolved."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "net.pth").write_bytes(CONTENT)
    internet = Internet({"weights.invalid": folder(tmp_path / "files", "/models")})
    with internet.serving(tmp_path / "authority.pem"):
        monkeypatch.setenv("HTTPS_PROXY", internet.proxy)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "authority.pem"))
        Downloader().fetch("https://weights.invalid/models/net.pth", path)
        assert path.read_bytes() == CONTENT and internet.requests == ["GET https://weights.invalid/models/net.pth"]
        monkeypatch.setenv("NO_PROXY", "weights.invalid")
        with pytest.raises(DownloadError, match="Failed to resolve 'weights.invalid'"):
            Downloader().fetch("https://weights.invalid/models/net.pth", path)
        monkeypatch.delenv("NO_PROXY")
        with pytest.raises(DownloadError, match="^the proxy: Tunnel connection failed: 502"):
            Downloader().fetch("https://elsewhere.invalid/net.pth", path)
