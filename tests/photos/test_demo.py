"""`psfr-demo`: a photograph is uploaded, restored and downloaded in a browser; limits, and what it leaves behind."""

import importlib.util
import socket
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from psfr.data import images
from psfr.photos import demo, detection, models
from psfr.photos.alignment import Frame
from psfr.photos.restorer import Restorer
from psfr.utils.errors import UserError
from tests.helpers import photos
from tests.helpers.browser import browser  # noqa: F401
from tests.photos.test_restore import run_folder  # noqa: F401 (fixture)


@pytest.fixture
def hosts(monkeypatch) -> set[str]:
    """The hosts whose addresses this process asks for."""
    seen: set[str] = set()
    resolve = socket.getaddrinfo

    def record(host, *arguments, **options):
        seen.add(host)
        return resolve(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", record)
    return seen


def test_in_a_browser(browser, run_folder, hosts, tmp_path, monkeypatch):
    """Of two faces, the chosen one is restored, as by `Restorer`; no other server is asked, no file is left on disk."""
    images.write(tmp_path / "head.png", photos.astronaut())
    Image.new("RGB", (60, 40), "olive").save(tmp_path / "field.png")
    (tmp_path / "large.png").write_bytes(bytes(2**20 + 1))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    frames = [photos.FRAME, Frame(10 + 10j, 60 + 0j)]
    monkeypatch.setattr(detection, "find_faces", lambda image: frames if len(image) == 256 else [])
    options = demo.parse_options(["--model", str(run_folder), "--max-megabytes", "1"])
    requests = []
    with demo.serving(options) as address:
        assert address.startswith("http://127.0.0.1:")
        page = browser.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        upload, start = page.locator("input[type=file]"), page.get_by_role("button", name="Restore")
        page.get_by_label("Choose the strength").uncheck()
        upload.set_input_files(tmp_path / "head.png")
        page.get_by_label("2: 60 pixels").check()
        assert page.get_by_label("1: 175 pixels").is_visible() and not page.get_by_label("1: 175 pixels").is_checked()
        start.click()
        page.locator(".psfr-faces").wait_for()
        with page.expect_download() as download:
            page.get_by_text("Download the result").click()
        assert download.value.suggested_filename == "head-restored.png"
        expected = Restorer.from_pretrained(run_folder).restore(photos.astronaut(), strength=1.0, faces=[2]).image
        assert (np.array(Image.open(download.value.path())) == expected).all()

        slider = page.locator(".slider-wrap, [data-testid=imageslider]").first
        handle = page.locator(".handle, .inner").first
        before, box = slider.screenshot(), handle.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] - 90, box["y"] + box["height"] / 2, steps=3)
        page.mouse.up()
        assert slider.screenshot() != before and handle.bounding_box()["x"] < box["x"] - 50

        page.get_by_label("Clear").first.click()
        upload.set_input_files(tmp_path / "field.png")
        page.locator(".psfr-error").wait_for()
        assert page.locator(".psfr-error").inner_text() == "field.png: no face found: choose another photograph"
        page.get_by_label("Clear").first.click()
        upload.set_input_files(tmp_path / "large.png")
        page.get_by_text("exceed the maximum allowed size of 1.0 MB").wait_for()
        page.close()
        busy = demo.parse_options(["--port", address.rstrip("/").rpartition(":")[2]])
        with pytest.raises(UserError, match="cannot serve on port"), demo.serving(busy):
            pass
    assert all(request.startswith((address, "data:", "blob:")) for request in requests)
    assert {host for host in hosts if host not in (None, "localhost")} <= {"127.0.0.1"}
    assert list((tmp_path / "temporary").iterdir()) == []


def test_limits_and_models(tmp_path, monkeypatch):
    images.write(tmp_path / "head.png", photos.astronaut())
    options = demo.parse_options(["--max-megapixels", "0", "--model", "a.pth"])
    assert options.host == "127.0.0.1"
    with pytest.raises(UserError, match=r"head\.png: 256x256 pixels are more than 0 megapixels"):
        demo.restore(tmp_path / "head.png", "models", options)
    monkeypatch.chdir(tmp_path)
    assert demo.list_models(options.model) == ["a.pth", "published"]
    Path("models/psfrgan").mkdir(parents=True)
    Path("models", models.GENERATOR_FILE).touch()
    assert demo.list_models([]) == ["models", "published"]


@pytest.mark.heavy
def test_without_gradio(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["psfr-demo"])
    with pytest.raises(UserError, match=r"needs gradio, which is not installed: install it with `pip install "):
        demo.main()
