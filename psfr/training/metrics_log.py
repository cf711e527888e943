"""Log of a training, which `dvc plots` and `dvc metrics` read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from psfr.compute.processes import get_rank

if TYPE_CHECKING:
    from dvclive.live import Live


@contextmanager
def open_log(folder: Path, compute: dict) -> "Iterator[Live | None]":
    """Context manager that yields DVCLive's log in `folder`, which also has `compute`; None on other ranks than 0."""
    if get_rank() > 0:
        yield None
        return
    from dvclive.live import Live  # imported here because it imports DVC and pandas

    with Live(str(folder), save_dvc_exp=False, report=None, dvcyaml=None) as live:
        live.summary["compute"] = [compute]  # a list, so that DVC takes it for no metric
        yield live


def log_values(live: "Live", step: int, values: dict[str, float]) -> None:
    """Log what was measured after a number of steps, a value named `score_real` as `score/real`, `pix` as `loss/pix`.

    The files are complete afterwards, so plots show them while the training runs.
    """
    live.step = step
    for name, value in values.items():
        group, _, key = name.partition("_")
        live.log_metric(f"{group}/{key}" if key else f"loss/{group}", float(f"{value:.6g}"))
    live.make_summary()
