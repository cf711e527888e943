"""What goes wrong around a training costs one line and minutes of work; the state that is kept stays sound."""

import os
import resource
import shutil
import signal
import sys
from pathlib import Path

import pytest

from psfr.training import checkpoint
from psfr.training.checkpoint import Snapshots
from psfr.utils.errors import InputError, run
from psfr.utils.files import replacing
from tests.helpers.running import changed, started, wait_for

TRAIN = [sys.executable, "-m", "stages.train"]


@pytest.fixture
def training(project):
    """A long training that is yet to begin."""
    changed(project, epochs=1000, checkpoint_seconds=0)
    shutil.rmtree(project / "models/.train.unfinished")
    return project


def ended(process, log: Path) -> str:
    """The line with which a training ended, after whatever its progress bar left."""
    assert process.wait(120) == 1
    text = log.read_text()
    assert "Traceback" not in text
    return text.replace("\r", "\n").strip().splitlines()[-1]


def state(project: Path) -> int:
    """The step of the newest snapshot, which is sound; nothing half-written lies beside it."""
    (folder,) = (project / "models/.train.unfinished").iterdir()
    assert not list(folder.glob(".*"))
    newest = Snapshots(folder, 0).newest()
    return checkpoint.load(newest)["place"]["step"]


def test_an_image_that_vanishes_is_named(training, tmp_path):
    process = started(TRAIN, training, tmp_path / "log")
    wait_for(training, "models/.train.unfinished/*/step_*", process)
    (training / "data/ffhq/hr/00003.png").unlink()
    assert ended(process, tmp_path / "log") == "error: data/ffhq/hr/00003.png: no such image"
    assert state(training) > 0


def test_a_disk_that_is_full_is_named(training, tmp_path):
    def small_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))  # of each file: a snapshot has 2.7 MB

    process = started(TRAIN, training, tmp_path / "log", small_disk)
    assert ended(process, tmp_path / "log").startswith("error: cannot write a checkpoint: ")
    (folder,) = (training / "models/.train.unfinished").iterdir()
    assert not list(folder.glob(".*")) and not list(folder.glob("step_*"))


def test_too_little_memory_is_said(training, tmp_path):
    program = """
import resource
import stages.train
from psfr.utils.errors import run
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + 2**25, now + 2**25))  # the features of the style loss alone take more
run(stages.train.main)
"""
    process = started([sys.executable, "-c", program], training, tmp_path / "log")
    assert (
        ended(process, tmp_path / "log")
        == "error: too little memory: lower batch_size, compute.batch_size, compute.workers or image_size"
    )


def test_a_worker_that_is_killed_is_said(training, tmp_path):
    changed(training, workers=1)
    process = started(TRAIN, training, tmp_path / "log")
    wait_for(training, "models/.train.unfinished/*/step_*", process)
    while process.poll() is None:  # a worker lives for an epoch
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                if stat.read_text().rpartition(")")[2].split()[1] == str(process.pid):
                    os.kill(int(stat.parent.name), signal.SIGKILL)
            except OSError:
                continue
    assert ended(process, tmp_path / "log").startswith("error: a process that prepares images was killed")
    assert state(training) > 0


def failing(error: Exception):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("x.png: damaged: replace it"), "x.png: damaged: replace it"),
        (OSError(28, "No space left on device", "hr/x.png"), "hr/x.png: No space left on device"),
        (
            OSError(
                "Caught OSError in DataLoader worker process 0.\nTraceback:\n  x\nOSError: [Errno 28] No space left"
            ),
            "[Errno 28] No space left",
        ),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
            "too little memory: lower batch_size, compute.batch_size, compute.workers or image_size",
        ),
        (MemoryError(), "too little memory: lower batch_size, compute.batch_size, compute.workers or image_size"),
    ],
)
def test_errors_that_the_user_can_mend_are_one_line(error, line):
    with pytest.raises(SystemExit) as end:
        run(failing(error))
    assert end.value.code == f"error: {line}"


def test_errors_of_the_program_keep_their_traceback():
    with pytest.raises(RuntimeError):
        run(failing(RuntimeError("shapes do not match")))


def test_a_full_disk_names_the_file(tmp_path):
    with pytest.raises(OSError, match="No space left") as caught, replacing(tmp_path / "x.png"):
        raise OSError(28, "No space left on device")
    assert caught.value.filename == str(tmp_path / "x.png")


def test_stopping_has_the_status_that_shells_expect(capsys):
    with pytest.raises(SystemExit) as end:
        run(failing(KeyboardInterrupt()))
    assert end.value.code == 130
    with pytest.raises(SystemExit) as end:
        run(lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert end.value.code == 143
    assert (
        capsys.readouterr().err
        == "stopped by Ctrl-C: run it again to go on\nstopped by SIGTERM: run it again to go on\n"
    )
