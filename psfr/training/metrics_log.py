"""Log of a training, which `dvc plots` and `dvc metrics` read."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from psfr.compute.processes import get_rank


def open_log(folder: Path) -> AbstractContextManager:
    """Return DVCLive's context manager that logs to `folder`; on other ranks than 0, one that yields None."""
    if get_rank() > 0:
        return nullcontext()
    from dvclive.live import Live  # imported here because it imports DVC and pandas

    return Live(str(folder), save_dvc_exp=False, report=None, dvcyaml=None)
