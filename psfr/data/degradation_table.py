"""Table of degradations, `degradations.csv`: the sampled parameters of each image."""

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psfr.utils.errors import UserError, truncate
from psfr.utils.files import atomic_write


@dataclass(frozen=True)
class Degradation:
    """Sampled parameters of one image. None: the step is left out. Lengths are in pixels of the image itself."""

    gray: bool  # converted to grayscale first, as is the target of restoration
    blur: str | None  # one of degradation.BLURS
    blur_size: float | None  # gaussian: standard deviation; others: width of the kernel
    motion_angle: float | None  # degrees
    motion_direction: float | None  # -1 backward to 1 forward
    size: int  # width after downsampling
    interpolation: str  # of the downsampling, one of degradation.INTERPOLATIONS
    noise_scale: float | None  # standard deviation, in levels of 0 to 255
    noise_per_channel: bool | None
    noise_seed: int | None
    jpeg_compression: int | None  # 0 to 100, which imgaug converts to a JPEG quality


def write_table(rows: Iterable[dict], path: Path) -> None:
    """Write the rows as CSV while they arrive; None becomes an empty field, booleans become 0 and 1."""
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = None
        for row in rows:
            if writer is None:
                writer = csv.DictWriter(file, row, lineterminator="\n")
                writer.writeheader()
            writer.writerow({name: int(value) if isinstance(value, bool) else value for name, value in row.items()})


def read_table(path: Path) -> list[dict[str, Any]]:
    """Read a table that `write_table` wrote.

    Returns:
        The rows: `name`, `variant` (training images only) and the fields of `Degradation`.

    Raises:
        UserError: If the table is missing or damaged, or has other columns or values.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such table: make it with `dvc repro`")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = {"name", *_PARSERS} - {"variant"} - set(reader.fieldnames or ())
            if missing:
                raise ValueError(f"no column {min(missing)}")
            return [{column: _parse(column, text) for column, text in row.items()} for row in reader]
    except OSError:
        raise
    except Exception as error:
        problem = f"not a readable table of degradations ({truncate(error)})"
        raise UserError(f"{path}: {problem}: make it again with `dvc repro`") from None


def _parse(column: str, text: str | None) -> object:
    """Return the value of a field; text is None if the row has too few fields, and the column if it has too many."""
    if column not in _PARSERS or text is None:
        raise ValueError(f"unknown column {column}" if text is not None else f"a row without {column}")
    if text or column == "name":
        return _PARSERS[column](text)
    if column in _REQUIRED:
        raise ValueError(f"a row without {column}")
    return None


def _parse_bool(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError(f"{text} instead of 0 or 1")
    return text == "1"


_PARSERS: dict[str, Callable[[str], object]] = {
    "name": str,
    "variant": int,
    "gray": _parse_bool,
    "blur": str,
    "blur_size": float,
    "motion_angle": float,
    "motion_direction": float,
    "size": int,
    "interpolation": str,
    "noise_scale": float,
    "noise_per_channel": _parse_bool,
    "noise_seed": int,
    "jpeg_compression": int,
}
_REQUIRED = ("variant", "gray", "size", "interpolation")
