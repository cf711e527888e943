"""Measure the parsing network's training step alone, and beside as many busy processes as there are cores.

python -m benchmarks.load

The step is that of params.yaml, on random images, in as many processes as `compute.devices: null` would start, and in
one process with two threads. The forms and the loads take turns.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import multiprocessing

from psfr.compute import processes
from psfr.compute.cores import num_cores
from psfr.compute.devices import get_device
from psfr.networks.fpn import FaceParsingNetwork
from psfr.params import read_params
from psfr.training import fpn

ROUNDS = 3
WARMUP_SECONDS = 1.0
STEPS_PER_CHECK = 2  # steps between two checks of the time, on which the processes agree


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5, help="duration of each of the 12 measurements")
    options = parser.parse_args()
    params = read_params()
    num_processes = processes.choose_num_processes(params, processes.Work(10**6, params.fpn.batch_size))
    rates: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for prefix, number, threads in (("", num_processes, num_cores() // num_processes), ("two_threads_", 1, 2)):
            for load, rate in _measure(number, threads, options.seconds).items():
                rates.setdefault(prefix + load, []).append(rate)
                print(f"{prefix}{load}: {rate:.2f} steps a second", file=sys.stderr, flush=True)
    print(
        json.dumps({**{name: statistics.median(values) for name, values in rates.items()}, "processes": num_processes})
    )


def _measure(num_processes: int, threads: int, seconds: float) -> dict[str, float]:
    """Return the steps per second "alone" and "under_load", measured in new processes."""
    with TemporaryDirectory() as folder:
        os.environ |= {
            "LOAD_RESULT": f"{folder}/result.json",
            "LOAD_SECONDS": str(seconds),
            "LOAD_THREADS": str(threads),
        }
        processes.launch(_time_steps, num_processes)
        return json.loads(Path(folder, "result.json").read_text())


def _time_steps() -> None:
    """Time the steps in one of the processes that share them; rank 0 writes the result to the file LOAD_RESULT."""
    params = read_params()
    device = get_device(params.compute)
    torch.set_num_threads(int(os.environ["LOAD_THREADS"]))
    torch.manual_seed(0)
    network = FaceParsingNetwork(**fpn.network_config(params)).to(device)
    optimizer = torch.optim.Adam(network.parameters(), params.fpn.learning_rate, fused=True)
    local_batch_size = params.fpn.batch_size // processes.get_world_size()
    images = torch.rand(local_batch_size, 3, params.image_size, params.image_size).to(device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 19, (local_batch_size, params.image_size, params.image_size)).to(device)
    weights = torch.ones(19).to(device)

    def steps_per_second(seconds: float) -> float:
        processes.all_gather_object(None)  # the processes start together
        start, num_steps, elapsed = time.perf_counter(), 0, 0.0
        while elapsed < seconds:
            for _ in range(STEPS_PER_CHECK):
                fpn.train_step(network, optimizer, (images, images, labels), weights, params)
            num_steps += STEPS_PER_CHECK
            elapsed = processes.broadcast_from_rank_zero(time.perf_counter() - start)
        return num_steps / elapsed

    steps_per_second(WARMUP_SECONDS)
    seconds = float(os.environ["LOAD_SECONDS"])
    rates = {"alone": steps_per_second(seconds)}
    is_rank_zero = processes.get_rank() == 0
    busy = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(num_cores() if is_rank_zero else 0)]
    for process in busy:
        process.start()
    rates["under_load"] = steps_per_second(seconds)
    for process in busy:
        process.kill()
    if is_rank_zero:
        Path(os.environ["LOAD_RESULT"]).write_text(json.dumps(rates))


def _spin() -> None:
    while True:
        pass


if __name__ == "__main__":
    main()
