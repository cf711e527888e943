"""Machines that share the work: the workers of a dask scheduler, which see the project's folder under the same path."""

import hashlib
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from psfr.utils.errors import InputError, raise_together, shortened

if TYPE_CHECKING:
    from distributed import Client
    from joblib.parallel import ParallelBackendBase

SECONDS = 30  # that a scheduler, and then its first worker, may take to answer
PIXELS = ("numpy", "opencv-python", "pillow", "imgaug")  # packages on which the bytes of an image depend
START = "`python -m dask worker ADDRESS --nthreads 1` in the project's folder"


def _code() -> str:
    """One hash of the project's modules, as they are on disk."""
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


CODE = _code()  # when this process began: a worker goes on with what it has loaded then


@contextmanager
def connected(address: str) -> Iterator["ParallelBackendBase"]:
    """joblib's backend on the scheduler at `address`, such as tcp://10.0.0.1:8786, all of whose workers make the bytes that this process would.

    Raises:
        InputError: nothing answers there, it has no workers, a worker has other packages or code, or does not see the project's folder;
            or, from the block, the same work has ended several workers.
    """
    from distributed import Client, KilledWorker  # here: it takes a second, and few runs need it

    try:
        client = Client(address, timeout=SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"compute.scheduler: no dask scheduler answers at {address} ({shortened(error)}): start `dask scheduler`, or set it to null"
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=SECONDS)
            seen = client.run(_worker, os.getcwd())
        except TimeoutError:
            raise InputError(
                f"compute.scheduler: {address} has no workers: start {START.replace('ADDRESS', address)}"
            ) from None
        except Exception as error:  # dask hands on what a worker could not even load as text
            missing = re.search(r"No module named '([^']+)'", str(error))
            if not missing:
                raise
            raise InputError(
                f"compute.scheduler: a worker of {address} has no module {missing[1]}: start it as {START.replace('ADDRESS', address)}"
            ) from None
        own = _worker(os.getcwd())
        raise_together(
            (
                f"compute.scheduler: worker {name} has another {what} ({other[what]}, here {own[what]})"
                for name, other in seen.items()
                for what in own
                if other[what] != own[what]
            ),
            f"start it again as {START.replace('ADDRESS', address)}, with this environment",
        )
        try:
            yield _backend(client)
        except KilledWorker as error:
            raise InputError(
                f"compute.scheduler: workers of {address} were ended by their work, most likely for want of memory ({shortened(error)}): start fewer on a machine"
            ) from None


def _backend(client: "Client") -> "ParallelBackendBase":
    from joblib._dask import DaskDistributedBackend

    class Backend(DaskDistributedBackend):
        """joblib's own says nothing of an error that is dask's, such as of workers that died: whoever waits for the result would wait forever."""

        def submit(self, func, callback=None):
            future = super().submit(func, callback)
            future.add_done_callback(lambda done: done.exception() and callback(done.exception()))
            return future

    return Backend(client=client)


def _worker(folder: str) -> dict[str, str]:
    """What the bytes of a result depend on, and whether the project's folder is there, of the process in which it runs."""
    there = Path(folder, "params.yaml")
    return {
        "folder": hashlib.sha256(there.read_bytes()).hexdigest()[:8] if there.is_file() else f"no {there}",
        "code": CODE[:8],
        "python": platform.python_version(),
        **{package: version(package) for package in PIXELS},
    }
