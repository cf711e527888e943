"""The program that reads hostile files: `python read_hostile.py LIST OUT`.

It prints a line of JSON before and after each file, so that its caller sees which one ended it.
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
from psfr.pretrained import loader
from psfr.sources import fetching, folder, rclone, remote, checksums
from psfr.utils.errors import CONTROL_CHARS, UserError

SECONDS = 30  # for one file
MEMORY = 4 * 2**30  # bytes of address space
SIZES = {"image_size": 32, "constant_size": 16, "min_channels": 2, "max_channels": 4}


def readers(out: Path) -> dict[str, Callable[[Path], object]]:
    """What the project does with a file of each kind; what is written goes to `out`."""
    every = params.ImageSetParams(source="folder", count=None, skip=0, images="x")

    def listing(path: Path) -> None:
        def run(command: str, *_, out, **__):  # as if a server had sent it
            content = (
                path.read_bytes() if command == "lsjson" else b'{"Hashes": ["md5"], "Features": {"SlowHash": false}}'
            )
            out.seek(0)
            out.truncate()
            out.write(content)
            out.seek(0)
            return rclone.Outcome(0, "", {}, False)

        rclone.run_once = run
        listed = fetching.list_remote("drive:", "list")
        for name in remote.images_by_stem("drive:", listed.files, images.SUFFIXES).values():
            assert (out / name).resolve().is_relative_to(out.resolve()), name
            assert all(each.kind in ("bytes", "md5") for each in listed.sums(str(name)))

    def copied(path: Path) -> None:
        (out / path.name).mkdir()
        folder.copy_set(out / path.name, "ffhq", every.model_copy(update={"images": str(path)}), 1, 0)

    return {
        "image": lambda path: resize.resize_image(images.read(path), 32),
        "mask": lambda path: resize.resize_labels(labels.read(path), 32),
        "checkpoint": lambda path: serialization.load(path, Generator),
        "weights": lambda path: serialization.from_published("generator", loader.load(path), **SIZES),
        "parameters": params.read_params,
        "table": degradation_table.read_table,
        "model": lambda path: identity._opened(dlib.shape_predictor, path),
        "listing": listing,
        "checksums": lambda path: checksums.read_ffhq_checksums(path, {"00000/00000.png": path}),
        "folder": copied,
    }


def main() -> None:
    listed, out = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    read = readers(out)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number, kind, path in listed:
        print(json.dumps([number, "begun"]), flush=True)
        signal.alarm(SECONDS)  # nothing handles it: it ends the program, in whatever library it is
        try:
            read[kind](Path(path))
            outcome = "read"
        except UserError as error:
            one_line = not CONTROL_CHARS.search(str(error))
            outcome = (
                "refused"
                if one_line and len(str(error)) < 6000
                else f"said {len(str(error))} characters: {str(error)[:300]!a}"
            )
        except BaseException as error:
            outcome = f"{type(error).__name__}: {str(error)[:300]!a}"
        signal.alarm(0)
        print(json.dumps([number, outcome]), flush=True)


if __name__ == "__main__":
    main()
