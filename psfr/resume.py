"""Work that was cut off goes on where it stopped, as long as it is the same work.

What a stage's result depends on stands in dvc.yaml, and DVC knows the hash of each of these files and folders. All of that together is
the origin of a result; it is written beside what is unfinished, and nothing of another origin is ever taken over.
"""

import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from psfr.errors import InputError
from psfr.files import partial, take_place

# parameters: name to value; files: path to hash; items: folder to its files' hashes.
Origin = dict[str, dict[str, object]]

FINISHED = "finished"
PNG_END = b"IEND\xaeB`\x82"


def origin(stage: str, items: tuple[str, ...] = (), recorded: bool = False) -> Origin:
    """What the result of a stage depends on, by the names of dvc.yaml.

    Args:
        stage: as DVC writes it, such as `resize@ffhq`.
        items: those of its folders whose files are worked on one by one.
        recorded: as dvc.lock has it of the stage's last run, instead of as it is.

    Returns:
        The origin; it is empty where DVC cannot tell it, outside of a repository for instance.
    """
    from dvc.exceptions import DvcException  # here: it is needed once a stage
    from dvc.repo import Repo

    found: Origin = {"parameters": {}, "files": {}, "items": {}}
    try:
        with Repo() as repo:
            (wanted,) = repo.stage.collect(stage)
            for dependency in wanted.deps:
                if not recorded:
                    dependency.save()
                if dependency.def_path in items:
                    found["items"][dependency.def_path] = {"/".join(name): file.value for name, _, file in dependency.get_obj()}
                elif isinstance(dependency.hash_info.value, dict):
                    found["parameters"] |= _flat(dependency.hash_info.value)
                else:
                    found["files"][dependency.def_path] = dependency.hash_info.value
    except (DvcException, ValueError):
        return {}
    return found


def _flat(values: dict, prefix: str = "") -> dict[str, object]:
    flat = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def differences(old: Origin, new: Origin) -> list[str]:
    """What sets two origins apart, in words: `lambda_ss is 50, it was 100`; `psfr/losses.py has changed`."""
    said = []
    for kind in ("parameters", "files", "items"):
        before, now = old.get(kind, {}), new.get(kind, {})
        for name in sorted(before.keys() | now.keys()):
            if before.get(name) != now.get(name):
                said.append(f"{name} is {now.get(name)}, it was {before.get(name)}" if kind == "parameters" else f"{name} has changed")
    return said


@contextmanager
def resuming_folder(path: Path, stage: str, items: tuple[str, ...] = ()) -> Iterator[Path]:
    """Give a temporary folder beside `path`; when the block ends well it takes the place of `path`, otherwise it is kept for the next try.

    The next try finds in it what the last one wrote, except where its origin has changed: then it is empty. Where only some files of
    the folders `items` have changed, just what has their names is removed.

    Raises:
        InputError: another process is at the same work.
    """
    path = Path(path)
    folder = partial(path)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with alone(folder.with_name(f".{path.name}.origin.partial"), str(path)) as note:
        now, before = origin(stage, items), _read(note)
        if now and before and folder.is_dir() and before | {"items": now["items"]} == now:
            _take_over(folder, before["items"], now["items"])
        else:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        note.seek(0)
        note.truncate()
        json.dump(now, note)
        note.flush()
        try:
            yield folder
            take_place(folder, path)
        finally:
            if not folder.exists() or not any(folder.iterdir()):
                shutil.rmtree(folder, ignore_errors=True)
                os.unlink(note.name)


@contextmanager
def alone(path: Path, work: str) -> Iterator[IO[str]]:
    """Open a file that one process at a time may have open; the lock ends with the process, however it ends.

    Raises:
        InputError: another process has it.
    """
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{work}: another process is making it: wait for its end, or stop it (`fuser {path}` names it)") from None
        except OSError:  # a network's file system without locks: the work goes on without
            pass
        yield file


def _read(note: IO[str]) -> Origin:
    note.seek(0)
    try:
        return json.load(note)
    except ValueError:  # empty, or cut off while it was written
        return {}


def _take_over(folder: Path, before: dict[str, dict], now: dict[str, dict]) -> None:
    """Keep of a folder what is whole and belongs to files that have not changed since."""
    changed = set()
    for items in before.keys() | now.keys():
        old, new = before.get(items, {}), now.get(items, {})
        changed |= {Path(file).stem for file in old.keys() | new.keys() if old.get(file) != new.get(file)}
    count = 0
    for file in [file for file in folder.rglob("*") if file.is_file()]:
        if file.stem in changed or not _whole(file):
            file.unlink()
        else:
            count += 1
    if count:
        print(f"{folder}: goes on with {count} files that are there", file=sys.stderr)


def _whole(file: Path) -> bool:
    """Whether a file was written to its end: no temporary name, and no PNG that a power cut has left short."""
    if file.name.startswith("."):
        return False
    if file.suffix != ".png":
        return True
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - len(PNG_END)))
        return opened.read() == PNG_END


@contextmanager
def unfinished(folder: Path, stage: str) -> Iterator[Path]:
    """Give the folder in which a training keeps its state, within `folder` of the project.

    Each origin has a folder of its own, in the project's root also for an experiment that DVC runs in a temporary copy:
    a training with other parameters begins anew, says what has changed, and finds its own state again when they are changed back.
    The state of a finished training stays until DVC has recorded its result and another training begins.

    Raises:
        InputError: another process is at the same training.
    """
    now = origin(stage)
    beside = Path(os.environ.get("DVC_ROOT", "."), folder, f".{stage}.unfinished")
    own = beside / hashlib.sha256(json.dumps(now, sort_keys=True).encode()).hexdigest()[:12]
    forced = (own / FINISHED).exists() and now == origin(stage, recorded=True)
    if not now or forced:
        shutil.rmtree(own, ignore_errors=True)
    if not own.is_dir():
        _mention_others(beside, now, stage)
        own.mkdir(parents=True)
    with alone(own / "origin.json", f"{stage} with these parameters") as note:
        note.truncate(0)
        json.dump(now, note)
        note.flush()
        yield own
        (own / FINISHED).touch()


def _mention_others(beside: Path, now: Origin, stage: str) -> None:
    """Say what sets unfinished trainings apart from the one that begins; finished ones are removed."""
    for note in sorted(beside.glob("*/origin.json")):
        folder = note.parent
        if (folder / FINISHED).exists():
            shutil.rmtree(folder)
            continue
        with note.open(encoding="utf-8") as file:
            apart = differences(_read(file), now)
        said = "; ".join(apart[:3]) + (f" and {len(apart) - 3} more" if len(apart) > 3 else "")
        print(f"{stage}: begins anew: {said} (what was trained before stays in {folder}, remove it if nobody needs it)", file=sys.stderr)
