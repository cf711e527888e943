"""Options of `psfr-restore`."""

import argparse
import math
from pathlib import Path

from psfr.photos import io, models, selection

NO_FACE_STATUS = 3  # exit status of psfr-restore if a photograph has no face, of psfr-align if no photograph has one
MAX_IDENTITY_DISTANCE = 0.6  # photographs of one person are usually within it
ALIGNED_EXCLUDES = ("faces", "min_size", "background", "list", "copy_faceless")  # there is nothing to find or to keep


def parse_options() -> argparse.Namespace:
    """Return the options of the command line; arguments that are invalid end the program with exit status 2."""
    parser = _parser()
    options = parser.parse_args()
    if options.mirror is not None and options.model != models.PUBLISHED_MODEL:
        parser.error(f"argument --mirror: needs --model {models.PUBLISHED_MODEL}")
    if options.out is None and not (options.list and not options.photo.is_dir()):
        parser.error("argument -o: is required" + (" with --list for a folder" if options.list else ""))
    for name in ALIGNED_EXCLUDES if options.aligned else ():
        if getattr(options, name) != parser.get_default(name):
            parser.error(f"argument --aligned: not allowed with argument --{name.replace('_', '-')}")
    out: Path | None = options.out
    if options.format and out and not options.photo.is_dir() and not out.is_dir():
        suffix = out.suffix.lower()
        if suffix in io.SUFFIXES and suffix not in io.FORMATS[options.format]:
            parser.error(f"argument --format: {options.format}, but the result is a {suffix} file")
    options.format = options.format or "png"
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m psfr.restore",
        description="Restore the faces of photographs.",
        epilog="exit status: 0 all restored, 1 an error, 2 invalid arguments, "
        f"{NO_FACE_STATUS} no error, but a photograph without a face",
    )
    parser.add_argument("photo", type=Path, help="a photograph, or a folder of photographs, searched recursively")
    parser.add_argument(
        "-o",
        dest="out",
        type=Path,
        help=f"a {', '.join(io.SUFFIXES)} file for one photograph, or a folder",
    )
    parser.add_argument("--format", choices=list(io.FORMATS), help="format of results in a folder (default: png)")
    _add_model_options(parser)
    _add_face_options(parser)
    _add_result_options(parser)
    return parser


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        default=models.DEFAULT_MODEL,
        help="published (the authors' networks, fetched once: 269 MB), folder of a run, models/psfrgan@STEP or @best "
        "of its training, published .pth file, or git revision of this project (default: models)",
    )
    parser.add_argument(
        "--mirror",
        help="folder or URL to fetch the published model from (default: $PSFR_WEIGHTS, else the authors' release)",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda", "mps"),
        default="auto",
        help="what the networks run on; auto is the NVIDIA GPU if there is one (default: auto)",
    )


def _add_face_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--faces",
        type=_faces,
        default=selection.ALL,
        metavar="all|largest|1,3",
        help="which faces to restore, by the numbers that --list prints (default: all)",
    )
    parser.add_argument(
        "--min-size",
        type=whole_number,
        default=0,
        metavar="PIXELS",
        help="leave faces as they are whose frame has a smaller side in the photograph (default: 0)",
    )
    parser.add_argument(
        "--aligned",
        action="store_true",
        help="each photograph is a square face, aligned as in FFHQ: restore it as a whole, without detection",
    )
    parser.add_argument(
        "--list",
        action="store_true",
        help="restore nothing: print the number, center and size of each face, and draw the numbers into a copy",
    )


def _add_result_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scale", type=int, choices=(1, 2, 4), default=1, help="upscale the photograph (default: 1)")
    parser.add_argument(
        "--background",
        type=Path,
        metavar="FILE",
        help="super-resolution model (.pth or .safetensors, any that spandrel loads) that enlarges or cleans what is "
        "around the faces; photographs without a face have a result, too",
    )
    parser.add_argument(
        "--strength",
        type=_strength,
        default="auto",
        help="0 keeps the faces, 1 restores them fully, auto chooses by their estimated degradation (default: auto)",
    )
    parser.add_argument(
        "--twicing",
        action="store_true",
        help="restore each restored face again and add what that loses: may be closer to the person, at twice the time",
    )
    parser.add_argument(
        "--keep-faces",
        action="store_true",
        help="also write the aligned faces, their parsing maps and the restored faces to faces/ next to the result",
    )
    parser.add_argument("--copy-faceless", action="store_true", help="write photographs without a face unchanged")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="restore every photograph of a folder, also if an earlier run did it with these options and this model",
    )
    parser.add_argument(
        "--page",
        action="store_true",
        help="also write index.html next to the results: each photograph with a slider between before and after",
    )


def _strength(text: str) -> float | None:
    """Return a strength, None for auto."""
    if text == "auto":
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number from 0 to 1 or auto")
    return value


def _faces(text: str) -> str | tuple[int, ...]:
    if text in (selection.ALL, selection.LARGEST):
        return text
    numbers = text.split(",")
    if not all(number.isascii() and number.isdecimal() and int(number) for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r}: must be all, largest or numbers from 1, such as 1,3")
    return tuple(sorted({int(number) for number in numbers}))


def whole_number(text: str) -> int:
    """Return the number of an argument of the command line, 0 or more."""
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number, at least 0")
    return int(text)
