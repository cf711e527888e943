"""Work that several processes share: one a GPU, or one a share of the processor's cores.

A stage's `main` runs in each of them. On one machine `compute.devices` says how many there are; on several machines torchrun starts
them. The first process alone writes metrics, checkpoints and messages.
"""

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, distributed, multiprocessing
from torch.multiprocessing.spawn import ProcessExitedException

from psfr import params
from psfr.params import Compute
from psfr.utils import errors
from psfr.utils.errors import InputError

T = TypeVar("T")

_NONE = object()

# Processes wait for the first one while it works alone. One that dies is noticed by whoever started it, not by this limit.
PATIENCE = timedelta(hours=24)
GRACE = 5  # seconds for a process to end by itself when its neighbour has


def count() -> int:
    """How many processes share the work."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """This process's place among them, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def local() -> tuple[int, int]:
    """This process's place among those of its machine, and how many they are."""
    return int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def share(items: list[T]) -> list[T]:
    """This process's part of the items: every `count`-th one."""
    return items[rank() :: count()]


def unshared(mine: list[T]) -> list[T]:
    """The results for all the items, in their order, when each process has those of its `share`."""
    return [each for row in zip_longest(*gathered(mine), fillvalue=_NONE) for each in row if each is not _NONE]


def gathered(value: T) -> list[T]:
    """What each process gives, in their order; known to all of them."""
    if count() == 1:
        return [value]
    values: list = [None] * count()
    distributed.all_gather_object(values, value)
    return values


def of_first(value: T) -> T:
    """The first process's value."""
    return gathered(value)[0]


@contextmanager
def by_first(context: AbstractContextManager[T]) -> Iterator[T]:
    """Enter a context in the first process alone; all get what it gives, and it ends when all have come to the end of the block."""
    with context if rank() == 0 else nullcontext() as value:
        yield of_first(value)
        gathered(None)


def mean_(tensors: Iterable[Tensor]) -> None:
    """Put the mean over the processes into each tensor."""
    if count() == 1:
        return
    tensors = list(tensors)
    joined = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.all_reduce(joined)
    joined /= count()
    for tensor, mean in zip(tensors, joined.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))


def run(main: Callable[[], None]) -> None:
    """`errors.run` of a stage's `main`, in as many processes as `compute.devices` or torchrun ask for."""
    errors.run(lambda: _run(main))


def _run(main: Callable[[], None]) -> None:
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun started this process and its neighbours
        if os.environ["RANK"] != "0":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as Ctrl-C in `_worker`: torchrun hands it on to all
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        _join("env://")
        main()
        distributed.destroy_process_group()
        return
    processes = _wanted(params.read().compute)
    if processes == 1:
        main()
    else:
        _launch(main, processes)


def _wanted(compute: Compute) -> int:
    gpus = torch.cuda.device_count() if compute.device != "cpu" and torch.cuda.is_available() else 0
    if gpus and (compute.devices or 0) > gpus:
        raise InputError(f"compute.devices: {compute.devices}, but torch sees {gpus} GPUs: lower it")
    return compute.devices or gpus or 1


def _launch(main: Callable[[], None], processes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        context = multiprocessing.start_processes(
            _worker,
            (main, processes, Path(folder), multiprocessing.get_start_method()),
            processes,
            join=False,
            start_method="spawn",
        )
        # The first process keeps the training's state and then ends; this one waits for it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: context.processes[0].terminate())
        try:
            while not context.join(grace_period=GRACE):
                pass
        except ProcessExitedException as error:
            said = Path(folder, str(error.error_index))
            if said.is_file():
                sys.exit(said.read_text(encoding="utf-8") or error.exit_code)
            print(file=sys.stderr)  # it may have died within a progress bar
            ended = error.signal_name or f"exit status {error.exit_code}"
            raise InputError(
                f"process {error.error_index + 1} of {processes} was ended by {ended}: run again, it goes on from what is kept"
            ) from None


def _worker(place: int, main: Callable[[], None], processes: int, folder: Path, start_method: str) -> None:
    """One of the processes that `_launch` starts; what it has to say when it ends early goes to a file of the folder."""
    os.environ |= {
        "RANK": str(place),
        "WORLD_SIZE": str(processes),
        "LOCAL_RANK": str(place),
        "LOCAL_WORLD_SIZE": str(processes),
    }
    multiprocessing.set_start_method(start_method, force=True)  # of the loader's workers: the usual one again
    own, launcher = os.getpid(), os.getppid()

    def interrupted(*_) -> None:
        # Ctrl-C reaches all, the loader's workers too: it is the first one's to answer, the others take part in its last step.
        if os.getpid() == own and os.getppid() != launcher:
            sys.exit("error: its launcher has ended")

    if place:
        signal.signal(signal.SIGINT, interrupted)

    def work() -> None:
        _join((folder / "meeting").as_uri())
        main()
        distributed.destroy_process_group()

    try:
        errors.run(work)
    except SystemExit as end:
        message, status = (end.code, 1) if isinstance(end.code, str) else ("", end.code)
        (folder / str(place)).write_text(message, encoding="utf-8")
        sys.stderr.flush()
        os._exit(status)  # threads that still wait for the neighbours would end it with an error of their own


def _join(meeting: str) -> None:
    place, neighbours = local()
    on_gpu = params.read().compute.device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(place)
    else:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // neighbours))
    distributed.init_process_group(
        "nccl" if on_gpu else "gloo", meeting, PATIENCE, int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
    )
