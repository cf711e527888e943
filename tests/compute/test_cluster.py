"""Work that a dask scheduler's workers do, real ones over TCP: the same files as one process makes."""

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

from psfr import params
from psfr.compute import cluster
from psfr.compute.parallel import each
from psfr.data import degradation, degradation_table, images, resize
from psfr.utils.errors import InputError
from tests.helpers.running import ROOT, wait_for

TINY = params.read(ROOT / "params/tiny.yaml")


@contextmanager
def dask(
    folder: Path, *arguments: str, path: str = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
) -> Iterator[subprocess.Popen]:
    """A program of dask, until the end of the block."""
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
    """The address of a scheduler without workers."""
    where = folder / "scheduler.json"
    with dask(
        folder, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(where)
    ) as process:
        wait_for(folder, where.name, process)
        yield json.loads(where.read_text())["address"]


def worker(folder: Path, address: str, threads: int, **more: str) -> AbstractContextManager:
    return dask(folder, "worker", address, "--nthreads", str(threads), "--no-dashboard", **more)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project's folder with raw pictures."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "params.yaml").write_text((ROOT / "params/tiny.yaml").read_text())
    rng = np.random.default_rng(0)
    for number in range(24):
        images.write(folder / f"raw/{number:02}.png", rng.integers(0, 256, (72, 80, 3), np.uint8))
    return folder


@pytest.fixture(scope="module")
def scheduler(project):
    """The address of a scheduler with two worker processes that see the project's folder; one of them works in two threads."""
    with empty_scheduler(project) as address, worker(project, address, 1), worker(project, address, 2):
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
        yield address


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def process_of(_: int) -> int:
    return os.getpid()


def fails_at_three(number: int) -> int:
    if number % 4 == 3:
        raise InputError(f"number {number}: is bad")
    return number


def dies(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def make(folder: Path, pool: int | str | None) -> dict[str, bytes]:
    resize.resize_folder(Path("raw"), folder / "hr", 64, pool)
    paths = images.listed(folder / "hr")
    degradation_table.write_table(
        degradation.make_copies(paths, folder / "lr", TINY.degrade, 64, 1, pool), folder / "table.csv"
    )
    return files(folder)


def test_two_workers_over_tcp_make_the_same_files(project, scheduler, monkeypatch):
    monkeypatch.chdir(project)
    assert len(set(each(process_of, range(200), scheduler, "processes"))) == 2, "both take part"
    assert make(Path("alone"), 0) == make(Path("shared"), scheduler)
    assert len(files(Path("shared/lr"))) == 48


def test_faults_of_items_are_named_together(project, scheduler, monkeypatch):
    monkeypatch.chdir(project)
    with pytest.raises(InputError, match="^number 3: is bad; number 7: is bad$"):
        each(fails_at_three, range(10), scheduler, "numbers")


def test_work_that_ends_its_workers_is_one_line(project, monkeypatch):
    monkeypatch.chdir(project)
    with (
        empty_scheduler(project) as address,
        worker(project, address, 1),
        pytest.raises(InputError, match="workers of .* were ended by their work"),
    ):
        each(dies, range(1), address, "processes")


@pytest.mark.parametrize(
    ("what", "change"), [("code", ("CODE", "changed since")), ("numpy", ("version", lambda package: "another"))]
)
def test_a_worker_that_would_make_other_files_is_refused(project, scheduler, monkeypatch, what, change):
    monkeypatch.chdir(project)
    monkeypatch.setattr(cluster, *change)
    with pytest.raises(
        InputError, match=rf"compute.scheduler: worker tcp://127.0.0.1:\d+ has another {what} .*start it again"
    ) as caught:
        each(process_of, range(3), scheduler, "processes")
    assert "\n" not in str(caught.value)


def test_no_scheduler_and_no_workers_are_one_line(project, tmp_path, monkeypatch):
    monkeypatch.chdir(project)
    monkeypatch.setattr(cluster, "SECONDS", 2)
    with pytest.raises(InputError, match="compute.scheduler: no dask scheduler answers at tcp://127.0.0.1:9"):
        each(process_of, range(3), "tcp://127.0.0.1:9", "processes")
    with empty_scheduler(tmp_path) as address:
        with pytest.raises(InputError, match="has no workers: start `python -m dask worker tcp"):
            each(process_of, range(3), address, "processes")
        monkeypatch.setattr(cluster, "SECONDS", 60)
        with worker(tmp_path, address, 1, path=""), pytest.raises(InputError, match="has no module psfr: start it as"):
            each(process_of, range(3), address, "processes")
