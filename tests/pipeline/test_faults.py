"""A stage that fails prints one line, and a training that fails leaves a valid checkpoint."""

import os
import resource
import shutil
import signal
import sys
from pathlib import Path

import pytest

from psfr.training import checkpoint
from psfr.training.checkpoint import CheckpointManager
from psfr.utils.errors import UserError, run_main
from psfr.utils.files import atomic_write
from stages import infer
from tests.helpers.running import set_params, start_command, start_process, wait_for
from tests.helpers.sets import write_params

TRAIN = [sys.executable, "-m", "stages.train"]


@pytest.fixture
def training(project):
    """A project with a long training in one process that has not started."""
    set_params(project, epochs=1000, validate_every=0, checkpoint_seconds=0, devices=1)
    shutil.rmtree(project / "models/.train.unfinished")
    return project


def last_line(process, log: Path) -> str:
    """Wait until a training fails and return the last line of its output."""
    assert process.wait(300) == 1
    text = log.read_text()
    assert "Traceback" not in text
    return text.replace("\r", "\n").strip().splitlines()[-1]


def checkpoint_step(project: Path) -> int:
    """Return the step of the latest checkpoint; assert that it is valid and that there are no partial files."""
    (folder,) = (project / "models/.train.unfinished").iterdir()
    assert not list(folder.glob(".*"))
    latest = CheckpointManager(folder, 0).latest()
    return checkpoint.load(latest)["train_state"]["step"]


def test_missing_image_is_named(training, tmp_path):
    process = start_command(TRAIN, training, tmp_path / "log")
    wait_for(training, "models/.train.unfinished/*/step_*.safetensors", process)
    (training / "data/ffhq/hr/00003.png").unlink()
    assert last_line(process, tmp_path / "log").startswith("error: data/ffhq/hr/00003.png: ")
    assert checkpoint_step(training) > 0


def test_full_disk_is_reported(training, tmp_path):
    def small_disk():
        # Of each file: a checkpoint has 2.7 MB, DVC's database of hashes less.
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**21, 2**21))

    process = start_command(TRAIN, training, tmp_path / "log", small_disk)
    assert last_line(process, tmp_path / "log").startswith("error: cannot write a checkpoint: ")
    (folder,) = (training / "models/.train.unfinished").iterdir()
    assert not list(folder.glob(".*")) and not list(folder.glob("step_*.safetensors"))


def test_out_of_memory_is_reported(training, tmp_path):
    program = """
import resource
import dvclive.live, pandas, torch._dynamo  # which the training imports
import stages.train
from psfr.utils.errors import run_main
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**25, used + 2**25))  # less than the features of the style loss take
run_main(stages.train.main)
"""
    process = start_process([sys.executable, "-c", program], training, tmp_path / "log")
    assert last_line(process, tmp_path / "log").startswith("error: out of memory: ")


def test_killed_worker_is_reported(training, tmp_path):
    set_params(training, workers=1)
    process = start_command(TRAIN, training, tmp_path / "log")
    wait_for(training, "models/.train.unfinished/*/step_*.safetensors", process)
    while process.poll() is None:  # a worker lives for an epoch
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                if stat.read_text().rpartition(")")[2].split()[1] == str(process.pid):
                    os.kill(int(stat.parent.name), signal.SIGKILL)
            except OSError:
                continue
    assert last_line(process, tmp_path / "log").startswith("error: a data-loading worker was killed")
    assert checkpoint_step(training) > 0


def raising(error: BaseException):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("x.png: damaged: replace it"), "x.png: damaged: replace it"),
        (
            ConnectionResetError(104, "Connection reset by peer"),
            "a data-loading worker was killed",
        ),
        (OSError(28, "No space left on device", "hr/x.png"), "hr/x.png: No space left on device"),
        (
            OSError(
                "Caught OSError in DataLoader worker process 0.\nTraceback:\n  x\nOSError: [Errno 28] No space left"
            ),
            "[Errno 28] No space left",
        ),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
            "out of memory: lower batch_size",
        ),
        (MemoryError(), "out of memory: lower batch_size"),
    ],
)
def test_user_errors_print_one_line(error, line):
    with pytest.raises(SystemExit) as end:
        run_main(raising(error))
    assert end.value.code.startswith(f"error: {line}") and "\n" not in end.value.code


def test_unexpected_errors_keep_their_traceback():
    with pytest.raises(RuntimeError):
        run_main(raising(RuntimeError("shapes do not match")))


def test_full_disk_error_names_the_file(tmp_path):
    with pytest.raises(OSError, match="No space left") as caught, atomic_write(tmp_path / "x.png"):
        raise OSError(28, "No space left on device")
    assert caught.value.filename == str(tmp_path / "x.png")


def test_signals_have_their_conventional_exit_status(capsys):
    with pytest.raises(SystemExit) as end:
        run_main(raising(KeyboardInterrupt()))
    assert end.value.code == 130
    with pytest.raises(SystemExit) as end:
        run_main(lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert end.value.code == 143
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("stopped by Ctrl-C: ") and second.startswith("stopped by SIGTERM: ")


def test_infer_names_the_missing_checkpoints_of_the_user(tmp_path, monkeypatch):
    write_params(
        tmp_path, models={"mine": "models/external/mine.safetensors", "other": "models/external/x.safetensors"}
    )
    monkeypatch.chdir(tmp_path)
    paths = r"models/external/mine\.safetensors: no such file; models/external/x\.safetensors: no such file"
    with pytest.raises(UserError, match=rf"{paths}: copy it there$"):
        infer.main()
