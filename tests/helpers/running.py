"""Run git, DVC and the stages as a user does, in temporary clones of the project.

`run_module` runs a module in this process. `run_command` and `start_command` run DVC and the stages in forks of this
process, which have imported PyTorch before. `run_process` and `start_process` start new processes.
"""

import hashlib
import io
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.helpers.forking import Fork

ROOT = Path(__file__).parents[2]


def user_environment() -> dict[str, str]:
    """Return the environment of a user's shell in which this Python's programs come first.

    It lacks pytest's path, and DVC's variables if the tests run under DVC.
    """
    inherited = {
        name: value for name, value in os.environ.items() if name != "PYTHONPATH" and not name.startswith("DVC_")
    }
    identity = {
        f"GIT_{who}_{what}": "test@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return inherited | identity | {"PATH": path, "DVC_NO_ANALYTICS": "1"}


def run_command(command: list[str], folder: Path, status: int = 0) -> str:
    """Run a command, check its exit status and return what it printed, stdout before stderr."""
    from tests.helpers.forking import Fork, can_fork

    if not can_fork(command):
        return run_process(command, folder, status)
    with tempfile.TemporaryDirectory() as temporary:
        files = Path(temporary, "stdout"), Path(temporary, "stderr")
        fork = Fork(command, folder, user_environment(), *files)
        fork.wait()
        output = "".join(file.read_text() for file in files)
    assert fork.returncode == status, output
    return output


def run_process(command: list[str], folder: Path, status: int = 0) -> str:
    """Do what `run_command` does, in a new process."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=user_environment())
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def run_module(folder: Path, *arguments: object) -> subprocess.CompletedProcess:
    """Run `python -m` in a folder, but in this process, and return what `subprocess.run` would return."""
    stdout, stderr, status = io.StringIO(), io.StringIO(), 0
    sigterm = signal.getsignal(signal.SIGTERM)
    with (
        pytest.MonkeyPatch.context() as patch,
        warnings.catch_warnings(action="ignore", category=RuntimeWarning),  # the module may have been imported before
        redirect_stdout(stdout),
        redirect_stderr(stderr),
    ):
        patch.chdir(folder)
        patch.setattr(sys, "argv", [str(argument) for argument in arguments])
        try:
            runpy.run_module(sys.argv[0], run_name="__main__")
        except SystemExit as end:
            status = end.code
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
                status = 1
    signal.signal(signal.SIGTERM, sigterm)
    return subprocess.CompletedProcess(list(arguments), status or 0, stdout.getvalue(), stderr.getvalue())


def clone(folder: Path, **params: object) -> Path:
    """Copy the files that a fresh clone would contain to `folder`, with the tiny parameters, and commit them.

    Args:
        params: for `set_params`. By default the work of a stage remains in its process.
    """
    files = run_command(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], ROOT).split("\0")
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / "dvc.lock").unlink(missing_ok=True)
    shutil.copy(folder / "params/tiny.yaml", folder / "params.yaml")
    set_params(folder, **({"workers": 0, "devices": 1} | params))
    run_command(["git", "init", "-q"], folder)
    run_command(["git", "add", "-A"], folder)
    run_command(["git", "commit", "-q", "-m", "tiny"], folder)
    return folder


def stages_run(output: str) -> list[str]:
    """Return the names of the stages that `dvc repro` ran, from its output."""
    return re.findall(r"Running stage '([^']+)'", output)


def set_params(project: Path, **values: object) -> None:
    """Set keys of a project's params.yaml, in each group that has a key of the name."""
    path = project / "params.yaml"
    text = path.read_text()
    for name, value in values.items():
        text, count = re.subn(rf"(?m)^(\s*){name}: [^#\n]*", rf"\g<1>{name}: {value} ", text)
        assert count, name
    path.write_text(text)


def set_cache_type(project: Path, cache_type: str) -> None:
    """Let DVC link or copy outputs from its cache from now on: `copy`, `hardlink` or `symlink`."""
    (project / ".dvc/config.local").write_text(f"[cache]\n    type = {cache_type}\n")


def damaged_objects(project: Path) -> list[str]:
    """Return the objects of a project's DVC cache whose content does not have the MD5 hash of their name.

    A temporary file, `.NAME.tmp`, which DVC leaves when it is killed while it copies, is no object.
    """
    objects = [path for path in (project / ".dvc/cache/files/md5").glob("*/[!.]*") if path.is_file()]
    assert objects
    hashes = {path: hashlib.md5(path.read_bytes()).hexdigest() for path in objects}
    return [path.name for path, md5 in hashes.items() if path.parent.name + path.stem != md5]


def start_process(
    command: list[str], folder: Path, log: Path, limits: Callable[[], None] | None = None
) -> subprocess.Popen:
    """Start a command in a process group of its own; its output goes to `log`. `limits` runs in the child first."""
    with log.open("w") as file:
        return subprocess.Popen(
            command,
            cwd=folder,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=user_environment(),
            start_new_session=True,
            preexec_fn=limits,
        )


def start_command(
    command: list[str], folder: Path, log: Path, limits: Callable[[], None] | None = None
) -> "subprocess.Popen | Fork":
    """Do what `start_process` does, in a fork of this process if the command is DVC or a stage."""
    from tests.helpers.forking import Fork, can_fork

    if not can_fork(command):
        return start_process(command, folder, log, limits)
    log.write_text("")
    return Fork(command, folder, user_environment(), log, limits=limits)


def kill(process: "subprocess.Popen | Fork") -> None:
    """Kill a process and its whole group at once, as a power failure would."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for(folder: Path, pattern: str, process: "subprocess.Popen | Fork") -> None:
    """Wait until the process creates a file that matches the pattern; fail if it ends before."""
    while not any(folder.glob(pattern)):
        assert process.poll() is None
        time.sleep(0.01)
