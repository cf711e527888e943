"""Data-parallel processes: one per GPU, or one per CPU core or group of cores.

A stage's `main` runs in each process. On a single machine `compute.devices` sets their number; on several machines
torchrun starts them. Only rank 0 writes metrics, checkpoints and messages.

Processes share the cores of a CPU with other programs better than the threads of one process: the threads wait for
each other, busily, after each operation of a network. As soon as another program takes a core from a thread, the others
wait for it thousands of times per second.
"""

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from itertools import zip_longest
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple, NoReturn, TypeVar, cast

import torch
from torch import Tensor, distributed, multiprocessing
from torch.multiprocessing.spawn import ProcessContext, ProcessExitedException, start_processes

from psfr.compute import exchange
from psfr.compute.cores import num_cores
from psfr.params import Params, read_params
from psfr.utils import errors
from psfr.utils.errors import UserError

T = TypeVar("T")

_MISSING = object()

# The other processes wait at a collective call while rank 0 works alone. A dead process is detected by the launcher or
# torchrun, not by this timeout.
TIMEOUT = timedelta(hours=24)
GRACE_PERIOD = 5  # seconds that the other processes have to exit after one has exited

MAX_CPU_PROCESSES = 8  # by default: each has its own copy of the networks; beyond, each gets several cores
TRAINING_COST = 10  # an image of a training step costs about this times an image of inference
MIN_SHARED_PIXELS = 5_000_000  # pixels of inference whose time on a CPU exceeds the start of more processes


class Work(NamedTuple):
    """How much a stage's networks have to do."""

    num_images: int  # images that pass through networks, each counted as often as it does
    batch_size: int = 0  # images of a training step, which the processes share evenly; 0: no training


def get_world_size() -> int:
    """Return the number of processes, 1 if the work is not distributed."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def get_rank() -> int:
    """Return the rank of this process, 0 if the work is not distributed."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def local_rank_and_size() -> tuple[int, int]:
    """Return the rank of this process among those of its machine, and their number."""
    return int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def shard(items: list[T]) -> list[T]:
    """Return the items that this process handles: every `world_size`-th one, starting at its rank."""
    return items[get_rank() :: get_world_size()]


def gather_in_order(local_results: list[T]) -> list[T]:
    """Return the results for all items, in the order of the items, in all processes.

    Args:
        local_results: one result for each item of this process's `shard`.
    """
    results = []
    for row in zip_longest(*all_gather_object(local_results), fillvalue=_MISSING):
        results.extend(result for result in row if result is not _MISSING)
    return results


def all_gather_object(value: T) -> list[T]:
    """Return the value of each process, ordered by rank, in all processes. Blocks until all have called it."""
    if get_world_size() == 1:
        return [value]
    values: list = [None] * get_world_size()
    distributed.all_gather_object(values, value)
    return values


def broadcast_from_rank_zero(value: T) -> T:
    """Return the value of rank 0 in all processes."""
    return all_gather_object(value)[0]


@contextmanager
def on_rank_zero(context: AbstractContextManager[T]) -> Iterator[T]:
    """Enter the context on rank 0 only; yield its value in all processes.

    Rank 0 leaves the context after all processes have finished the block.
    """
    with context if get_rank() == 0 else nullcontext() as value:
        yield broadcast_from_rank_zero(cast("T", value))  # only rank 0's value is used
        all_gather_object(None)


def all_reduce_mean_(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor, in place, by its mean over all processes."""
    if get_world_size() == 1:
        return
    tensors = list(tensors)
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.all_reduce(flat)
    flat /= get_world_size()
    for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))


def run_distributed(main: Callable[[], None], *version_groups: str, work: Callable[[Params], Work]) -> None:
    """Run a stage's `main` with `errors.run_main`, in as many processes as `compute.devices` or torchrun specify.

    Args:
        main: runs in each process.
        version_groups: see `errors.run_main`.
        work: returns what there is to do, from which the number of processes follows if `compute.devices` is null.
    """
    is_rank_zero = os.environ.get("RANK", "0") == "0"  # torchrun runs this in each process: warn once
    errors.run_main(lambda: _run(main, work), *(version_groups if is_rank_zero else ()))


def _run(main: Callable[[], None], work: Callable[[Params], Work]) -> None:
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun started this process and the others
        if os.environ["RANK"] != "0":
            # torchrun sends its signals to all processes. Only rank 0 handles them, as in `_worker`.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        _run_in_process_group(main, "env://")
        return
    params = read_params()
    num_processes = choose_num_processes(params, work(params))
    if num_processes == 1:
        main()
    else:
        launch(main, num_processes)


def _run_in_process_group(main: Callable[[], None], init_method: str) -> None:
    _init_process_group(init_method)
    main()
    distributed.destroy_process_group()


def choose_num_processes(params: Params, work: Work) -> int:
    """Return `compute.devices`, or by default the number of GPUs, or of processes that use the cores of a CPU.

    It divides the batches of a training. On a CPU it is at most `MAX_CPU_PROCESSES`, and 1 if the work takes less time
    than the start of more processes.
    """
    compute = params.compute
    if compute.device == "mps":  # a Mac has one, and gloo cannot share its tensors
        if (compute.devices or 1) > 1:
            raise UserError(f"compute.devices: {compute.devices}, but mps is one device: set it to null or 1")
        return 1
    gpus = torch.cuda.device_count() if compute.device != "cpu" and torch.cuda.is_available() else 0
    if gpus and (compute.devices or 0) > gpus:
        raise UserError(f"compute.devices: {compute.devices}, but PyTorch finds {gpus} GPUs: lower it")
    if compute.devices:
        return compute.devices
    if not gpus:
        num_pixels = work.num_images * params.image_size**2 * (TRAINING_COST if work.batch_size else 1)
        return _largest_divisor(work, min(num_cores(), MAX_CPU_PROCESSES)) if num_pixels >= MIN_SHARED_PIXELS else 1
    num_processes = _largest_divisor(work, gpus)
    if num_processes < gpus:
        print(
            f"compute.devices: null uses {num_processes} of {gpus} GPUs, the most that can share batches of "
            f"{work.batch_size} images evenly",
            file=sys.stderr,
            flush=True,
        )
    return num_processes


def _largest_divisor(work: Work, limit: int) -> int:
    """Return the largest number of processes, at most `limit`, that share the batches evenly."""
    return max(number for number in range(1, limit + 1) if work.batch_size % number == 0)


def launch(main: Callable[[], None], num_processes: int) -> None:
    """Run `main` in new processes; print the message and take the exit status of the first one that fails."""
    with tempfile.TemporaryDirectory() as folder:
        context = start_processes(
            _worker,
            (main, num_processes, Path(folder), multiprocessing.get_start_method()),
            num_processes,
            join=False,
            start_method="spawn",
        )
        assert isinstance(context, ProcessContext)
        rank_zero = cast("BaseProcess", context.processes[0])
        # After a signal rank 0 saves the training's state and exits; the launcher waits for it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: rank_zero.terminate())
        try:
            while not context.join(grace_period=GRACE_PERIOD):
                pass
        except ProcessExitedException as error:
            message_file = Path(folder, str(error.error_index))
            if message_file.is_file():
                sys.exit(message_file.read_text(encoding="utf-8") or error.exit_code)
            print(file=sys.stderr)  # the process may have died while it drew a progress bar
            reason = (
                f"was killed by {error.signal_name}" if error.signal_name else f"exited with status {error.exit_code}"
            )
            raise UserError(f"process {error.error_index + 1} of {num_processes} {reason}: rerun to resume") from None


def _worker(rank: int, main: Callable[[], None], num_processes: int, folder: Path, start_method: str) -> None:
    """Run `main` as one of the processes of `launch`; if it exits early, write its message to folder/RANK.

    Args:
        start_method: the launcher's default start method, restored here for data loading processes.
    """
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(num_processes),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(num_processes),
    }
    multiprocessing.set_start_method(start_method, force=True)
    if rank:
        _leave_sigint_to_rank_zero()
    try:
        errors.run_main(lambda: _run_in_process_group(main, (folder / "init_method").as_uri()))
    except SystemExit as end:
        message = end.code if isinstance(end.code, str) else ""
        (folder / str(rank)).write_text(message, encoding="utf-8")
        _exit_without_cleanup(1 if isinstance(end.code, str) else end.code)


def _leave_sigint_to_rank_zero() -> None:
    """Ignore Ctrl-C, which reaches all processes, data loading processes included.

    Rank 0 handles it, and this process takes part in the last step. It exits if the launcher has died.
    """
    worker, launcher = os.getpid(), os.getppid()

    def on_sigint(*_) -> None:
        # Data loading processes inherit this handler.
        if os.getpid() == worker and os.getppid() != launcher:
            sys.exit("error: the launcher process has died")

    signal.signal(signal.SIGINT, on_sigint)


def _exit_without_cleanup(status: int | None) -> NoReturn:
    """Exit at once: threads that wait for other processes would replace the message by an error of their own."""
    sys.stderr.flush()
    os._exit(status or 0)


def _init_process_group(init_method: str) -> None:
    local_rank, local_world_size = local_rank_and_size()
    use_cuda = read_params().compute.device != "cpu" and torch.cuda.is_available()
    if use_cuda:
        torch.cuda.set_device(local_rank)
    else:
        torch.set_num_threads(max(1, num_cores() // local_world_size))
    distributed.init_process_group(
        "nccl" if use_cuda else "gloo", init_method, TIMEOUT, int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
    )
    exchange.connect()
