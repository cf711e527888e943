"""Workers of a dask scheduler, which communicate over TCP, write the same files as a single process."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
from distributed import Client

from psfr.compute import cluster, parallel
from psfr.compute.parallel import Executor
from psfr.data import degradation, degradation_table, images, resize
from psfr.params import read_params
from psfr.utils.errors import UserError
from tests.helpers.running import ROOT, wait_for

pytestmark = pytest.mark.process

TINY = read_params(ROOT / "params/tiny.yaml")


@contextmanager
def dask(folder: Path, *arguments: str, path: str = str(ROOT)) -> Iterator[subprocess.Popen]:
    """Run a dask command in a folder until the end of the block, with `path` as PYTHONPATH."""
    environment = os.environ | {
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": "1",
        "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "dask", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@contextmanager
def empty_scheduler(folder: Path) -> Iterator[str]:
    """Start a scheduler without workers and yield its address."""
    address_file = folder / "scheduler.json"
    arguments = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(address_file))
    with dask(folder, "scheduler", *arguments) as process:
        wait_for(folder, address_file.name, process)
        yield json.loads(address_file.read_text())["address"]


def worker(folder: Path, address: str, threads: int, **options: str) -> AbstractContextManager:
    """Start a worker in a folder; `options` go to `dask`."""
    return dask(folder, "worker", address, "--nthreads", str(threads), "--no-dashboard", **options)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Make a project folder with raw images."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "params.yaml").write_text((ROOT / "params/tiny.yaml").read_text())
    rng = np.random.default_rng(0)
    for number in range(24):
        images.write(folder / f"raw/{number:02}.png", rng.integers(0, 256, (72, 80, 3), np.uint8))
    return folder


@pytest.fixture(scope="module")
def scheduler(project):
    """Start a scheduler with two workers in the project's folder, one of them with two threads; yield its address."""
    with empty_scheduler(project) as address, worker(project, address, 1), worker(project, address, 2):
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=300)
        yield address


def read_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def get_pid(_: int) -> int:
    return os.getpid()


def fails_at_three(number: int) -> int:
    if number % 4 == 3:
        raise UserError(f"number {number}: is bad")
    return number


def kill_own_process(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def resize_and_degrade(folder: Path, executor: Executor) -> dict[str, bytes]:
    """Resize and degrade the raw images as the stages do; return the contents of the files written."""
    resize.resize_folder(Path("raw"), folder / "hr", 64, executor)
    paths = images.list_images(folder / "hr")
    rows = degradation.write_variants(paths, folder / "lr", TINY.degrade, 64, 1, executor)
    degradation_table.write_table(rows, folder / "table.csv")
    return read_files(folder)


def test_two_workers_write_the_same_files_as_one_process(project, scheduler, monkeypatch):
    monkeypatch.chdir(project)
    assert len(set(parallel.map(get_pid, range(200), scheduler, "processes"))) == 2, "both workers take part"
    assert resize_and_degrade(Path("single"), 0) == resize_and_degrade(Path("cluster"), scheduler)
    assert len(read_files(Path("cluster/lr"))) == 48


def test_errors_of_several_items_are_reported_together(project, scheduler, monkeypatch):
    monkeypatch.chdir(project)
    with pytest.raises(UserError, match="^number 3: is bad; number 7: is bad$"):
        parallel.map(fails_at_three, range(10), scheduler, "numbers")


def test_task_that_kills_workers_is_reported(project, monkeypatch):
    monkeypatch.chdir(project)
    with (
        empty_scheduler(project) as address,
        worker(project, address, 1),
        pytest.raises(UserError, match="workers of .* were killed, most likely for lack of memory"),
    ):
        parallel.map(kill_own_process, range(1), address, "processes")


@pytest.mark.parametrize(
    ("key", "change"), [("code", ("CODE_HASH", "changed since")), ("numpy", ("version", lambda package: "another"))]
)
def test_worker_with_a_different_environment_is_rejected(project, scheduler, monkeypatch, key, change):
    monkeypatch.chdir(project)
    monkeypatch.setattr(cluster, *change)
    with pytest.raises(
        UserError, match=rf"compute.scheduler: worker tcp://127.0.0.1:\d+ has a different {key} .*restart it as"
    ) as caught:
        parallel.map(get_pid, range(3), scheduler, "processes")
    assert "\n" not in str(caught.value)


def test_missing_scheduler_workers_and_modules_are_reported(project, tmp_path, monkeypatch):
    monkeypatch.chdir(project)
    monkeypatch.setattr(cluster, "TIMEOUT", 2)
    with pytest.raises(UserError, match="compute.scheduler: no dask scheduler answers at tcp://127.0.0.1:9"):
        parallel.map(get_pid, range(3), "tcp://127.0.0.1:9", "processes")
    with empty_scheduler(tmp_path) as address:
        with pytest.raises(UserError, match="has no workers: start `python -m dask worker tcp"):
            parallel.map(get_pid, range(3), address, "processes")
        monkeypatch.setattr(cluster, "TIMEOUT", 60)
        with worker(tmp_path, address, 1, path=""), pytest.raises(UserError, match="has no module psfr: start it as"):
            parallel.map(get_pid, range(3), address, "processes")
