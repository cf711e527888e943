"""Run `dvc` and `python -m MODULE` in forks of this process, which has imported everything before they start."""

import importlib
import logging
import multiprocessing
import os
import runpy
import shlex
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

import cv2
import dvc.cli
import dvc.logger
import dvc.stage.run
import torch
from dvc.stage.exceptions import StageCmdFailedError
from dvc.utils.serialize import _yaml
from torch.multiprocessing.spawn import ProcessContext, start_processes

from psfr.compute import processes
from psfr.utils import compat

ROOT = Path(__file__).parents[2]
PYTHON = ("python", sys.executable)
FORK = multiprocessing.get_context("fork")

# What stages and DVC import when they need it.
MODULES = (
    "dvc.cli.parser",
    "dvc.repo.reproduce",
    "dvclive.live",
    "networkx",
    "pandas",
    "pillow_heif",
    "torchmetrics.functional.image",
)
_RUN_IN_SHELL = dvc.stage.run._run
_PARSE_YAML_FOR_UPDATE = _yaml.parse_yaml_for_update

# CUDA cannot be used in a fork of a process that has used it.
CAN_FORK = sys.platform == "linux" and not torch.cuda.is_available()


class Fork:
    """A command that runs in a fork and in a process group of its own; what tests use of `subprocess.Popen`."""

    def __init__(
        self,
        command: list[str],
        folder: Path,
        environment: dict[str, str],
        stdout: Path,
        stderr: Path | None = None,
        limits: Callable[[], None] | None = None,
    ):
        """Start `dvc ...` or `python -m MODULE ...` in a folder.

        Args:
            stdout: file for the output.
            stderr: file for the errors; the same as for the output if None.
            limits: runs in the fork before the command.
        """
        _import_modules()

        def run() -> None:
            os.setpgid(0, 0)
            _redirect(1, stdout)
            _redirect(2, stderr or stdout)
            if limits:
                limits()
            _run(command, folder, environment)

        self._process = FORK.Process(target=run)
        self._process.start()
        self.pid = self._process.pid
        with suppress(ProcessLookupError):
            os.setpgid(self.pid, self.pid)  # here and in the fork: it has its group before either continues

    def poll(self) -> int | None:
        return self._process.exitcode

    returncode = property(poll)

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("fork", timeout or 0)
        return self.returncode

    def send_signal(self, signum: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, signum)


def can_fork(command: list[str]) -> bool:
    """Return whether `Fork` runs a command."""
    is_module = command[0] in PYTHON and command[1] == "-m" and command[2].startswith(("stages.", "psfr.", "tests."))
    return CAN_FORK and (command[0] == "dvc" or is_module)


@cache
def _import_modules() -> None:
    stages = [f"stages.{path.stem}" for path in (ROOT / "stages").glob("[!_]*.py")]
    compat.import_stlpips()  # before torchmetrics, which imports torchvision
    for name in [*stages, *MODULES]:
        importlib.import_module(name)


def _redirect(descriptor: int, path: Path) -> None:
    """Let stdout (1) or stderr (2) append to a file, buffered as those of a new process are."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, descriptor)
    os.close(file)
    stream = open(descriptor, "w", buffering=1 if descriptor == 2 else -1, closefd=False)  # noqa: SIM115
    setattr(sys, "stdout" if descriptor == 1 else "stderr", stream)


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Run a command in this process, a fork, and exit."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cv2.setNumThreads(0)  # a fork lacks OpenCV's threads, which OpenCV would join before it starts another number
    if command[0] == "dvc":
        for name in ("dvc", "dvc_objects", "dvc_data"):
            logging.getLogger(name).handlers.clear()
        dvc.logger.setup()
        dvc.stage.run._run = _run_stage
        _yaml.parse_yaml_for_update = _parse_yaml_for_update
        sys.exit(dvc.cli.main(command[1:]))
    sys.argv = command[2:]
    processes.start_processes = _fork_processes
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # the module has been imported before
        runpy.run_module(command[2], run_name="__main__", alter_sys=True)


def _fork_processes(*arguments: object, **options: object) -> ProcessContext:
    """Start the processes of `psfr.compute.processes.launch` as forks, which import nothing."""
    return start_processes(*arguments, **options | {"start_method": "fork"})


def _parse_yaml_for_update(text: str, path: str) -> dict:
    """Parse dvc.lock, which has no comments to keep, with the fast parser: DVC reads and writes it for each stage."""
    return (_yaml.parse_yaml if Path(path).name == "dvc.lock" else _PARSE_YAML_FOR_UPDATE)(text, path)


def _run_stage(executable: str, command: str, cwd: str, env: dict[str, str], **options: object) -> None:
    """Run the command of a stage in a fork; replaces the function of DVC that runs it in a shell."""
    words = shlex.split(command)
    if not can_fork(words):
        _RUN_IN_SHELL(executable, command, cwd=cwd, env=env, **options)
        return
    process = FORK.Process(target=_run, args=(words, Path(cwd), env))
    process.start()
    process.join()
    if process.exitcode:
        raise StageCmdFailedError(command, process.exitcode)
