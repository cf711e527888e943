"""What was cut off is taken over where it is the same work, and nowhere else."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from psfr.data import images
from psfr.utils.errors import InputError
from psfr.utils.fingerprint import differences, origin
from psfr.utils.resume import resuming_folder, unfinished
from tests.helpers.running import ROOT, ran

PIPELINE = """
stages:
  halve:
    cmd: "true"
    deps: [raw, code.py]
    params: [size, losses]
    outs: [hr]
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with a stage that makes hr/NAME.png of raw/NAME.png."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    ran(["git", "init", "-q"], tmp_path)
    ran(["dvc", "init", "-q"], tmp_path)
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "params.yaml").write_text("size: 8\nlosses: {pix: 10}\n")
    (tmp_path / "code.py").write_text("1")
    for name in "abcd":
        picture(Path("raw", f"{name}.png"), ord(name))
    return tmp_path


def picture(path: Path, level: int) -> None:
    images.write(path, np.full((8, 8, 3), level, np.uint8))


def tried(until: int) -> list[str]:
    """One try that is cut off after so many files; the names of the files that it wrote itself."""
    written = []
    try:
        with resuming_folder(Path("hr"), "halve", ("raw",)) as folder:
            for path in images.listed(Path("raw")):
                if len(written) == until:
                    raise KeyboardInterrupt
                if not (folder / path.name).is_file():
                    picture(folder / path.name, int(images.read(path)[0, 0, 0]) // 2)
                    written.append(path.stem)
    except KeyboardInterrupt:
        assert not Path("hr").exists()
    return written


def outcome() -> dict[str, int]:
    return {path.stem: int(images.read(path)[0, 0, 0]) for path in images.listed(Path("hr"))}


WHOLE = {name: ord(name) // 2 for name in "abcd"}


def test_it_goes_on_where_it_stopped(repository, capsys):
    assert tried(2) == ["a", "b"]
    assert tried(1) == ["c"]
    assert "hr.partial: goes on with 2 files" in capsys.readouterr().err
    assert tried(9) == ["d"]
    assert outcome() == WHOLE
    assert not list(repository.glob(".*.partial"))


def test_only_what_belongs_to_changed_files_is_made_again(repository):
    tried(3)
    picture(Path("raw/b.png"), 200)
    Path("raw/a.png").unlink()
    assert tried(9) == ["b", "d"]
    assert outcome() == {"b": 100, "c": WHOLE["c"], "d": WHOLE["d"]}


@pytest.mark.parametrize(
    ("file", "text"),
    [("params.yaml", "size: 9\nlosses: {pix: 10}\n"), ("code.py", "2"), ("dvc.yaml", PIPELINE.replace("size, ", ""))],
)
def test_nothing_of_other_parameters_or_code_is_taken_over(repository, file, text):
    tried(3)
    Path(file).write_text(text)
    assert tried(9) == list("abcd")


def recorded() -> None:
    """The outcome becomes the stage's last result, and the folder is removed, as DVC does before it runs a stage."""
    ran(["dvc", "commit", "--force", "halve"], Path())
    ran(["dvc", "add", "-q", "raw"], Path())  # its files are in the cache, as those of a stage are
    shutil.rmtree("hr")


def test_what_the_last_run_made_of_unchanged_files_is_not_made_again(repository, capsys):
    assert tried(9) == list("abcd")
    recorded()
    picture(Path("raw/b.png"), 200)
    picture(Path("raw/e.png"), 100)
    Path("raw/a.png").unlink()
    assert tried(9) == ["b", "e"]
    assert "hr: goes on with 2 files of the last run" in capsys.readouterr().err
    assert outcome() == {"b": 100, "c": WHOLE["c"], "d": WHOLE["d"], "e": 50}


@pytest.mark.parametrize("change", ["nothing", "parameter", "code", "cache"])
def test_a_last_run_of_another_origin_is_left_alone(repository, change):
    """Where nothing has changed, the stage is forced: it is made anew."""
    tried(9)
    recorded()
    if change != "nothing":
        picture(Path("raw/b.png"), 200)
    match change:
        case "parameter":
            Path("params.yaml").write_text("size: 9\nlosses: {pix: 10}\n")
        case "code":
            Path("code.py").write_text("2")
        case "cache":
            shutil.rmtree(".dvc/cache")
    assert tried(9) == list("abcd")


def test_what_the_cache_has_lost_is_made_again(repository):
    tried(9)
    lost = hashlib.md5(Path("hr/c.png").read_bytes()).hexdigest()
    recorded()
    Path(".dvc/cache/files/md5", lost[:2], lost[2:]).unlink()
    picture(Path("raw/b.png"), 200)
    assert tried(9) == ["b", "c"]
    assert outcome() == WHOLE | {"b": 100}


def test_more_of_the_same_goes_on_with_what_is_there(repository):
    """A parameter that says how many there are, not what is in them."""

    def drawn(count: int) -> list[str]:
        Path("params.yaml").write_text(f"size: {count}\nlosses: {{pix: 10}}\n")
        with resuming_folder(Path("hr"), "halve", extent=("size",)) as folder:
            missing = [name for name in "abcd"[:count] if not (folder / f"{name}.png").is_file()]
            for name in missing:
                picture(folder / f"{name}.png", ord(name))
        return missing

    assert drawn(2) == ["a", "b"]
    recorded()
    assert drawn(4) == ["c", "d"]


def test_what_is_cut_short_is_made_again(repository):
    tried(3)
    whole = Path(".hr.partial/b.png").read_bytes()
    Path(".hr.partial/b.png").write_bytes(whole[:-9])
    Path(".hr.partial/c.png").write_bytes(b"")
    Path(".hr.partial/.d.png.partial").write_bytes(whole)
    assert tried(9) == ["b", "c", "d"]
    assert outcome() == WHOLE


@pytest.mark.parametrize("damage", ["", "{", None])
def test_without_its_origin_nothing_is_taken_over(repository, damage):
    tried(3)
    note = Path(".hr.origin.partial")
    note.unlink() if damage is None else note.write_text(damage)
    assert tried(9) == list("abcd")


def test_where_dvc_cannot_tell_the_origin_nothing_is_taken_over(repository):
    Path("dvc.yaml").write_text("stages: {}\n")
    assert origin("halve") == {}
    tried(3)
    assert tried(9) == list("abcd")


def test_a_failed_try_that_made_nothing_leaves_nothing(repository):
    assert tried(0) == []
    assert not list(repository.glob(".hr*"))


def test_two_processes_cannot_do_the_same_work(repository):
    program = "import sys; from pathlib import Path; from psfr.utils.resume import resuming_folder\nwith resuming_folder(Path('hr'), 'halve'): print('in', flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert other.stdout.readline() == b"in\n"
    with pytest.raises(InputError, match="hr: another process is making it"):
        tried(9)
    other.kill()
    other.wait()
    assert tried(9) == list("abcd"), "the lock ends with the process, however it ends"


def test_differences_name_parameters_with_their_values():
    old = {"parameters": {"lambda_ss": 100, "losses.pix": 10}, "files": {"psfr/training/losses.py": "1", "same": "3"}}
    new = {"parameters": {"lambda_ss": 50, "losses.pix": 10}, "files": {"psfr/training/losses.py": "2", "same": "3"}}
    assert differences(old, new) == ["lambda_ss is 50, it was 100", "psfr/training/losses.py has changed"]
    assert differences(new, new) == []


def kept() -> set[str]:
    """A training that leaves its state and is cut off; the names of what it found."""
    try:
        with unfinished(Path("models"), "halve") as folder:
            found = {path.name for path in folder.iterdir()}
            (folder / f"state {len(found)}").touch()
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        return found - {"origin.json"}


def finish() -> Path:
    with unfinished(Path("models"), "halve") as folder:
        return folder


def test_a_training_of_other_parameters_begins_anew_says_why_and_loses_nothing(repository, capsys):
    assert kept() == set()
    assert kept() == {"state 1"}
    before = Path("params.yaml").read_text()
    Path("params.yaml").write_text(before.replace("10", "20"))
    assert kept() == set()
    assert (
        "halve: begins anew: losses.pix is 20, it was 10 (what was trained before stays in models/.halve.unfinished/"
        in capsys.readouterr().err
    )
    Path("params.yaml").write_text(before)
    assert kept() == {"state 1", "state 2"}
    Path("raw/a.png").unlink()
    assert kept() == set()
    assert "raw has changed" in capsys.readouterr().err


def test_the_state_of_a_finished_training_stays_until_it_is_recorded_and_another_begins(repository):
    folder = finish()
    assert folder.is_dir()
    assert kept() == {"finished"}, "DVC was ended before it recorded the result"
    Path("hr").mkdir()
    ran(["dvc", "commit", "--force", "halve"], repository)
    assert kept() == set(), "dvc repro --force trains again"
    finish()
    Path("code.py").write_text("2")
    assert kept() == set()
    assert not folder.exists()


def test_an_experiment_in_a_copy_keeps_its_state_in_the_project(repository, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path_factory.mktemp("project")))
    kept()
    assert not Path("models").exists()
    assert kept() == {"state 1"}
