"""Read hostile files: `python read_hostile.py LIST OUT`.

Prints a line of JSON before and after each file, so that the caller knows which file crashed the program.
"""

import json
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import dlib

from psfr import params
from psfr.data import degradation_table, images, labels, resize
from psfr.metrics import identity
from psfr.networks import serialization
from psfr.networks.generator import Generator
from psfr.photos import io
from psfr.pretrained import loader
from psfr.sources import checksums, fetching, folder, rclone, remote
from psfr.utils.errors import CONTROL_CHARS, UserError
from tests.helpers.hostile import GENERATOR_CONFIG

TIMEOUT = 30  # seconds of processor time per file, so that other programs do not count
MAX_WAIT = 600  # seconds per file, for what waits without computing
MAX_MEMORY = 4 * 2**30  # bytes of address space
MAX_MESSAGE = 6000  # characters


def readers(out: Path) -> dict[str, Callable[[Path], object]]:
    """Return for each kind of file the function of the project that reads it; output goes to `out`."""
    set_params = params.ImageSetParams(source="folder", count=None, skip=0, images="x")

    def read_listing(path: Path) -> None:
        def run_once(command: str, *_, out, **__):  # returns the file as the server's answer
            features = b'{"Hashes": ["md5"], "Features": {"SlowHash": false}}'
            content = path.read_bytes() if command == "lsjson" else features
            out.seek(0)
            out.truncate()
            out.write(content)
            out.seek(0)
            return rclone.Outcome(0, "", {}, False)

        rclone.run_once = run_once
        listing = fetching.list_remote("drive:", "list")
        for name in remote.select_images("drive:", listing.files, images.SUFFIXES):
            assert (out / name).resolve().is_relative_to(out.resolve()), name
            assert all(checksum.kind in ("bytes", "md5") for checksum in listing.checksums(str(name)))

    def copy_folder(path: Path) -> None:
        (out / path.name).mkdir()
        folder.copy_set(out / path.name, "ffhq", set_params.model_copy(update={"images": str(path)}), 1, 0)

    return {
        "image": lambda path: resize.resize_image(images.read(path), 32),
        "photograph": lambda path: io.write(out / "photograph.tif", io.read(path, io.count_pages(path) - 1)),
        "mask": lambda path: resize.resize_labels(labels.read(path), 32),
        "checkpoint": lambda path: serialization.load(path, Generator),
        "weights": lambda path: serialization.from_published("generator", loader.load(path), **GENERATOR_CONFIG),
        "parameters": params.read_params,
        "table": degradation_table.read_table,
        "model": lambda path: identity._load(dlib.shape_predictor, path),
        "listing": read_listing,
        "checksums": lambda path: checksums.read_ffhq_checksums(path, {"00000/00000.png": path}),
        "folder": copy_folder,
    }


def main() -> None:
    files, out = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    read = readers(out)
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number, kind, path in files:
        print(json.dumps([number, "begun"]), flush=True)
        # The signals are not handled: they end the program even inside a library.
        signal.setitimer(signal.ITIMER_PROF, TIMEOUT)
        signal.alarm(MAX_WAIT)
        try:
            read[kind](Path(path))
            outcome = "read"
        except UserError as error:
            message = str(error)
            is_one_line = not CONTROL_CHARS.search(message)
            if is_one_line and len(message) < MAX_MESSAGE:
                outcome = "refused"
            else:
                outcome = f"message of {len(message)} characters: {message[:300]!a}"
        except BaseException as error:
            outcome = f"{type(error).__name__}: {str(error)[:300]!a}"
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        print(json.dumps([number, outcome]), flush=True)


if __name__ == "__main__":
    main()
