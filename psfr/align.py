"""Crop the faces of photographs, aligned as in FFHQ: the preprocessing of the reimplementation.

python -m psfr.align FOLDER -o OUT [--size 512] [--min-size 0] [--workers N]
"""

import argparse
import sys
from functools import partial
from pathlib import Path

from psfr.compute import parallel
from psfr.data import images
from psfr.photos import alignment, detection, io
from psfr.utils.errors import UserError, printable, raise_all, run_main
from psfr.utils.files import find_duplicates

NO_FACE_STATUS = 3  # exit status if no photograph has a face


def align(folder: Path, out: Path, size: int, min_size: int, workers: int | None) -> dict[Path, int]:
    """Write each face of each photograph in a folder to `out/NAME_NUMBER.png`, the largest with number 1.

    Args:
        folder: photographs, searched recursively.
        out: output folder.
        size: side length of the faces in pixels.
        min_size: skip faces whose frame has a smaller side in the photograph, in pixels.
        workers: number of processes; None for one per core.

    Returns:
        The number of faces written for each photograph.

    Raises:
        UserError: the folder has no photographs, `out` is the folder itself, two outputs would have the same name, or
            photographs cannot be read; the last is raised after all others are processed.
    """
    if out.resolve() == folder.resolve():
        raise UserError(f"{out}: output folder is the input folder: choose another with -o")
    paths = [path for path in io.list_photos(folder) if out.resolve() not in path.resolve().parents]
    names = {path: "_".join(path.relative_to(folder).with_suffix("").parts) for path in paths}
    raise_all(
        [
            f"{path} and {first} would both become {out / names[path]}_1.png"
            for path, first in find_duplicates(paths, lambda path: names[path])
        ],
        "rename one of each pair",
    )
    counts = parallel.map(partial(_align, out, size, min_size), list(names.items()), workers, "align")
    return dict(zip(paths, counts, strict=True))


def _align(out: Path, size: int, min_size: int, item: tuple[Path, str]) -> int:
    path, name = item
    image = io.read(path).to_rgb8()
    frames = [frame for frame in detection.find_faces(image) if frame.size >= min_size]
    for number, frame in enumerate(frames, 1):
        images.write(out / f"{name}_{number}.png", alignment.crop(image, frame, size))
    return len(frames)


def main() -> None:
    """Run the command.

    Raises:
        UserError: an option is invalid, or as `align`.
    """
    parser = argparse.ArgumentParser(
        prog="python -m psfr.align",
        description="Crop the faces of photographs, aligned as in FFHQ.",
        epilog=f"exit status: 0 faces found, 1 an error, 2 invalid arguments, {NO_FACE_STATUS} no error, but no face",
    )
    parser.add_argument("folder", type=Path, help="folder of photographs, searched recursively")
    parser.add_argument("-o", dest="out", type=Path, required=True, help="output folder")
    parser.add_argument(
        "--size", type=_positive, default=512, help="side of the cropped faces in pixels (default: 512)"
    )
    parser.add_argument(
        "--min-size",
        type=int,
        default=0,
        help="skip faces whose frame has a smaller side in the photograph, in pixels (default: 0)",
    )
    parser.add_argument("--workers", type=int, default=None, help="number of processes (default: one per core)")
    options = parser.parse_args()
    counts = align(options.folder, options.out, options.size, options.min_size, options.workers)
    faceless = [path for path, count in counts.items() if not count]
    for path in faceless:
        print(f"{printable(path)}: no face found", file=sys.stderr)
    num_faces = sum(counts.values())
    print(f"{printable(options.out)}: {num_faces} faces of {len(counts)} photographs, {len(faceless)} without a face")
    if len(faceless) == len(counts):
        sys.exit(NO_FACE_STATUS)


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r}: must be an integer of at least 1")
    return int(text)


def cli() -> None:
    """Entry point of `psfr-align`."""
    run_main(main)


if __name__ == "__main__":
    cli()
