"""Fixtures shared by several test files, and the check that tests which start processes are marked with `process`."""

import os

# Each of the workers of pytest-xdist has a core. Set before PyTorch is imported; the processes of the tests inherit it.
os.environ["OMP_NUM_THREADS"] = "1"

import shutil
import sys
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

from tests.helpers.running import clone, run_command

# Hypothesis's time limit of 200 ms per example fails on a busy machine and tests nothing of this project.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")

PROCESS_FIXTURES = {"finished_project", "finished_experiment", "s3", "browser"}  # tests that use them are marked
PROCESS_EVENTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "os.exec"}

unmarked_test: str | None = None  # the running test, if it is not marked with `process`


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    for item in items:
        if not PROCESS_FIXTURES.isdisjoint(item.fixturenames):
            item.add_marker(pytest.mark.process)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    global unmarked_test
    unmarked_test = None if item.get_closest_marker("process") else item.nodeid
    try:
        return (yield)
    finally:
        unmarked_test = None


def fail_unmarked_test(event: str, _arguments: object = None) -> None:
    if event in PROCESS_EVENTS and unmarked_test:
        pytest.fail(f"{unmarked_test} starts a process: mark it with pytest.mark.process")


def start_checked(process: BaseProcess, start: Callable[[BaseProcess], None] = BaseProcess.start) -> None:
    fail_unmarked_test("os.fork")  # what multiprocessing and joblib start raises no event of its own
    start(process)


sys.addaudithook(fail_unmarked_test)
BaseProcess.start = start_checked


@pytest.fixture(autouse=True)
def default_float32():
    """Let torch compute float32 as after its import: `get_device` sets how, after which torch exports no ONNX graph."""
    yield
    if torch := sys.modules.get("torch"):
        torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision = "none", "tf32"


@pytest.fixture(scope="session")
def build_once(tmp_path_factory) -> Callable[[str, Callable[[Path], None]], Path]:
    """A function that builds a folder, once for all workers of pytest-xdist, and returns it."""
    temporary = tmp_path_factory.getbasetemp()
    shared = temporary.parent if "PYTEST_XDIST_WORKER" in os.environ else temporary

    def build_folder(name: str, build: Callable[[Path], None]) -> Path:
        folder, done = shared / name / "project", shared / name / "done"
        folder.parent.mkdir(exist_ok=True)
        with FileLock(shared / name / "lock"):
            if not done.exists():
                build(folder)
                done.touch()
        return folder

    return build_folder


@pytest.fixture(scope="session")
def finished_project(build_once) -> Path:
    """A clone in which `dvc repro` has run on params/tiny.yaml, results committed. Copy it, do not modify it."""

    def build(folder: Path) -> None:
        clone(folder)
        run_command(["dvc", "repro"], folder)
        run_command(["git", "add", "-A"], folder)
        run_command(["git", "commit", "-q", "-m", "results"], folder)

    return build_once("finished", build)


@pytest.fixture
def project(finished_project, tmp_path) -> Path:
    """A copy of `finished_project` that the test may modify."""
    return Path(shutil.copytree(finished_project, tmp_path / "project", symlinks=True))


@pytest.fixture(scope="session")
def finished_experiment(finished_project, build_once) -> Path:
    """A copy of `finished_project` in whose workspace the experiment "ss50" has run. Copy it, do not modify it.

    The output of `dvc exp run` is in the file `output` beside it.
    """

    def build(folder: Path) -> None:
        shutil.copytree(finished_project, folder, symlinks=True)
        output = run_command(["dvc", "exp", "run", "-n", "ss50", "-S", "lambda_ss=50"], folder)
        (folder.parent / "output").write_text(output)

    return build_once("experiment", build)


@pytest.fixture
def experiment(finished_experiment, tmp_path) -> Path:
    """A copy of `finished_experiment` that the test may modify."""
    return Path(shutil.copytree(finished_experiment, tmp_path / "experiment", symlinks=True))
