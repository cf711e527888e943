"""dask clusters: workers on other machines, which share the project's folder under the same path."""

import hashlib
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, cast

from psfr.utils.errors import UserError, raise_all, truncate

if TYPE_CHECKING:
    from distributed import Client
    from joblib.parallel import ParallelBackendBase

TIMEOUT = 30  # seconds to wait for the scheduler, and again for its first worker
# The bytes of an image, and identity distances, depend on the versions of these packages.
PINNED_PACKAGES = ("numpy", "opencv-python", "pillow", "pillow-heif", "scipy", "imgaug", "ImageIO", "dlib-bin")
WORKER_COMMAND = "`python -m dask worker ADDRESS --nthreads 1` in the project's folder"


def _hash_code() -> str:
    """Return one SHA-256 of all of the project's modules on disk."""
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


CODE_HASH = _hash_code()  # at import: a running process keeps the code that it has loaded


@contextmanager
def dask_backend(address: str) -> Iterator["ParallelBackendBase"]:
    """Connect to a dask scheduler and yield a joblib backend that runs on its workers.

    All workers must produce the same bytes as this process: their project folder, code, Python and pinned packages are
    compared with those of this process.

    Args:
        address: of the scheduler, such as tcp://10.0.0.1:8786.

    Raises:
        UserError: the scheduler does not answer or has no workers, a worker differs from this process, or, from the
            block, a task has killed several workers.
    """
    from distributed import Client, KilledWorker  # imported here: it takes a second and few runs need it

    try:
        client = Client(address, timeout=TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"compute.scheduler: no dask scheduler answers at {address} ({truncate(error)}): "
            "start `dask scheduler`, or set it to null"
        ) from None
    with client:
        _check_workers(client, address)
        try:
            yield _joblib_backend(client)
        except KilledWorker as error:
            raise UserError(
                f"compute.scheduler: workers of {address} were killed, most likely for lack of memory "
                f"({truncate(error)}): start fewer workers per machine"
            ) from None


def _check_workers(client: "Client", address: str) -> None:
    """Raise a UserError if there is no worker, or if a worker's environment differs from this process's."""
    command = WORKER_COMMAND.replace("ADDRESS", address)
    try:
        client.wait_for_workers(1, timeout=TIMEOUT)
        environments = cast("dict[str, dict[str, str]]", client.run(_environment, os.getcwd()))
    except TimeoutError:
        raise UserError(f"compute.scheduler: {address} has no workers: start {command}") from None
    except Exception as error:  # dask reports what a worker cannot import as text only
        missing = re.search(r"No module named '([^']+)'", str(error))
        if not missing:
            raise
        raise UserError(
            f"compute.scheduler: a worker of {address} has no module {missing[1]}: start it as {command}"
        ) from None
    expected = _environment(os.getcwd())
    problems = []
    for worker, environment in environments.items():
        for key, value in expected.items():
            if environment[key] != value:
                problems.append(
                    f"compute.scheduler: worker {worker} has a different {key} ({environment[key]}, here {value})"
                )
    raise_all(problems, f"restart it as {command}, with this environment")


def _environment(folder: str) -> dict[str, str]:
    """Return what the bytes of a result depend on in the process in which this runs."""
    params_file = Path(folder, "params.yaml")
    found = params_file.is_file()
    return {
        "folder": hashlib.sha256(params_file.read_bytes()).hexdigest()[:8] if found else f"no {params_file}",
        "code": CODE_HASH[:8],
        "python": platform.python_version(),
        **{package: version(package) for package in PINNED_PACKAGES},
    }


def _joblib_backend(client: "Client") -> "ParallelBackendBase":
    from joblib._dask import DaskDistributedBackend

    class Backend(DaskDistributedBackend):
        """Backend that passes on errors of dask itself, such as killed workers.

        With joblib's own backend the caller would wait forever.
        """

        def submit(self, func, callback=None):
            future = super().submit(func, callback)
            if callback is not None:
                future.add_done_callback(lambda done: done.exception() and callback(done.exception()))
            return future

    return Backend(client=client)
