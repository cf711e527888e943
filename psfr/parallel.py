"""Work on many items, over all cores, with a progress bar."""

import os
import sys
from collections.abc import Callable, Iterable
from functools import partial

from joblib import Parallel, cpu_count, delayed, parallel_config
from tqdm import tqdm

from psfr.errors import InputError, raise_together


def each(function: Callable, items: Iterable, workers: int | None, description: str, unit: str = "image") -> list:
    """Call `function(item)` for every item and return the results in the order of the items.

    Args:
        function: runs in other processes; what it returns may depend on its item alone.
        items: any iterable; a generator is read as the work proceeds.
        workers: processes; None for one a core, 0 or 1 for this process alone.
        description: stands before the progress bar, which shows the rate in `unit`s a second.

    Raises:
        InputError: once all items were tried, with the messages of all that raised one. Any other error ends the work at once.
    """
    total = len(items) if hasattr(items, "__len__") else None
    processes = cpu_count() if workers is None else workers
    if total is not None:
        processes = min(processes, total)
    if processes > 1:
        with parallel_config("loky", inner_max_num_threads=1):
            outcomes = Parallel(processes, return_as="generator")(delayed(_in_worker)(os.getcwd(), function, item) for item in items)
    else:
        outcomes = map(partial(_outcome, function), items)
    outcomes = list(tqdm(outcomes, description, total, unit=unit))
    raise_together(str(outcome) for outcome in outcomes if isinstance(outcome, InputError))
    return outcomes


def _outcome(function: Callable, item: object) -> object:
    """The result of one call, or the InputError that it raised."""
    try:
        return function(item)
    except InputError as error:
        return error


def _in_worker(folder: str, function: Callable, item: object) -> object:
    """`_outcome` in a process that joblib may have started for other work, so in another folder.

    Each core has a process already: threads of OpenCV, which joblib cannot set, would only be in their way.
    """
    os.chdir(folder)
    if cv2 := sys.modules.get("cv2"):
        cv2.setNumThreads(1)
    return _outcome(function, item)
