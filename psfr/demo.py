"""A page in the browser to restore photographs with: `psfr-demo`, or `python -m psfr.demo`.

It needs gradio (requirements-demo.txt). It answers this machine only unless `--host` says otherwise, asks nothing of
other servers but the published model, and keeps photographs in a temporary folder, which is removed when it ends.
"""

import argparse
import html
import importlib.util
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from psfr.data import formats, images
from psfr.photos import io, models
from psfr.restore import MAX_IDENTITY_DISTANCE
from psfr.utils.errors import UserError, print_debug_traceback, printable, run_main, truncate

if TYPE_CHECKING:
    import gradio
    from gradio.components import Component

    from psfr.photos.restoration import RestoredFace
    from psfr.photos.restorer import Restorer

INSTALL = 'install it with `pip install -e ".[demo]" -c requirements.lock`'
KEPT_SECONDS = 3600  # age at which photographs and results are removed while the program runs
ENVIRONMENT = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}
MAX_SHOWN = 2048  # longer side of the images of the slider, in pixels; the download has all

STYLE = """
footer { display: none !important }
.psfr-error { padding: .6em 1em; border-radius: 8px; background: #b3261e; color: #fff; overflow-wrap: anywhere }
.psfr-faces { border: 0 !important; font-variant-numeric: tabular-nums }
.psfr-faces :is(th, td, tr) { padding: .2em 2em .2em 0 !important; border: 0 !important; text-align: left }
.psfr-faces .unlike { color: #c2410c; font-weight: 600 }
"""


def main() -> None:
    """Run the command until Ctrl-C or SIGTERM.

    Raises:
        UserError: gradio is not installed, or the port is not free.
    """
    options = parse_options()
    if importlib.util.find_spec("gradio") is None:
        raise UserError(f"psfr-demo: needs gradio, which is not installed: {INSTALL}")
    with serving(options) as address:
        print(f"{address}: open it in a browser; Ctrl-C ends it and removes all photographs", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("ended")


@contextmanager
def serving(options: argparse.Namespace) -> Iterator[str]:
    """Serve the page in the `with` block, and yield its address; afterwards, no file of it is left.

    Raises:
        UserError: the address or the port cannot be used.
    """
    default = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="psfr-demo-", ignore_cleanup_errors=True) as folder:
        os.environ |= {**ENVIRONMENT, "GRADIO_TEMP_DIR": os.path.join(folder, "cache")}
        tempfile.tempdir = folder
        try:
            page = build(options)
            try:
                _, address, _ = page.launch(
                    server_name=options.host,
                    server_port=options.port,
                    share=False,
                    quiet=True,
                    prevent_thread_lock=True,
                    max_file_size=options.max_megabytes * 2**20,
                    allowed_paths=[],
                    run_history=False,
                    enable_monitoring=False,
                    ssr_mode=False,
                    pwa=False,
                    mcp_server=False,
                    css=STYLE,
                )
            except OSError as error:
                raise UserError(f"{options.host}: {truncate(error)}: choose another --port or --host") from None
            try:
                yield address
            finally:
                page.close(verbose=False)
        finally:
            tempfile.tempdir = default


def build(options: argparse.Namespace) -> "gradio.Blocks":
    """Return the page."""
    import gradio

    names = list_models(options.model)
    limits = f"at most {options.max_megabytes} MB and {options.max_megapixels} megapixels"
    with gradio.Blocks(title="psfr-demo", analytics_enabled=False, delete_cache=(60, KEPT_SECONDS)) as page:
        gradio.Markdown(
            "# Restore the faces of a photograph\n"
            "A restored face is drawn by a network: it is plausible, not evidence of what a person looked like. "
            "Photographs stay on the machine that runs psfr-demo, for an hour at most."
        )
        with gradio.Row():
            with gradio.Column(scale=1, min_width=300):
                photo = gradio.File(label=f"Photograph, {limits}", file_types=list(formats.SUFFIXES), height=140)
                model = gradio.Dropdown(names, value=names[0], label="Model")
                automatic = gradio.Checkbox(True, label="Choose the strength by how degraded each face is")
                strength = gradio.Slider(0, 1, value=1, step=0.05, label="Strength", visible=False)
                scale = gradio.Radio([1, 2, 4], value=1, label="Enlarge")
                start = gradio.Button("Restore", variant="primary")
            with gradio.Column(scale=2, min_width=300):
                problem = gradio.HTML(visible=False)
                slider = gradio.ImageSlider(
                    label="Before and after", format="png", interactive=False, max_height=640, buttons=["fullscreen"]
                )
                download = gradio.DownloadButton("Download the result", visible=False)
                report = gradio.HTML()

        def run(
            photo: str | None, model: str, automatic: bool, strength: float, scale: int
        ) -> "Iterator[list[Component]]":
            try:
                if photo is None:
                    raise UserError("no photograph: drop one on the page")
                before, after, faces = restore(Path(photo), model, None if automatic else strength, scale, options)
            except (UserError, OSError, MemoryError) as error:
                print_debug_traceback(error)
                line = str(error or "not enough memory").replace(str(photo), Path(photo or "").name)
                text = f'<div class="psfr-error" role="alert">{html.escape(printable(line))}</div>'
                nothing = gradio.ImageSlider(None), gradio.DownloadButton(visible=False), gradio.HTML("")
                yield [gradio.HTML(text, visible=True), *nothing]
                return
            with tempfile.TemporaryDirectory() as folder:  # gradio copies the result before it asks for another one
                result = Path(folder, f"{Path(photo).stem}-restored.png")
                io.write(result, after)
                yield [
                    gradio.HTML(visible=False),
                    gradio.ImageSlider((_reduced(before), _reduced(after))),
                    gradio.DownloadButton(value=str(result), visible=True),
                    gradio.HTML(_table(faces)),
                ]

        automatic.change(
            lambda checked: gradio.Slider(visible=not checked), automatic, strength, api_visibility="private"
        )
        start.click(
            run,
            [photo, model, automatic, strength, scale],
            [problem, slider, download, report],
            concurrency_limit=1,
            api_visibility="private",
        )
    return page.queue(max_size=20)


def list_models(given: list[str]) -> list[str]:
    """Return the models to choose from: those that are given, that of the current folder, and the published one."""
    found = [models.DEFAULT_MODEL] if Path(models.DEFAULT_MODEL, models.GENERATOR_FILE).is_file() else []
    return list(dict.fromkeys([*given, *found, models.PUBLISHED_MODEL]))


def restore(
    photo: Path, model: str, strength: float | None, scale: int, options: argparse.Namespace
) -> "tuple[io.Photograph, io.Photograph, list[RestoredFace]]":
    """Return a photograph, the restored one and its faces.

    Raises:
        UserError: the photograph cannot be read, is too large or has no face, or there is no such model.
    """
    width, height = images.read_size(photo)
    if width * height > options.max_megapixels * 1_000_000:
        raise UserError(
            f"{photo}: {width}x{height} pixels are more than {options.max_megapixels} megapixels: reduce it, or start "
            "psfr-demo with a larger --max-megapixels"
        )
    photograph = io.read(photo)
    restoration = _load(model, options.mirror).restore(photograph, scale, strength)
    if not restoration.faces:
        raise UserError(f"{photo}: no face found: choose another photograph")
    return photograph, restoration.image, restoration.faces


@lru_cache(maxsize=1)
def _load(model: str, mirror: str | None) -> "Restorer":
    from psfr.photos.restorer import Restorer  # imported here: PyTorch takes seconds

    return Restorer.from_pretrained(model, mirror=mirror if model == models.PUBLISHED_MODEL else None)


def _reduced(photograph: io.Photograph) -> Image.Image:
    image = Image.fromarray(photograph.to_srgb8())
    image.thumbnail((MAX_SHOWN, MAX_SHOWN), Image.Resampling.LANCZOS)
    return image


def _table(faces: "list[RestoredFace]") -> str:
    """Return the faces as an HTML table."""
    rows = ["<tr><th>Face</th><th>Strength</th><th>Identity distance</th><th></th></tr>"]
    for number, face in enumerate(faces, 1):
        is_unlike = face.identity_distance > MAX_IDENTITY_DISTANCE
        warning = f"may look like another person (above {MAX_IDENTITY_DISTANCE})" if is_unlike else ""
        rows.append(
            f"<tr><td>{number}</td><td>{face.strength:.2f}</td><td>{face.identity_distance:.3f}</td>"
            f'<td class="unlike">{warning}</td></tr>'
        )
    return f'<table class="psfr-faces">{"".join(rows)}</table>'


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line, or of `arguments`."""
    parser = argparse.ArgumentParser(
        prog="psfr-demo", description="Serve a page, to this machine only, to restore photographs with in a browser."
    )
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        help="a model to choose from, as for psfr-restore; may be repeated (always there: published, and models if "
        "the current folder has it)",
    )
    parser.add_argument("--mirror", help="folder or URL to fetch the published model from")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to serve at; 0.0.0.0 lets everyone in your network in (default: 127.0.0.1, this machine only)",
    )
    parser.add_argument("--port", type=int, help="port to serve at (default: the first that is free from 7860)")
    parser.add_argument("--max-megabytes", type=int, default=50, help="refuse larger files (default: 50)")
    parser.add_argument("--max-megapixels", type=int, default=50, help="refuse larger photographs (default: 50)")
    return parser.parse_args(arguments)


def cli() -> None:
    """Entry point of `psfr-demo`."""
    run_main(main)


if __name__ == "__main__":
    cli()
