"""Work that a dask scheduler's workers do, real ones over TCP: the same files as one process makes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from running import ROOT, ending, wait_for

from psfr import cluster, degradation, images, params, resizing
from psfr.errors import InputError
from psfr.parallel import each

TINY = params.read(ROOT / "params/tiny.yaml")


def dask(folder: Path, *arguments: str) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "dask", *arguments], cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project's folder with raw pictures."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "params.yaml").write_text((ROOT / "params/tiny.yaml").read_text())
    rng = np.random.default_rng(0)
    for number in range(40):
        images.write(folder / f"raw/{number:02}.png", rng.integers(0, 256, (72, 80, 3), np.uint8))
    return folder


@pytest.fixture(scope="module")
def scheduler(project):
    """The address of a scheduler with two worker processes that see the project's folder; one of them works in two threads."""
    where = project / "scheduler.json"
    start = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(where)]
    with ending(dask(project, "scheduler", *start)) as process:
        wait_for(project, where.name, process)
        address = json.loads(where.read_text())["address"]
        with ending(dask(project, "worker", address, "--nthreads", "1", "--no-dashboard")), ending(dask(project, "worker", address, "--nthreads", "2", "--no-dashboard")):
            from distributed import Client

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


def make(folder: Path, pool: int | str | None) -> dict[str, bytes]:
    resizing.resize_folder(Path("raw"), folder / "hr", 64, pool)
    paths = images.listed(folder / "hr")
    degradation.write_table(degradation.make_copies(paths, folder / "lr", TINY.degrade, 64, 1, pool), folder / "table.csv")
    return files(folder)


def test_two_workers_over_tcp_make_the_same_files(project, scheduler, monkeypatch):
    monkeypatch.chdir(project)
    assert len(set(each(process_of, range(200), scheduler, "processes"))) == 2, "both take part"
    assert make(Path("alone"), 0) == make(Path("shared"), scheduler)
    assert len(files(Path("shared/lr"))) == 80


def test_faults_of_items_are_named_together(project, scheduler, monkeypatch):
    monkeypatch.chdir(project)
    with pytest.raises(InputError, match="^number 3: is bad; number 7: is bad$"):
        each(fails_at_three, range(10), scheduler, "numbers")


def test_a_worker_that_would_make_other_files_is_refused(project, scheduler, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"compute.scheduler: worker tcp://127.0.0.1:\d+ has another folder .*start it again") as caught:
        each(process_of, range(3), scheduler, "processes")
    assert "\n" not in str(caught.value)
    monkeypatch.chdir(project)
    monkeypatch.setattr(cluster, "CODE", "changed since")
    with pytest.raises(InputError, match="has another code"):
        each(process_of, range(3), scheduler, "processes")


def test_no_scheduler_and_no_workers_are_one_line(project, tmp_path, monkeypatch):
    monkeypatch.chdir(project)
    monkeypatch.setattr(cluster, "SECONDS", 2)
    with pytest.raises(InputError, match="compute.scheduler: no dask scheduler answers at tcp://127.0.0.1:9"):
        each(process_of, range(3), "tcp://127.0.0.1:9", "processes")
    where = tmp_path / "scheduler.json"
    with ending(dask(tmp_path, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(where))) as process:
        wait_for(tmp_path, where.name, process)
        with pytest.raises(InputError, match="has no workers: start `python -m dask worker tcp"):
            each(process_of, range(3), json.loads(where.read_text())["address"], "processes")


def test_a_worker_without_the_project_is_one_line(project, tmp_path, monkeypatch):
    monkeypatch.chdir(project)
    where = tmp_path / "scheduler.json"
    with ending(dask(tmp_path, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(where))) as process:
        wait_for(tmp_path, where.name, process)
        address = json.loads(where.read_text())["address"]
        bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        worker = subprocess.Popen([sys.executable, "-m", "dask", "worker", address, "--no-dashboard"], cwd=tmp_path, env=bare, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with ending(worker), pytest.raises(InputError, match="has no module psfr: start it as"):
            each(process_of, range(3), address, "processes")
