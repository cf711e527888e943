"""git and DVC as a user runs them, in temporary clones of the project."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    """A user's shell: not pytest's own path, nor DVC's marks where the tests run under it; this Python's programs first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    identity = {
        f"GIT_{who}_{what}": "test@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH" and not name.startswith("DVC_")}
    return kept | identity | {"PATH": path, "DVC_NO_ANALYTICS": "1"}


def ran(command: list[str], folder: Path, status: int = 0) -> str:
    """Run a command and return what it printed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment())
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def clone(folder: Path) -> Path:
    """The project's files as a fresh clone would have them, with the tiny parameters committed."""
    files = ran(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], ROOT).split("\0")
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / "dvc.lock").unlink(missing_ok=True)
    shutil.copy(folder / "params/tiny.yaml", folder / "params.yaml")
    ran(["git", "init", "-q"], folder)
    ran(["git", "add", "-A"], folder)
    ran(["git", "commit", "-q", "-m", "tiny"], folder)
    return folder


def stages_run(output: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", output)


def changed(project: Path, **values: object) -> None:
    """Give parameters other values, wherever their names stand."""
    path = project / "params.yaml"
    text = path.read_text()
    for name, value in values.items():
        text, count = re.subn(rf"(?m)^(\s*){name}: [^#\n]*", rf"\g<1>{name}: {value} ", text)
        assert count, name
    path.write_text(text)


def started(command: list[str], folder: Path, log: Path, limits: Callable[[], None] | None = None) -> subprocess.Popen:
    """A command that runs by itself, at the head of a process group of its own; what it prints goes to `log`."""
    with log.open("w") as file:
        return subprocess.Popen(
            command,
            cwd=folder,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment(),
            start_new_session=True,
            preexec_fn=limits,
        )


def kill(process: subprocess.Popen) -> None:
    """Kill a process and all of its group at once, as a power cut would."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for(folder: Path, pattern: str, process: subprocess.Popen) -> None:
    """Wait until a file appears that the process makes."""
    while not any(folder.glob(pattern)):
        assert process.poll() is None
        time.sleep(0.01)
