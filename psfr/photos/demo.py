"""A page in the browser to restore photographs with: `psfr-demo`, or `python -m psfr.photos.demo`.

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
from typing import TYPE_CHECKING, Any

from PIL import Image

from psfr.data import formats, images
from psfr.photos import io, listing, models
from psfr.photos.alignment import Frame
from psfr.photos.options import MAX_IDENTITY_DISTANCE
from psfr.photos.selection import Selection
from psfr.utils.errors import UserError, print_debug_traceback, printable, run_main

if TYPE_CHECKING:
    import gradio
    from gradio.components import Component

    from psfr.photos.restoration import Restoration, RestoredFace
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
                print_debug_traceback(error)
                port = "a port from 7860" if options.port is None else f"port {options.port}"
                raise UserError(f"{options.host}: cannot serve on {port}: choose another --port or --host") from None
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
                chosen = gradio.CheckboxGroup([], label="Faces to restore (none ticked: all)", visible=False)
                model = gradio.Dropdown(names, value=names[0], label="Model")
                automatic = gradio.Checkbox(True, label="Choose the strength by how degraded each face is")
                strength = gradio.Slider(0, 1, value=1, step=0.05, label="Strength", visible=False)
                scale = gradio.Radio([1, 2, 4], value=1, label="Enlarge")
                start = gradio.Button("Restore", variant="primary")
            with gradio.Column(scale=2, min_width=300):
                problem = gradio.HTML(visible=False)
                sheet = gradio.Image(label="Faces", format="png", interactive=False, buttons=[], visible=False)
                slider = gradio.ImageSlider(
                    label="Before and after", format="png", interactive=False, max_height=640, buttons=["fullscreen"]
                )
                download = gradio.DownloadButton("Download the result", visible=False)
                report = gradio.HTML()

        def clear() -> "dict[Component, Component]":
            return {
                problem: gradio.HTML(visible=False),
                sheet: gradio.Image(visible=False),
                slider: gradio.ImageSlider(None, visible=True),
                download: gradio.DownloadButton(visible=False),
                report: gradio.HTML(""),
            }

        def explain(error: Exception, path: str | None) -> "dict[Component, Component]":
            print_debug_traceback(error)
            line = str(error or "not enough memory").replace(str(path), Path(path or "").name)
            text = f'<div class="psfr-error" role="alert">{html.escape(printable(line))}</div>'
            return clear() | {problem: gradio.HTML(text, visible=True)}

        def list_faces(path: str | None) -> "dict[Component, Component]":
            nothing = clear() | {chosen: gradio.CheckboxGroup([], value=[], visible=False)}
            if path is None:
                return nothing
            try:
                photograph, frames = find_faces(Path(path), options)
            except (UserError, OSError, MemoryError) as error:
                return nothing | explain(error, path)
            choices = [(f"{number}: {frame.size:.0f} pixels", number) for number, frame in frames.items()]
            return nothing | {
                chosen: gradio.CheckboxGroup(choices, value=[], visible=len(choices) > 1),
                sheet: gradio.Image(listing.draw_sheet(photograph.to_srgb8(), frames), visible=True),
                slider: gradio.ImageSlider(None, visible=False),
            }

        def run(
            path: str | None, numbers: list[int], model: str, automatic: bool, strength: float, scale: int
        ) -> "Iterator[dict[Component, Component]]":
            try:
                if path is None:
                    raise UserError("no photograph: drop one on the page")
                how = {"scale": scale, "strength": None if automatic else strength, "faces": numbers or "all"}
                before, restoration = restore(Path(path), model, options, **how)
            except (UserError, OSError, MemoryError) as error:
                yield explain(error, path)
                return
            with tempfile.TemporaryDirectory() as folder:  # gradio copies the result before it asks for another one
                result = Path(folder, f"{Path(path).stem}-restored.png")
                io.write(result, restoration.image)
                yield clear() | {
                    slider: gradio.ImageSlider((_reduced(before), _reduced(restoration.image)), visible=True),
                    download: gradio.DownloadButton(value=str(result), visible=True),
                    report: gradio.HTML(_table(restoration.faces)),
                }

        automatic.change(
            lambda checked: gradio.Slider(visible=not checked), automatic, strength, api_visibility="private"
        )
        one_at_a_time = {"concurrency_limit": 1, "concurrency_id": "faces", "api_visibility": "private"}
        outputs = [problem, sheet, slider, download, report]
        photo.change(list_faces, photo, [chosen, *outputs], **one_at_a_time)
        start.click(run, [photo, chosen, model, automatic, strength, scale], outputs, **one_at_a_time)
    return page.queue(max_size=20)


def list_models(given: list[str]) -> list[str]:
    """Return the models to choose from: those that are given, that of the current folder, and the published one."""
    found = [models.DEFAULT_MODEL] if Path(models.DEFAULT_MODEL, models.GENERATOR_FILE).is_file() else []
    return list(dict.fromkeys([*given, *found, models.PUBLISHED_MODEL]))


def read(photo: Path, options: argparse.Namespace) -> io.Photograph:
    """Read a photograph.

    Raises:
        UserError: it cannot be read, or is too large.
    """
    width, height = images.read_size(photo)
    if width * height > options.max_megapixels * 1_000_000:
        raise UserError(
            f"{photo}: {width}x{height} pixels are more than {options.max_megapixels} megapixels: reduce it, or start "
            "psfr-demo with a larger --max-megapixels"
        )
    return io.read(photo)


def find_faces(photo: Path, options: argparse.Namespace) -> tuple[io.Photograph, dict[int, Frame]]:
    """Return a photograph and its faces by number.

    Raises:
        UserError: as `read`, or it has no face.
    """
    from psfr.photos import detection  # imported here: dlib

    photograph = read(photo, options)
    frames = Selection().choose(detection.find_faces(photograph.to_rgb8()))
    if not frames:
        raise UserError(f"{photo}: no face found: choose another photograph")
    return photograph, frames


def restore(
    photo: Path, model: str, options: argparse.Namespace, **how: Any
) -> "tuple[io.Photograph, Restoration[io.Photograph]]":
    """Return a photograph and its restoration.

    Args:
        how: for `Restorer.restore`.

    Raises:
        UserError: as `read`, it has no face, or there is no such model.
    """
    photograph = read(photo, options)
    restoration = _load(model, options.mirror).restore(photograph, **how)
    if not restoration.faces:
        raise UserError(f"{photo}: no face found: choose another photograph")
    return photograph, restoration


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
    for face in faces:
        is_unlike = face.identity_distance > MAX_IDENTITY_DISTANCE
        warning = f"may look like another person (above {MAX_IDENTITY_DISTANCE})" if is_unlike else ""
        rows.append(
            f"<tr><td>{face.number}</td><td>{face.strength:.2f}</td><td>{face.identity_distance:.3f}</td>"
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
