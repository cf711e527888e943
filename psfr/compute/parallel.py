"""Parallel map over the cores of this machine or over the workers of a dask scheduler, with a progress bar."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from joblib import Parallel, delayed, parallel_config
from tqdm import tqdm

from psfr.compute import cluster
from psfr.compute.cores import num_cores
from psfr.utils.errors import UserError, print_debug_traceback, raise_all

T = TypeVar("T")
R = TypeVar("R")

# The number of processes on this machine (None: one per core; 0 or 1: no other process), or a dask scheduler's address.
Executor = int | str | None

START_AFTER = 2  # seconds of processor time that this process works alone: about what it costs to start the others


def map(
    function: Callable[[T], R], items: Iterable[T], executor: Executor, description: str, unit: str = "image"
) -> list[R]:
    """Call `function(item)` for every item and return the results in the order of the items.

    Args:
        function: picklable; it may run in other processes, also on other machines. What it returns or writes may depend
            on its item only.
        items: any iterable; a generator is consumed while the work proceeds.
        executor: where the calls run.
        description: label of the progress bar.
        unit: noun for one item in the progress bar.

    Raises:
        UserError: some calls raised a UserError. It is raised after all items were processed and contains all of their
            messages. Any other exception stops the work immediately.
    """
    return list(imap(function, items, executor, description, unit))


def imap(
    function: Callable[[T], R], items: Iterable[T], executor: Executor, description: str, unit: str = "image"
) -> Iterator[R]:
    """Yield the results of `map` one by one, so that they need not fit in memory together."""
    total = len(items) if isinstance(items, Sized) else None
    problems = []
    with _outcomes(function, items, executor, total) as outcomes:
        for outcome in tqdm(outcomes, description, total, unit=unit):
            if isinstance(outcome, UserError):
                problems.append(str(outcome))
            else:
                yield outcome
    raise_all(problems)


@contextmanager
def _outcomes(
    function: Callable[[T], R], items: Iterable[T], executor: Executor, total: int | None
) -> Iterator[Iterable]:
    """Yield an iterable of the results, in order."""
    if isinstance(executor, str):
        calls = (delayed(_call_in_worker)(os.getcwd(), function, item) for item in items)
        with cluster.dask_backend(executor) as backend, parallel_config(backend):
            yield Parallel(return_as="generator")(calls)
        return
    num_processes = num_cores() if executor is None else executor
    yield _local_outcomes(function, items, num_processes if total is None else min(num_processes, total))


def _local_outcomes(function: Callable[[T], R], items: Iterable[T], num_processes: int) -> Iterator:
    """Yield the results of this machine's processes, in order; a small number of items starts no other process."""
    items, seconds = iter(items), 0.0
    for item in items:
        start = time.process_time()
        outcome = _try_call(function, item)
        seconds += time.process_time() - start
        yield outcome
        if num_processes > 1 and seconds >= START_AFTER:
            break
    else:
        return
    calls = (delayed(_call_in_worker)(os.getcwd(), function, item) for item in items)
    with parallel_config("loky", inner_max_num_threads=1):
        yield from Parallel(num_processes, return_as="generator")(calls)


def _try_call(function: Callable[[T], R], item: T) -> R | UserError:
    """Return the result of the call, or the UserError that it raised."""
    try:
        return function(item)
    except UserError as error:
        print_debug_traceback(error)
        return error


def _call_in_worker(folder: str, function: Callable[[T], R], item: T) -> R | UserError:
    """Run `_try_call` in the working directory `folder`: the worker may have been started in another one.

    OpenCV is limited to one thread, which joblib cannot do: each core already has a process.
    """
    os.chdir(folder)
    if cv2 := sys.modules.get("cv2"):
        cv2.setNumThreads(1)
    return _try_call(function, item)
