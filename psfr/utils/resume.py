"""Work that was cut off goes on where it stopped, as long as it is the same work.

The origin of a result (`psfr.utils.fingerprint`) is written beside what is unfinished, and nothing of another origin is ever taken over.
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

from psfr.utils.errors import InputError
from psfr.utils.files import partial, take_place
from psfr.utils.fingerprint import Origin, changed, differences, lay_recorded, origin

FINISHED = "finished"
PNG_END = b"IEND\xaeB`\x82"


@contextmanager
def resuming_folder(
    path: Path, stage: str, items: tuple[str, ...] = (), extent: tuple[str, ...] = ()
) -> Iterator[Path]:
    """Give a temporary folder beside `path`; when the block ends well it takes the place of `path`, otherwise it is kept for the next try.

    The next try finds in it what the last one wrote, and a first one what DVC's cache holds of the stage's last result, except where the
    origin has changed: then it is empty. Where only some files of the folders `items` have changed, just what has their names is missing.

    Args:
        stage: as DVC writes it, such as `resize@ffhq`.
        items: folders whose files are worked on one by one.
        extent: parameters that say which files there are, but not what is in them: what is too much is for the caller to remove.

    Raises:
        InputError: another process is at the same work.
    """
    path = Path(path)
    folder = partial(path)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with alone(folder.with_name(f".{path.name}.origin.partial"), str(path)) as note:
        now, before = origin(stage, items), _read(note)
        if folder.is_dir() and _alike(before, now, extent):
            _take_over(folder, changed(before, now))
        else:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            last = origin(stage, items, recorded=True)
            if (
                last != now
                and _alike(last, now, extent)
                and (count := lay_recorded(stage, path, folder, changed(last, now)))
            ):
                print(f"{path}: goes on with {count} files of the last run", file=sys.stderr)
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
            raise InputError(
                f"{work}: another process is making it: wait for its end, or stop it (`fuser {path}` names it)"
            ) from None
        except OSError:  # a network's file system without locks: the work goes on without
            pass
        yield file


def _read(note: IO[str]) -> Origin:
    note.seek(0)
    try:
        return json.load(note)
    except ValueError:  # empty, or cut off while it was written
        return {}


def _alike(before: Origin, now: Origin, extent: tuple[str, ...]) -> bool:
    """Whether two origins are known and differ in single files of the items, or in the extent, alone."""

    def rest(origin: Origin) -> dict:
        return {
            "parameters": {name: value for name, value in origin["parameters"].items() if name not in extent},
            "files": origin["files"],
        }

    return bool(before and now) and rest(before) == rest(now)


def _take_over(folder: Path, without: set[str]) -> None:
    """Keep of a folder what is whole and has none of these names."""
    count = 0
    for file in [file for file in folder.rglob("*") if file.is_file()]:
        if file.stem in without or not _whole(file):
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
        print(
            f"{stage}: begins anew: {said} (what was trained before stays in {folder}, remove it if nobody needs it)",
            file=sys.stderr,
        )
