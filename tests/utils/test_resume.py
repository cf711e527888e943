"""Interrupted work is resumed if, and only if, its fingerprint is the same."""

import errno
import hashlib
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import filelock
import numpy as np
import pytest
from dvc.repo import Repo

from psfr.data import images
from psfr.utils.errors import UserError
from psfr.utils.fingerprint import explain_changes, fingerprints
from psfr.utils.resume import resumable_dir, training_state_dir
from tests.helpers.running import ROOT

PIPELINE = """
stages:
  halve:
    cmd: "true"
    deps: [raw, code.py]
    params: [size, losses, {versions.yaml: [versions.images]}]
    outs: [hr]
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with a stage that writes hr/NAME.png for each raw/NAME.png, at half the gray level."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    Repo.init(no_scm=True).close()
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "params.yaml").write_text("size: 8\nlosses: {pix: 10}\n")
    (tmp_path / "versions.yaml").write_text("versions: {images: {pillow: 13.0.0}}\n")
    (tmp_path / "code.py").write_text("1")
    for name in "abcd":
        write_image(Path("raw", f"{name}.png"), ord(name))
    return tmp_path


def write_image(path: Path, level: int) -> None:
    images.write(path, np.full((8, 8, 3), level, np.uint8))


def run_stage(max_files: int) -> list[str]:
    """Run the stage, interrupt it after `max_files` files, and return the stems of the files that it wrote."""
    written = []
    try:
        with resumable_dir(Path("hr"), "halve", ("raw",)) as folder:
            for path in images.list_images(Path("raw")):
                if len(written) == max_files:
                    raise KeyboardInterrupt
                if not (folder / path.name).is_file():
                    write_image(folder / path.name, int(images.read(path)[0, 0, 0]) // 2)
                    written.append(path.stem)
    except KeyboardInterrupt:
        assert not Path("hr").exists()
    return written


def result() -> dict[str, int]:
    """Return the gray level of each file of the stage's result."""
    return {path.stem: int(images.read(path)[0, 0, 0]) for path in images.list_images(Path("hr"))}


COMPLETE = {name: ord(name) // 2 for name in "abcd"}


def test_an_interrupted_stage_resumes(repository, capsys):
    assert run_stage(2) == ["a", "b"]
    assert run_stage(1) == ["c"]
    assert "hr.partial: resuming with 2 files of the interrupted run" in capsys.readouterr().err
    assert run_stage(9) == ["d"]
    assert result() == COMPLETE
    assert not list(repository.glob(".*.partial"))


def test_only_files_of_changed_inputs_are_made_again(repository):
    run_stage(3)
    write_image(Path("raw/b.png"), 200)
    Path("raw/a.png").unlink()
    assert run_stage(9) == ["b", "d"]
    assert result() == {"b": 100, "c": COMPLETE["c"], "d": COMPLETE["d"]}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("params.yaml", "size: 9\nlosses: {pix: 10}\n"),
        ("versions.yaml", "versions: {images: {pillow: 13.0.1}}\n"),
        ("code.py", "2"),
        ("dvc.yaml", PIPELINE.replace("size, ", "")),
    ],
)
def test_files_of_other_parameters_or_code_are_not_reused(repository, file, text):
    run_stage(3)
    Path(file).write_text(text)
    assert run_stage(9) == list("abcd")


def record() -> None:
    """Record the result as the stage's last one and remove the folder, as DVC does before it runs a stage."""
    with Repo() as repo:
        repo.commit("halve", force=True)
        repo.add("raw")  # puts its files into the cache, as the stage that writes them would
    shutil.rmtree("hr")


def test_files_of_the_last_run_are_reused_for_unchanged_inputs(repository, capsys):
    assert run_stage(9) == list("abcd")
    record()
    write_image(Path("raw/b.png"), 200)
    write_image(Path("raw/e.png"), 100)
    Path("raw/a.png").unlink()
    assert run_stage(9) == ["b", "e"]
    assert "hr: reusing 2 files of the last run" in capsys.readouterr().err
    assert result() == {"b": 100, "c": COMPLETE["c"], "d": COMPLETE["d"], "e": 50}


@pytest.mark.parametrize("change", ["nothing", "parameter", "code", "cache"])
def test_files_of_a_last_run_with_another_fingerprint_are_not_reused(repository, change):
    """If nothing has changed, the stage was forced, so all files are made again."""
    run_stage(9)
    record()
    if change != "nothing":
        write_image(Path("raw/b.png"), 200)
    match change:
        case "parameter":
            Path("params.yaml").write_text("size: 9\nlosses: {pix: 10}\n")
        case "code":
            Path("code.py").write_text("2")
        case "cache":
            shutil.rmtree(".dvc/cache")
    assert run_stage(9) == list("abcd")


def test_files_missing_from_the_cache_are_made_again(repository):
    run_stage(9)
    lost = hashlib.md5(Path("hr/c.png").read_bytes()).hexdigest()
    record()
    Path(".dvc/cache/files/md5", lost[:2], lost[2:]).unlink()
    write_image(Path("raw/b.png"), 200)
    assert run_stage(9) == ["b", "c"]
    assert result() == COMPLETE | {"b": 100}


def test_files_are_reused_when_only_an_ignored_parameter_changes(repository):
    """Such a parameter determines how many files there are, not their content."""

    def run_with(count: int) -> list[str]:
        Path("params.yaml").write_text(f"size: {count}\nlosses: {{pix: 10}}\n")
        with resumable_dir(Path("hr"), "halve", ignored_deps=("size",)) as folder:
            missing = [name for name in "abcd"[:count] if not (folder / f"{name}.png").is_file()]
            for name in missing:
                write_image(folder / f"{name}.png", ord(name))
        return missing

    assert run_with(2) == ["a", "b"]
    record()
    assert run_with(4) == ["c", "d"]


def test_truncated_files_are_made_again(repository):
    run_stage(3)
    whole = Path(".hr.partial/b.png").read_bytes()
    Path(".hr.partial/b.png").write_bytes(whole[:-9])
    Path(".hr.partial/c.png").write_bytes(b"")
    Path(".hr.partial/.d.png.partial").write_bytes(whole)
    assert run_stage(9) == ["b", "c", "d"]
    assert result() == COMPLETE


def test_links_to_lost_objects_of_the_cache_are_removed(repository):
    """Such links are left by an interrupted run with `cache.type symlink` and `dvc gc`."""
    run_stage(3)
    for name in ("b.png", "surplus.png"):
        link = Path(".hr.partial", name)
        link.unlink(missing_ok=True)
        link.symlink_to(Path("lost").absolute())
    assert run_stage(9) == ["b", "d"]
    assert result() == COMPLETE
    assert not Path("hr/surplus.png").is_symlink()


@pytest.mark.parametrize("damage", ["", "{", None])
def test_nothing_is_reused_without_a_fingerprint(repository, damage):
    run_stage(3)
    note = Path(".hr.fingerprint.partial")
    note.unlink() if damage is None else note.write_text(damage)
    assert run_stage(9) == list("abcd")


def test_full_disk_under_the_hashes_is_one_line(repository, monkeypatch):
    def fail(_):
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr("dvc.dependency.base.Dependency.save", fail)
    error = re.escape("halve: DVC cannot write its database of hashes (disk I/O error): free disk space")
    with pytest.raises(UserError, match=f"^{error}"):
        fingerprints("halve")


def test_nothing_is_reused_if_dvc_cannot_determine_the_fingerprint(repository):
    Path("dvc.yaml").write_text("stages: {}\n")
    assert fingerprints("halve") == ({}, {})
    run_stage(3)
    assert run_stage(9) == list("abcd")


def test_a_failed_run_without_files_leaves_nothing(repository):
    assert run_stage(0) == []
    assert not list(repository.glob(".hr*"))


def start_holder(context: str, action: str = "pass") -> subprocess.Popen:
    """Start a process that enters a context manager of `psfr.utils.resume` and stays in it until it is killed.

    Args:
        action: statements that it runs there first, indented by four spaces but the first.
    """
    program = f"""
import sys
from pathlib import Path
from psfr.utils.resume import resumable_dir, training_state_dir
with {context}:
    {action}
    print("in", flush=True)
    sys.stdin.read()
"""
    holder = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert holder.stdout is not None and holder.stdout.readline() == b"in\n"
    return holder


@pytest.mark.process
def test_two_processes_cannot_write_the_same_folder(repository):
    other = start_holder('resumable_dir(Path("hr"), "halve")')
    with pytest.raises(UserError, match="hr: another process is writing it"):
        run_stage(9)
    other.kill()
    other.wait()
    assert run_stage(9) == list("abcd"), "the lock ends with the process, even if it is killed"


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_does_not_keep_the_lock(repository):
    """A data loading process lives for some seconds after its training has been killed."""
    action = """
    import os, time
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        os.write(write_end, b"x")  # the fork has let go of the lock
        time.sleep(20)
        os._exit(0)
    os.read(read_end, 1)
    """
    other = start_holder('resumable_dir(Path("hr"), "halve")', action)
    other.kill()
    other.wait()
    assert run_stage(9) == list("abcd")


def test_folders_are_locked_without_fcntl(repository, monkeypatch):
    """Windows has no fcntl; filelock chooses what the system has when it is imported."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert run_stage(2) == ["a", "b"]
    assert run_stage(9) == ["c", "d"]


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EACCES])
def test_work_goes_on_where_the_file_system_has_no_locks(repository, monkeypatch, code):
    def acquire(_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    if code == errno.ENOLCK:
        assert run_stage(9) == list("abcd")
    else:
        with pytest.raises(PermissionError):
            run_stage(9)


def test_changes_are_explained_with_the_values_of_parameters():
    old = {"parameters": {"lambda_ss": 100, "losses.pix": 10}, "files": {"psfr/training/losses.py": "1", "same": "3"}}
    new = {"parameters": {"lambda_ss": 50, "losses.pix": 10}, "files": {"psfr/training/losses.py": "2", "same": "3"}}
    assert explain_changes(old, new) == ["lambda_ss is 50, it was 100", "psfr/training/losses.py has changed"]
    assert explain_changes(new, new) == []


def interrupted_training() -> set[str]:
    """Run a training that writes a state and is interrupted; return the names of the files that it found."""
    try:
        with training_state_dir(Path("models"), "halve") as folder:
            found = {path.name for path in folder.iterdir()} - {"fingerprint.json", "lock"}
            (folder / f"state {len(found) + 1}").touch()
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        return found


def finished_training() -> Path:
    """Run a training to its end and return the folder of its state."""
    with training_state_dir(Path("models"), "halve") as folder:
        return folder


def test_a_training_with_other_parameters_starts_from_scratch_and_keeps_the_earlier_state(repository, capsys):
    assert interrupted_training() == set()
    assert interrupted_training() == {"state 1"}
    before = Path("params.yaml").read_text()
    Path("params.yaml").write_text(before.replace("10", "20"))
    assert interrupted_training() == set()
    message = "halve: starting from scratch: losses.pix is 20, it was 10 (the earlier state stays in models/.halve."
    assert message in capsys.readouterr().err
    Path("params.yaml").write_text(before)
    assert interrupted_training() == {"state 1", "state 2"}
    Path("raw/a.png").unlink()
    assert interrupted_training() == set()
    assert "raw has changed" in capsys.readouterr().err


def test_a_training_with_a_missing_dependency_keeps_earlier_states(repository, capsys):
    finished = finished_training()
    Path("code.py").unlink()
    for _ in range(2):
        assert interrupted_training() == set()
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("halve: starting from scratch, and cannot be resumed: DVC cannot hash its dependencies")
    Path("code.py").write_text("1")
    assert interrupted_training() == {"finished"} and finished.is_dir()


@pytest.mark.process
def test_the_state_of_a_running_training_is_not_offered_for_deletion(repository, capsys):
    other = start_holder('training_state_dir(Path("models"), "halve")')
    params = Path("params.yaml").read_text()
    Path("params.yaml").write_text(params.replace("10", "20"))
    interrupted_training()
    message = capsys.readouterr().err
    assert "losses.pix is 20, it was 10" in message
    assert "belongs to a training that is running" in message
    assert "delete" not in message
    other.kill()
    other.wait()
    Path("params.yaml").write_text(params.replace("10", "30"))
    interrupted_training()
    assert "losses.pix is 30, it was 10 (the earlier state stays in" in capsys.readouterr().err


def test_the_state_of_a_finished_training_stays_until_it_is_recorded_and_another_starts(repository):
    folder = finished_training()
    assert folder.is_dir()
    assert interrupted_training() == {"finished"}, "DVC was interrupted before it recorded the result"
    Path("hr").mkdir()
    with Repo() as repo:
        repo.commit("halve", force=True)
    assert interrupted_training() == set(), "dvc repro --force trains again"
    finished_training()
    Path("code.py").write_text("2")
    assert interrupted_training() == set()
    assert not folder.exists()


def test_an_experiment_in_a_temporary_copy_keeps_its_state_in_the_project(repository, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path_factory.mktemp("project")))
    interrupted_training()
    assert not Path("models").exists()
    assert interrupted_training() == {"state 1"}
