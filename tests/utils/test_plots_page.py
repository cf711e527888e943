"""The pages of `dvc plots show` and `dvc plots diff`: complete, drawn without the internet, by a real browser too."""

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import vl_convert
from PIL import Image

from psfr.utils.plots_page import VEGA_LITE
from tests.helpers.running import changed, ran

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))), None
)
PLOTS = [
    "Losses of restoration, before their weights",
    "Adversarial losses",
    "Scores of the discriminator",
    "ST-LPIPS of each test image (lower is better)",
    "Identity distance of each test image (lower is better)",
    "PSNR of each test image (higher is better)",
    "SSIM of each test image (higher is better)",
    "Cross entropy of the face parsing network",
    "IoU of each region",
    "Each test image, degraded and restored (up and to the left is better)",
]
PICTURES = ["results.png", "epoch_001.png", "epoch_002.png"]


@pytest.fixture(scope="module")
def run(finished, tmp_path_factory) -> Path:
    """A finished run and an experiment beside it, with pages of the one and of both."""
    folder = Path(shutil.copytree(finished, tmp_path_factory.mktemp("page") / "project", symlinks=True))
    ran(["python", "-m", "psfr.utils.plots_page"], folder)
    ran(["dvc", "plots", "show", "-o", "one"], folder)
    changed(folder, resamples=50)
    ran(["dvc", "exp", "save", "-n", "other"], folder)
    ran(["git", "checkout", "-q", "."], folder)
    ran(["dvc", "plots", "diff", "HEAD", "other", "-o", "two"], folder)
    return folder


def plots(page: Path) -> list[dict]:
    return [json.loads(found) for found in re.findall(r"var spec = (\{.*\});$", page.read_text(), re.MULTILINE)]


def title(plot: dict) -> str:
    return plot["title"] if isinstance(plot["title"], str) else plot["title"]["text"]


class Sources(HTMLParser):
    """What a page loads: sources of scripts and pictures, style sheets."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.found += [value for name, value in attrs if name in ("src", "srcset", "href", "data")]


def marks(svg: ET.Element) -> int:
    """How many marks of data an SVG of Vega's shows; axes, legends and lines have other roles."""
    return sum(element.get("aria-roledescription") in ("point", "tick", "rule mark") for element in svg.iter())


def expected(plot: dict) -> int:
    """A mark for each row of the data; DVC's own template for curves marks each place on the x axis."""
    values = plot["data"]["values"]
    return len({row["epoch"] for row in values}) if title(plot).startswith("Cross entropy") else len(values)


@pytest.mark.parametrize("page", ["one", "two"])
def test_the_page_shows_every_plot_and_picture(run, page):
    assert sorted(map(title, plots(run / page / "index.html"))) == sorted(PLOTS)
    pictures = Sources(run / page / "index.html").found
    assert {name for name in PICTURES if not any(name in picture for picture in pictures)} == set()


@pytest.mark.parametrize("page", ["one", "two"])
def test_the_page_loads_nothing_but_its_own_pictures(run, page):
    for source in Sources(run / page / "index.html").found:
        assert (run / page / source).is_file(), source
    text = (run / page / "index.html").read_text()
    assert "cdn.jsdelivr.net/npm/vega" not in text and "@import" not in text


def test_every_plot_has_a_mark_for_each_row(run):
    for plot in plots(run / "two" / "index.html"):
        assert {row["rev"] for row in plot["data"]["values"]} == {"HEAD", "other"}, title(plot)
        assert marks(ET.fromstring(vl_convert.vegalite_to_svg(plot, vl_version=VEGA_LITE))) == expected(plot) > 0, (
            title(plot)
        )


def test_without_a_template_the_reason_is_one_line(tmp_path):
    output = ran(
        [
            "python",
            "-c",
            f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r}); from psfr.utils import errors, plots_page; errors.run(plots_page.main)",
        ],
        tmp_path,
        status=1,
    )
    assert output == "error: .dvc/plots/page.html: no such file: run this in the top folder of the project\n"


def browsed(page: Path, *arguments: str) -> str:
    """What headless Chromium prints about a page, without any network."""
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={page.parent / 'browser'}",
        "--window-size=1280,2600",
        "--virtual-time-budget=10000",
        *arguments,
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
@pytest.mark.parametrize("page", ["one", "two"])
def test_a_browser_draws_every_plot(run, page):
    dom = browsed(run / page / "index.html", "--dump-dom")
    drawings = [
        ET.fromstring(svg)
        for svg in re.findall(r'<svg xmlns="[^"]*"[^>]*class="marks".*?</svg>', dom.replace("&nbsp;", " "), re.DOTALL)
    ]
    assert [marks(drawing) for drawing in drawings] == [expected(plot) for plot in plots(run / page / "index.html")]
    assert "The same faces over the epochs: 2 of 2" in dom


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
def test_the_page_of_a_browser_is_not_blank(run):
    browsed(run / "one" / "index.html", f"--screenshot={run / 'page.png'}")
    picture = np.asarray(Image.open(run / "page.png").convert("RGB")).reshape(-1, 20, 1280, 3).astype(int)
    drawn = np.ptp(picture, axis=(1, 2)).max(axis=1) > 100  # bands of 20 lines that hold more than a plain ground
    assert drawn.mean() > 0.6
