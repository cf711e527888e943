"""Options of `psfr-restore`."""

import argparse
import math
from pathlib import Path

from psfr.photos import io, models

NO_FACE_STATUS = 3  # exit status if a photograph has no face


def parse_options() -> argparse.Namespace:
    """Return the options of the command line; arguments that are invalid end the program with exit status 2."""
    parser = _parser()
    options = parser.parse_args()
    if options.mirror is not None and options.model != models.PUBLISHED_MODEL:
        parser.error(f"argument --mirror: needs --model {models.PUBLISHED_MODEL}")
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
        required=True,
        help=f"a {', '.join(io.SUFFIXES)} file for one photograph, or a folder",
    )
    parser.add_argument(
        "--format", choices=list(io.FORMATS), default="png", help="format of results in a folder (default: png)"
    )
    parser.add_argument(
        "--model",
        default=models.DEFAULT_MODEL,
        help="published (the authors' networks, fetched once: 269 MB), folder of a run, published .pth file, or git "
        "revision of this project (default: models)",
    )
    parser.add_argument(
        "--mirror",
        help="folder or URL to fetch the published model from (default: $PSFR_WEIGHTS, else the authors' release)",
    )
    parser.add_argument("--scale", type=int, choices=(1, 2, 4), default=1, help="upscale the photograph (default: 1)")
    parser.add_argument(
        "--strength",
        type=_strength,
        default="auto",
        help="0 keeps the faces, 1 restores them fully, auto chooses by their estimated degradation (default: auto)",
    )
    parser.add_argument(
        "--twicing",
        action="store_true",
        help="restore each restored face again and add what that loses: often closer to the person, at twice the time",
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
    return parser


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
