"""Downloads from real servers on this machine that break off, refuse, change their files, or are not there."""

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
def pauses(monkeypatch):
    """How long was waited, without waiting."""
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".net.pth.partial"


@pytest.fixture
def one_try(monkeypatch):
    monkeypatch.setattr(download, "RETRY", download.RETRY.new(total=0))


def begun(server, path, sent: int = 300_000) -> int:
    """A first run that breaks off; the bytes that it left."""
    server.cuts = [sent]
    with pytest.raises(DownloadError, match=r"IncompleteRead.*, 1 times"):
        Downloader().fetch(f"{server.address}/net.pth", path)
    server.asked.clear()
    left = path.stat().st_size
    assert sent - download.CHUNK <= left <= sent and path.read_bytes() == CONTENT[:left]
    return left


def whole(path: Path) -> bytes:
    assert os.listdir(path.parent) == [path.name], "the note is gone"
    return path.read_bytes()


def test_a_dropped_connection_is_gone_on_with(server, path, pauses):
    server.cuts = [200_000, 150_000]
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert whole(path) == CONTENT
    places = [int(asked.removeprefix("bytes=").removesuffix("-")) for _, asked, _ in server.asked[1:]]
    assert len(places) == 2 and 100_000 < places[0] <= 200_000 < places[1] <= 350_000
    assert all(same.startswith('"') for _, _, same in server.asked[1:])


def test_a_connection_that_drops_more_often_than_is_tried_gets_on(server, path, pauses):
    server.cuts = [70_000] * 7
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert whole(path) == CONTENT and len(server.asked) == 8
    assert pauses == [], "every try got on: no pause grows"


def test_the_next_run_goes_on(server, path, one_try):
    left = begun(server, path)
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert whole(path) == CONTENT and [asked for _, asked, _ in server.asked] == [f"bytes={left}-"]


def test_a_killed_process_is_gone_on_with(server, path):
    program = "import sys; from pathlib import Path; from psfr.pretrained import download; download.Downloader().fetch(sys.argv[1], Path(sys.argv[2]))"
    server.cuts, server.hold = [300_000], True
    child = subprocess.Popen(
        [sys.executable, "-c", program, f"{server.address}/net.pth", str(path)], cwd=Path(__file__).parents[2]
    )
    while not (path.is_file() and path.stat().st_size >= 300_000 - 2 * download.CHUNK):
        assert child.poll() is None
        time.sleep(0.01)
    child.kill()
    child.wait()
    left = path.stat().st_size
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert whole(path) == CONTENT and [asked for _, asked, _ in server.asked] == [None, f"bytes={left}-"]


def test_a_file_that_has_changed_is_begun_anew(server, path, one_try):
    begun(server, path)
    server.files["/net.pth"] = OTHER
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert whole(path) == OTHER and server.asked[0][1] and len(server.asked) == 1


def test_another_address_is_begun_anew(server, path, one_try):
    begun(server, path)
    server.files["/other.pth"] = OTHER
    Downloader().fetch(f"{server.address}/other.pth", path)
    assert whole(path) == OTHER and server.asked == [("/other.pth", None, None)]


def test_a_server_that_gives_no_parts_is_begun_anew(server, path, one_try):
    begun(server, path)
    server.ranges = False
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert whole(path) == CONTENT


def test_a_server_that_gives_another_part_is_begun_anew(server, path, pauses):
    server.cuts, server.shift = [300_000], 7
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert whole(path) == CONTENT and [asked is None for _, asked, _ in server.asked] == [True, False, True]


def test_parts_of_a_file_that_has_changed_are_refused(server, path, pauses):
    """By a server that does not know If-Range: its ETag is another."""
    server.if_range, server.cuts, server.after = False, [300_000], {"/net.pth": CONTENT[::-1]}
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert whole(path) == CONTENT[::-1] and [asked is None for _, asked, _ in server.asked] == [True, False, True]


@pytest.mark.parametrize(
    ("headers", "same"),
    [
        ({"ETag": 'W/"a"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}, "Thu, 01 Jan 2026 00:00:00 GMT"),
        ({"ETag": 'W/"a"'}, None),
        ({}, None),
    ],
)
def test_what_tells_a_file_from_a_changed_one(server, path, pauses, one_try, headers, same):
    """Where nothing does, a later run begins anew, and the same run goes on with a file of the same length."""
    server.etag, server.modified = False, headers.pop("Last-Modified", "")
    server.headers, server.cuts = headers, [300_000]
    with pytest.raises(DownloadError) as error:
        Downloader().fetch(f"{server.address}/net.pth", path)
    assert ("bytes are kept" in str(error.value)) == (same is not None)
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert whole(path) == CONTENT and server.asked[1][2] == same
    assert (server.asked[1][1] is None) == (same is None)


@pytest.mark.parametrize("changed", [CONTENT, OTHER])
def test_the_same_run_goes_on_by_the_length(server, path, pauses, changed):
    server.etag, server.cuts, server.after = False, [300_000], {"/net.pth": changed}
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert whole(path) == changed and [asked is None for _, asked, _ in server.asked] == (
        [True, False] if changed is CONTENT else [True, False, True]
    )


def test_a_file_that_was_whole_is_not_fetched_again(server, path, one_try):
    begun(server, path)
    path.write_bytes(CONTENT)
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert whole(path) == CONTENT and server.asked[0][1] == f"bytes={len(CONTENT)}-" and len(server.asked) == 1


def test_a_damaged_note_is_begun_anew(server, path, one_try):
    begun(server, path)
    download.partial_files(path)[1].write_text("[1")
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert whole(path) == CONTENT and server.asked[0][1] is None


def test_redirected_and_gone_on_with(server, path, pauses):
    server.moved, server.cuts = {"/latest.pth": "/net.pth"}, [300_000]
    Downloader().fetch(f"{server.address}/latest.pth", path)
    assert whole(path) == CONTENT and [(place, asked is None) for place, asked, _ in server.asked] == [
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
def test_redirected_astray(server, path, to, words):
    server.moved = {"/round.pth": to}
    with pytest.raises(DownloadError, match=words):
        Downloader().fetch(f"{server.address}/round.pth", path)


def test_an_odd_word_of_when_to_come_again(server, path, pauses):
    server.statuses, server.headers = [503], {"Retry-After": "soon"}
    with pytest.raises(DownloadError, match="Invalid Retry-After header: soon"):
        Downloader().fetch(f"{server.address}/net.pth", path)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_pauses_grow(server, path, pauses, status):
    server.statuses = [status] * 5
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert whole(path) == CONTENT and pauses == [2, 4, 8, 16]


def test_the_server_says_how_long_to_wait(server, path, pauses):
    server.statuses, server.headers = [429, 503], {"Retry-After": "7"}
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert whole(path) == CONTENT and pauses == [7, 7]
    server.statuses, server.headers = [429], {"Retry-After": "86400"}
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert pauses[2:] == [120], "no day"


@pytest.mark.parametrize(("status", "words"), [(404, "404 Not Found"), (403, "403 Forbidden"), (410, "410 Gone")])
def test_what_does_not_pass_is_said_at_once(server, path, pauses, status, words):
    server.statuses = [status]
    with pytest.raises(DownloadError, match=f"^{words}$"):
        Downloader().fetch(f"{server.address}/net.pth", path)
    assert len(server.asked) == 1 and pauses == [] and not path.exists()


def test_a_server_that_stays_busy_is_given_up(server, path, pauses):
    server.statuses = [503] * 6
    with pytest.raises(DownloadError, match="^503 Service DownloadError, 6 times$"):
        Downloader().fetch(f"{server.address}/net.pth", path)
    assert len(server.asked) == 6


def test_a_host_out_of_reach_is_not_tried_for_every_file(path, pauses):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        web = Downloader()
        for name in ("a.pth", "b.pth"):
            with pytest.raises(DownloadError, match="Connection refused, 6 times$"):
                web.fetch(f"{address}/{name}", path)
    assert pauses == [2, 4, 8, 16]


def test_a_host_of_no_name(path, pauses):
    with pytest.raises(DownloadError, match="Failed to resolve 'host.invalid'"):
        Downloader().fetch("https://host.invalid/net.pth", path)


def test_no_address(path):
    with pytest.raises(DownloadError, match="Invalid URL"):
        Downloader().fetch("https://", path)


def test_a_silent_server_is_asked_again(server, path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", (1, 0.2))
    server.cuts, server.hold = [300_000], True
    Downloader().fetch(f"{server.address}/net.pth", path)
    assert whole(path) == CONTENT and len(server.asked) == 2 and server.asked[1][1]


def test_a_host_that_sends_on_fills_no_disk(server, path, monkeypatch):
    monkeypatch.setattr(download, "MAX_BYTES", 100_000)
    with pytest.raises(DownloadError, match="^more than 100000 bytes$"):
        Downloader().fetch(f"{server.address}/net.pth", path)
    assert os.listdir(path.parent) == []


def test_a_proxy_is_honoured(tmp_path, path, pauses, monkeypatch):
    """The hosts exist behind the proxy alone: without it, or where NO_PROXY leaves it out, there are none."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "net.pth").write_bytes(CONTENT)
    internet = Internet({"weights.invalid": folder(tmp_path / "files", "/models")})
    with internet.serving(tmp_path / "authority.pem"):
        monkeypatch.setenv("HTTPS_PROXY", internet.proxy)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "authority.pem"))
        Downloader().fetch("https://weights.invalid/models/net.pth", path)
        assert path.read_bytes() == CONTENT and internet.asked == ["GET https://weights.invalid/models/net.pth"]
        monkeypatch.setenv("NO_PROXY", "weights.invalid")
        with pytest.raises(DownloadError, match="Failed to resolve 'weights.invalid'"):
            Downloader().fetch("https://weights.invalid/models/net.pth", path)
        monkeypatch.delenv("NO_PROXY")
        with pytest.raises(DownloadError, match="^the proxy: Tunnel connection failed: 502"):
            Downloader().fetch("https://elsewhere.invalid/net.pth", path)
