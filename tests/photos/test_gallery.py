"""The page of `psfr-restore --page`: what it shows, names of any kind, a second run, and the page in a browser."""

import sys
import tomllib
from fnmatch import fnmatch
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import tifffile
from PIL import Image

from psfr import restore
from psfr.data import images
from psfr.photos import gallery, models
from psfr.photos.alignment import Frame
from psfr.photos.io import Photograph
from psfr.photos.restoration import RestoredFace
from psfr.photos.restorer import Restoration, Restorer
from psfr.utils.errors import UserError
from tests.helpers import photos
from tests.helpers.browser import browser  # noqa: F401

NAME = "a \"b\" <i>&'c' #1 100% \N{BEETLE}.png"

SHOWN = "[...document.querySelectorAll('article .compare img')].every(image => image.complete && image.naturalWidth)"


@pytest.fixture
def run(monkeypatch, capsys):
    """Run psfr.restore with a model that inverts a photograph; a square one has two faces, one as of somebody else."""
    nothing = np.zeros((8, 8, 3), np.uint8)
    frames = photos.FRAME, Frame(10 + 10j, 60 + 0j)
    faces = [
        RestoredFace(frame, nothing, nothing[:, :, 0], nothing[:, :, 0], nothing, 0.5, (0.5, 0.1), distance, number)
        for frame, distance, number in zip(frames, (0.25, 0.65), (1, 2), strict=True)
    ]

    def invert(_: Restorer, photograph: Photograph, *__, **___) -> Restoration:
        inverted = Photograph(np.iinfo(photograph.pixels.dtype).max - photograph.pixels)
        is_square = len(set(photograph.pixels.shape[:2])) == 1
        return Restoration(inverted, faces if is_square else [], len(faces))

    monkeypatch.setattr(Restorer, "restore", invert)
    monkeypatch.setattr(Restorer, "from_pretrained", lambda *_, **__: Restorer.__new__(Restorer))
    monkeypatch.setattr(models, "model_fingerprint", str)

    def call(*arguments: object, page: bool = True) -> str:
        monkeypatch.setattr(sys, "argv", ["restore", *map(str, arguments), *(["--page"] if page else [])])
        with pytest.raises((UserError, SystemExit, KeyboardInterrupt)) as end:
            restore.main()
            sys.exit(0)
        return capsys.readouterr().out + str(end.value)

    return call


class Links(HTMLParser):
    """The addresses and the texts of a page."""

    def __init__(self, page: Path):
        super().__init__()
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value for name, value in attrs if name in ("src", "href") and value]

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())

    def files(self) -> list[str]:
        return [unquote(address) for address in self.addresses if not address.startswith(("#", "data:"))]


def make_album(folder: Path) -> None:
    images.write(folder / "sub" / NAME, photos.astronaut())
    deep = np.full((40, 40, 3), 30000, np.uint16)
    with tifffile.TiffWriter(folder / "scan.tif") as file:
        for shape in ((40, 40), (40, 60)):
            file.write(np.resize(deep, (*shape, 3)), photometric="rgb")
    Image.new("RGB", (1700, 1700), "navy").save(folder / "large.jpg")
    Image.new("RGB", (900, 500), "olive").save(folder / "field.png")
    (folder / "broken.jpg").write_bytes(b"<b>no picture")
    (folder / "raw.cr2").write_bytes(b"II*\0")


@pytest.mark.heavy
def test_shows_everything_also_when_all_is_passed_over(run, tmp_path):
    make_album(tmp_path / "in")
    out = tmp_path / "out"
    assert "0 passed over" in run(tmp_path / "in", "-o", out, page=False)
    assert not (out / "index.html").exists()
    assert "4 passed over" in run(tmp_path / "in", "-o", out), "the page needs no other restoration"
    page = Links(out / "index.html")
    assert {f"sub/{NAME}", "scan.tif, page 1", "large.jpg", "field.png"} <= set(page.texts)
    assert page.texts.count("May look like another person") == page.texts.count("0.65") == 3
    assert any("broken.jpg: not a readable image" in text for text in page.texts)
    assert any("1 .cr2: convert them" in text for text in page.texts)
    files = page.files()
    assert {f"sub/{NAME}", "scan_1.png", "large.png"} <= set(files) and "field.png" not in files
    shown = {file: Image.open(out / file).size for file in files if file.startswith("page/")}
    assert {path.name for path in (out / "page").iterdir()} == {Path(file).name for file in shown}
    assert max(map(max, shown.values())) == gallery.MAX_SIDE and (320, 178) in shown.values()
    assert "http" not in (out / "index.html").read_text().replace("http://www.w3.org/2000/svg", "")

    content = (out / "index.html").read_bytes()
    times = {file: (out / file).stat().st_mtime_ns for file in shown}
    assert "4 passed over" in run(tmp_path / "in", "-o", out)
    assert (out / "index.html").read_bytes() == content
    assert {file: (out / file).stat().st_mtime_ns for file in shown} == times


def test_images_follow_the_results(run, tmp_path, monkeypatch):
    """Those of former results are removed, files of the user are not; an interrupted write leaves the old page."""
    album, out = tmp_path / "in", tmp_path / "out"
    images.write(album / "a.png", photos.astronaut())
    images.write(out / "page" / "mine.png", photos.astronaut())
    (out / "page" / "mine.jpg").write_bytes(b"mine")
    run(album, "-o", out)
    before, first = (np.array(Image.open(path)).astype(int) for path in sorted((out / "page").glob("*-[ab]*r*.jpg")))
    assert np.abs(before + first - 255).mean() < 6
    images.write(album / "a.png", photos.sepia(photos.astronaut()))
    run(album, "-o", out)
    assert len(list((out / "page").iterdir())) == 2 + 2 * 3
    assert {Path(file).name for file in Links(out / "index.html").files()} >= {
        path.name for path in (out / "page").iterdir() if not path.name.startswith("mine")
    }
    content = (out / "index.html").read_bytes()

    def interrupt(self: Path, text: str, **_: object) -> None:
        self.write_bytes(text.encode()[:500])
        raise KeyboardInterrupt

    images.write(album / "b.png", photos.astronaut())
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", interrupt)
        run(album, "-o", out)
    assert (out / "index.html").read_bytes() == content
    run(album, "-o", out)
    assert "b.png" in Links(out / "index.html").texts


def test_of_one_photograph_and_beside_a_page_of_something_else(run, tmp_path):
    images.write(tmp_path / "in.png", photos.astronaut())
    run(tmp_path / "in.png", "-o", tmp_path / "out.png")
    assert "in.png" in Links(tmp_path / "index.html").texts
    (tmp_path / "index.html").write_text("<title>Home</title>")
    (tmp_path / "out.png").unlink()
    assert "index.html: not a page of psfr-restore" in run(tmp_path / "in.png", "-o", tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


def test_a_photograph_without_a_face_is_compared_if_its_background_changed(tmp_path):
    photo, result = tmp_path / "a.png", tmp_path / "out/a.png"
    images.write(photo, photos.astronaut())
    images.write(result, photos.sepia(photos.astronaut()))
    for compare_all in (True, False):
        page = gallery.Gallery(tmp_path / "out", photo, 0.6, compare_all)
        page.add(photo, [result], [[]])
        links = Links(page.write({}, [], []))
        assert ("Open the result" in links.texts) == compare_all == ("No face restored." in links.texts)
        assert len(links.files()) == (3 if compare_all else 2)


def test_the_template_is_installed():
    pyproject = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    patterns = pyproject["tool"]["setuptools"]["package-data"]["psfr.photos"]
    assert any(fnmatch(gallery.TEMPLATE.name, pattern) for pattern in patterns)


def bright_share(compare) -> float:
    """Return which part of the middle row of an element is bright: what of the inverted black photograph is seen."""
    row = np.array(Image.open(BytesIO(compare.screenshot())).convert("L"))[20]
    return float((row > 128).mean())


def test_in_a_browser(browser, run, tmp_path):
    """A click, a drag, keys and a finger move the slider; only files of the page are read; it fits a phone."""
    Image.new("RGB", (400, 400)).save(tmp_path / "black.png")
    run(tmp_path / "black.png", "-o", tmp_path / "out")
    address = (tmp_path / "out/index.html").as_uri()
    requests, errors = [], []
    page = browser.new_page(viewport={"width": 1000, "height": 800}, color_scheme="light")
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(error))
    page.goto(address)
    compare, slider = page.locator("article .compare"), page.locator("article .compare input[type=range]")
    page.wait_for_function(SHOWN)
    box = compare.bounding_box()
    assert bright_share(compare) == pytest.approx(0.5, abs=0.02)
    compare.click(position={"x": 0.25 * box["width"], "y": 30})
    assert bright_share(compare) == pytest.approx(0.75, abs=0.02) and slider.input_value() == "25"
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 210, steps=4)
    page.mouse.up()
    page.mouse.move(box["x"] + 5, box["y"] + 210)
    assert bright_share(compare) == pytest.approx(0.1, abs=0.02)
    for _ in range(10):
        page.keyboard.press("ArrowLeft")
    assert bright_share(compare) == pytest.approx(0.2, abs=0.02)
    assert slider.get_attribute("aria-valuetext") == "80 % before"

    page.locator("button[data-face]").nth(1).click()
    assert page.locator("dialog").is_visible() and "Identity distance 0.65" in page.locator("dialog").inner_text()
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    page.close()

    with browser.new_context(viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True) as context:
        phone = context.new_page()
        phone.goto(address)
        phone.wait_for_function(SHOWN)
        compare = phone.locator("article .compare")
        box = compare.bounding_box()
        phone.touchscreen.tap(box["x"] + 0.8 * box["width"], box["y"] + 40)
        assert bright_share(compare) == pytest.approx(0.2, abs=0.03)
        assert phone.evaluate("document.documentElement.scrollWidth") == 360
    assert not errors and all(request.startswith(("file:", "data:")) for request in requests)
