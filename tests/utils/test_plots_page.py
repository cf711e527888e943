"""The pages of `dvc plots show` and `dvc plots diff` are complete and work offline, also in a real browser."""

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

from psfr.utils import plots_page
from psfr.utils.errors import run_main
from psfr.utils.plots_page import VEGA_LITE
from tests.helpers.running import run_command, set_params

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))), None
)
PLOTS = [
    "Reconstruction losses, unweighted",
    "Adversarial losses",
    "Gradient norms of the weighted losses",
    "Discriminator scores",
    "Learning rates",
    "Validation",
    "ST-LPIPS of each test image (lower is better)",
    "Identity distance of each test image (lower is better)",
    "PSNR of each test image (higher is better)",
    "SSIM of each test image (higher is better)",
    "Cross entropy of the face parsing network",
    "IoU of each label",
    "Test images, degraded and restored (upper left is better)",
]
IMAGES = ["mean_error.png", "results.png", "step_0000002.png", "step_0000004.png"]


@pytest.fixture(scope="module")
def run(finished_project, tmp_path_factory) -> Path:
    """A finished run with an experiment; page `one` shows the run, page `two` both."""
    folder = Path(shutil.copytree(finished_project, tmp_path_factory.mktemp("page") / "project", symlinks=True))
    run_command(["python", "-m", "psfr.utils.plots_page"], folder)
    run_command(["dvc", "plots", "show", "-o", "one"], folder)
    set_params(folder, resamples=50)
    run_command(["dvc", "exp", "save", "-n", "other"], folder)
    run_command(["git", "checkout", "-q", "."], folder)
    run_command(["dvc", "plots", "diff", "HEAD", "other", "-o", "two"], folder)
    return folder


def plots(page: Path) -> list[dict]:
    """Return the Vega-Lite specifications of a page."""
    return [json.loads(found) for found in re.findall(r"var spec = (\{.*\});$", page.read_text(), re.MULTILINE)]


def title(plot: dict) -> str:
    return plot["title"] if isinstance(plot["title"], str) else plot["title"]["text"]


class Sources(HTMLParser):
    """Collects what a page loads: scripts, images and style sheets."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.found += [value for name, value in attrs if name in ("src", "srcset", "href", "data")]


def marks(svg: ET.Element) -> int:
    """Return the number of data marks in an SVG of Vega; axes, legends and lines have other roles."""
    return sum(element.get("aria-roledescription") in ("point", "tick", "rule mark") for element in svg.iter())


def expected(plot: dict) -> int:
    """Return the number of marks of a plot: one per row, or per x value in DVC's own template for curves."""
    values = plot["data"]["values"]
    return len({row["epoch"] for row in values}) if title(plot).startswith("Cross entropy") else len(values)


@pytest.mark.parametrize("page", ["one", "two"])
def test_the_page_shows_every_plot_and_image(run, page):
    assert sorted(map(title, plots(run / page / "index.html"))) == sorted(PLOTS)
    sources = Sources(run / page / "index.html").found
    assert {name for name in IMAGES if not any(name in source for source in sources)} == set()


@pytest.mark.parametrize("page", ["one", "two"])
def test_the_page_loads_only_its_own_images(run, page):
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


def test_a_missing_template_is_a_one_line_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        run_main(plots_page.main)
    message = str(end.value)
    assert message.startswith("error: .dvc/plots/page.html: ") and "\n" not in message


def browse(page: Path, *arguments: str) -> str:
    """Open a page in headless Chromium without network and return what Chromium prints."""
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
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")
@pytest.mark.parametrize("page", ["one", "two"])
def test_a_browser_draws_every_plot(run, page):
    dom = browse(run / page / "index.html", "--dump-dom")
    drawings = [
        ET.fromstring(svg)
        for svg in re.findall(r'<svg xmlns="[^"]*"[^>]*class="marks".*?</svg>', dom.replace("&nbsp;", " "), re.DOTALL)
    ]
    assert [marks(drawing) for drawing in drawings] == [expected(plot) for plot in plots(run / page / "index.html")]
    assert "Validation faces after step 4: degraded" in dom


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")
def test_a_screenshot_of_the_page_is_not_blank(run):
    browse(run / "one" / "index.html", f"--screenshot={run / 'page.png'}")
    screenshot = np.asarray(Image.open(run / "page.png").convert("RGB")).reshape(-1, 20, 1280, 3).astype(int)
    drawn = np.ptp(screenshot, axis=(1, 2)).max(axis=1) > 100  # bands of 20 rows with more than background
    assert drawn.mean() > 0.6
