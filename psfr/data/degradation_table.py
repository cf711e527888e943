"""The table of degradations, `degradations.csv`: what was drawn for each image."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd

from psfr.utils.errors import InputError, shortened
from psfr.utils.files import replacing


@dataclass(frozen=True)
class Degradation:
    """All that was drawn for one image; None where the step is left out. Lengths are pixels of the image at hand."""

    gray: bool  # the image itself, so also the target of restoration
    blur: str | None  # one of BLURS
    blur_size: float | None  # gaussian: standard deviation; others: width of the kernel
    motion_angle: float | None  # degrees
    motion_direction: float | None  # -1 backward ... 1 forward
    size: int  # width it is reduced to
    interpolation: str  # one of INTERPOLATIONS
    noise_scale: float | None  # standard deviation in levels
    noise_per_channel: bool | None
    noise_seed: int | None
    jpeg_compression: int | None  # 0 ... 100, imgaug turns it into a quality


def write_table(rows: Iterable[dict], path: Path) -> None:
    """Write what was done as CSV, a row as it comes; an empty field is a step left out, yes and no are 1 and 0."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = None
        for row in rows:
            if writer is None:
                writer = csv.DictWriter(file, row, lineterminator="\n")
                writer.writeheader()
            writer.writerow({name: int(value) if isinstance(value, bool) else value for name, value in row.items()})


def read_table(path: Path) -> pd.DataFrame:
    """The table of `write_table`: columns name, variant (of the training set's), and the fields of `Degradation`.

    Raises:
        InputError: the table is missing or damaged, or has other columns or values.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such table: make it with `dvc repro`")
    # A picture may be called NA or null: no name stands for a missing value.
    texts = {"name": str, "blur": str, "interpolation": str}
    try:
        table = pd.read_csv(
            path, dtype=texts, keep_default_na=False, na_values={field.name: [""] for field in fields(Degradation)}
        )
        lacking = {"name", *(field.name for field in fields(Degradation))} - set(table)
        if lacking:
            raise ValueError(f"no column {min(lacking)}")
        if not set(table.gray) <= {0, 1} or not pd.api.types.is_integer_dtype(table.get("variant", pd.Series([0]))):
            raise ValueError("gray is 0 or 1, variant a whole number")
    except OSError:
        raise
    except Exception as error:  # pandas raises many kinds on what is no table
        raise InputError(
            f"{path}: not a readable table of degradations ({shortened(error)}): make it again with `dvc repro`"
        ) from None
    return table
