"""Work on many items, over all cores or over the machines of a dask scheduler, with a progress bar."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from joblib import Parallel, cpu_count, delayed, parallel_config
from tqdm import tqdm

from psfr.compute import cluster
from psfr.utils.errors import InputError, raise_together

Pool = (
    int | str | None
)  # processes of this machine, None for one a core, 0 or 1 for this process alone; or the address of a dask scheduler


def each(function: Callable, items: Iterable, pool: Pool, description: str, unit: str = "image") -> list:
    """Call `function(item)` for every item and return the results in the order of the items.

    Args:
        function: runs in other processes, of other machines too; what it returns or writes may depend on its item alone.
        items: any iterable; a generator is read as the work proceeds.
        pool: who does it.
        description: stands before the progress bar, which shows the rate in `unit`s a second.

    Raises:
        InputError: once all items were tried, with the messages of all that raised one. Any other error ends the work at once.
    """
    return list(results(function, items, pool, description, unit))


def results(function: Callable, items: Iterable, pool: Pool, description: str, unit: str = "image") -> Iterator:
    """The results of `each` one after the other, so that they need not be in memory together."""
    total = len(items) if hasattr(items, "__len__") else None
    problems = []
    with _outcomes(function, items, pool, total) as outcomes:
        for outcome in tqdm(outcomes, description, total, unit=unit):
            if isinstance(outcome, InputError):
                problems.append(str(outcome))
            else:
                yield outcome
    raise_together(problems)


@contextmanager
def _outcomes(function: Callable, items: Iterable, pool: Pool, total: int | None) -> Iterator[Iterator]:
    calls = (delayed(_in_worker)(os.getcwd(), function, item) for item in items)
    if isinstance(pool, str):
        with cluster.connected(pool) as backend, parallel_config(backend):
            yield Parallel(return_as="generator")(calls)
        return
    processes = cpu_count() if pool is None else pool
    if total is not None:
        processes = min(processes, total)
    if processes > 1:
        with parallel_config("loky", inner_max_num_threads=1):
            yield Parallel(processes, return_as="generator")(calls)
    else:
        yield map(partial(_outcome, function), items)


def _outcome(function: Callable, item: object) -> object:
    """The result of one call, or the InputError that it raised."""
    try:
        return function(item)
    except InputError as error:
        return error


def _in_worker(folder: str, function: Callable, item: object) -> object:
    """`_outcome` in a process that joblib or dask may have started for other work, so in another folder.

    Each core has a process already: threads of OpenCV, which joblib cannot set, would only be in their way.
    """
    os.chdir(folder)
    if cv2 := sys.modules.get("cv2"):
        cv2.setNumThreads(1)
    return _outcome(function, item)
