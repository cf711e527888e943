"""Table of degradations, `degradations.csv`: the sampled parameters of each image."""

import csv
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psfr.utils.errors import UserError, truncate
from psfr.utils.files import atomic_write

if TYPE_CHECKING:
    import pandas as pd


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


def read_table(path: Path) -> "pd.DataFrame":
    """Read a table that `write_table` wrote.

    Returns:
        Columns `name`, `variant` (training images only) and the fields of `Degradation`; NaN if a step is left out.

    Raises:
        UserError: If the table is missing or damaged, or has other columns or values.
    """
    import pandas as pd  # imported here because the stages that write the table start faster without it

    if not path.is_file():
        raise UserError(f"{path}: no such table: make it with `dvc repro`")
    columns = [field.name for field in fields(Degradation)]
    dtypes: dict[Hashable, Any] = {"name": str, "blur": str, "interpolation": str}
    # Without keep_default_na=False, an image called NA or null would lose its name.
    missing_values = {name: [""] for name in columns}
    try:
        table = pd.read_csv(path, dtype=dtypes, keep_default_na=False, na_values=missing_values)
        missing = {"name", *columns} - set(table)
        if missing:
            raise ValueError(f"no column {min(missing)}")
        if not set(table.gray) <= {0, 1}:
            raise ValueError("gray must be 0 or 1")
        if "variant" in table and not pd.api.types.is_integer_dtype(table.variant):
            raise ValueError("variant must be an integer")
    except OSError:
        raise
    except Exception as error:  # pandas raises exceptions of many types on damaged files
        problem = f"not a readable table of degradations ({truncate(error)})"
        raise UserError(f"{path}: {problem}: make it again with `dvc repro`") from None
    return table
