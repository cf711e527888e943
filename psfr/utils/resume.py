"""Resume interrupted stages and trainings.

The fingerprint of a stage's dependencies (`psfr.utils.fingerprint`) is stored beside unfinished work. Work is reused
only if its fingerprint matches the present one, so a result never mixes two sets of parameters, inputs or code.
"""

import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath

from psfr.utils.errors import UserError, join_first
from psfr.utils.files import replace_dir, temporary_path
from psfr.utils.fingerprint import (
    Fingerprint,
    changed_files,
    checkout_unchanged,
    explain_changes,
    fingerprints,
    is_last_output_cached,
)

FINISHED = "finished"  # empty file that marks the state of a finished training
FINGERPRINT = "fingerprint.json"
PNG_END = b"IEND\xaeB`\x82"
LOCK = "lock"  # file that is locked while a training with this state runs
MAX_CHANGES = 3  # that a message names
# Errors of a network file system without locks
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextmanager
def resumable_dir(
    path: Path,
    stage: str,
    per_file_deps: tuple[str, ...] = (),
    ignored_deps: tuple[str, ...] = (),
    same_paths: bool = False,
) -> Iterator[Path]:
    """Context manager that yields a temporary folder, which replaces `path` on success and is kept after an exception.

    The folder contains the files that an interrupted run wrote or, if there is no interrupted run, the unchanged files
    of the stage's last result from the DVC cache. Both require that the stage's dependencies are the same. If only
    some files of `per_file_deps` differ, the files made from them are left out; after any other change the folder is
    empty. The caller writes the files that are missing.

    Args:
        path: the stage's output folder.
        stage: the stage's name as DVC writes it, such as `resize@ffhq`.
        per_file_deps: folders that the stage processes file by file.
        ignored_deps: parameters and groups of them, files and folders that determine which files there are, but not
            their content. The caller removes surplus files.
        same_paths: an input `data/SET/FOLDER/FILE` gives the one output `FOLDER/FILE`. Otherwise an input gives the
            outputs of its stem.

    Raises:
        UserError: another process is writing the same folder.
    """
    path = Path(path)
    folder = temporary_path(path)
    with _lock_folder(path) as note:
        current, last = fingerprints(stage, per_file_deps)
        interrupted = _read(note)
        if folder.is_dir() and _compatible(interrupted, current, ignored_deps):
            _reuse(folder, _stale_outputs(interrupted, current, same_paths))
        else:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            # Equal fingerprints mean `dvc repro --force`: then every file is made again.
            if last != current and _compatible(last, current, ignored_deps):
                num_files = checkout_unchanged(stage, path, folder, _stale_outputs(last, current, same_paths))
                if num_files:
                    print(f"{path}: reusing {num_files} files of the last run", file=sys.stderr)
        _write(note, current)
        try:
            yield folder
            replace_dir(folder, path)
        finally:
            if not folder.exists() or not any(folder.iterdir()):
                shutil.rmtree(folder, ignore_errors=True)
                note.unlink(missing_ok=True)


def restore_last_result(path: Path, stage: str, irrelevant_deps: tuple[str, ...]) -> bool:
    """Check the stage's last result `path` out of the DVC cache if it is the result of the present dependencies too.

    This requires that `irrelevant_deps` have changed and no other dependencies, and that the cache has all files,
    undamaged. The files of an interrupted run are then removed.

    Args:
        path: the stage's output folder.
        stage: the stage's name as DVC writes it, such as `download@ffhq`.
        irrelevant_deps: parameters and groups of them, files and folders that do not affect the result.

    Returns:
        Whether the result was restored.

    Raises:
        UserError: another process is writing the same folder.
    """
    path = Path(path)
    last_result = path.with_name(f".{path.name}.last.partial")
    with _lock_folder(path) as note:
        shutil.rmtree(last_result, ignore_errors=True)  # left by a killed run
        current, last = fingerprints(stage)
        is_result = last != current and _compatible(last, current, irrelevant_deps)
        if not is_result or not is_last_output_cached(stage, path):
            return False
        last_result.mkdir()
        num_files = checkout_unchanged(stage, path, last_result, lambda file: False)
        if not is_last_output_cached(stage, path):  # it had damaged files, which have been removed from it
            shutil.rmtree(last_result)
            return False
        replace_dir(last_result, path)
        shutil.rmtree(temporary_path(path), ignore_errors=True)
        note.unlink(missing_ok=True)
    print(f"{path}: restored {num_files} files of the last run", file=sys.stderr)
    return True


@contextmanager
def mention_last_result(path: Path, stage: str) -> Iterator[None]:
    """Context manager that adds to an error how to restore the stage's last result `path`, which DVC has removed."""
    try:
        yield
    except Exception as error:
        if not path.exists() and is_last_output_cached(stage, path):
            error.add_note(f"`dvc checkout {path}` restores the last result")
        raise


@contextmanager
def _lock_folder(path: Path) -> Iterator[Path]:
    """Context manager that yields the file for the fingerprint of a folder's unfinished work, as `exclusive_lock`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(path.with_name(f".{path.name}.lock.partial"), str(path)):
        yield path.with_name(f".{path.name}.fingerprint.partial")


@contextmanager
def exclusive_lock(path: Path, name: str) -> Iterator[None]:
    """Context manager that one process at a time may have entered.

    The operating system releases the lock when the process ends, even if it is killed and processes that it has forked
    still run. Without locks, as on some network file systems, any number of processes may enter.

    Args:
        path: the lock file, which exists while the lock is held; a killed process leaves it behind.
        name: what the lock protects, for the message.

    Raises:
        UserError: another process holds the lock.
    """
    from filelock import FileLock, Timeout  # imported here because most processes take no lock

    lock = FileLock(path, blocking=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"{name}: another process is writing it: wait until it ends, or stop it (`fuser {path}` shows its id)"
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    try:
        yield
    finally:
        with suppress(PermissionError):  # Windows does not remove open files
            path.unlink(missing_ok=True)
        lock.release()


def _read(note: Path) -> Fingerprint:
    try:
        return json.loads(note.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # empty, or truncated by a crash
        return {}


def _write(note: Path, current: Fingerprint) -> None:
    note.write_text(json.dumps(current), encoding="utf-8")


def _compatible(old: Fingerprint, new: Fingerprint, ignored_deps: tuple[str, ...]) -> bool:
    """Return whether two fingerprints are known and differ at most in `per_file_deps` and ignored dependencies."""

    def relevant(values: Fingerprint) -> list[dict]:
        groups = values["parameters"], values["files"]
        return [{name: value for name, value in group.items() if not is_ignored(name)} for group in groups]

    def is_ignored(name: str) -> bool:
        return any(name == dep or name.startswith((f"{dep}/", f"{dep}.")) for dep in ignored_deps)

    return bool(old and new) and relevant(old) == relevant(new)


def _stale_outputs(old: Fingerprint, new: Fingerprint, same_paths: bool) -> Callable[[PurePath], bool]:
    """Return a function that returns whether an output, a relative path, depends on a changed file of `per_file_deps`.

    See `resumable_dir` for `same_paths`.
    """
    changed = changed_files(old, new)
    if same_paths:
        paths = {f"{PurePath(folder).name}/{file}" for folder, file in changed}
        return lambda output: output.as_posix() in paths
    stems = {PurePath(file).stem for _, file in changed}
    return lambda output: output.stem in stems


def _reuse(folder: Path, is_stale: Callable[[PurePath], bool]) -> None:
    """Delete incomplete and stale files, and broken links, from the folder of an interrupted run."""
    num_files = 0
    for file in [file for file in folder.rglob("*") if not file.is_dir()]:
        if is_stale(file.relative_to(folder)) or not _is_complete(file):
            file.unlink()
        else:
            num_files += 1
    if num_files:
        print(f"{folder}: resuming with {num_files} files of the interrupted run", file=sys.stderr)


def _is_complete(file: Path) -> bool:
    """Return whether a file was written completely: it has its final name and, if a PNG, its end marker.

    A power failure may leave a file truncated that had its final name already. A link may lead nowhere after `dvc gc`.
    """
    if file.name.startswith(".") or not file.is_file():
        return False
    if file.suffix != ".png":
        return True
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - len(PNG_END)))
        return opened.read() == PNG_END


@contextmanager
def training_state_dir(folder: Path, stage: str) -> Iterator[Path]:
    """Context manager that yields the folder for a training's checkpoints, `folder/.STAGE.unfinished/FINGERPRINT`.

    Each fingerprint has its own folder: a training with other parameters starts from scratch and prints what has
    changed, and resumes its own state when the parameters are changed back. For an experiment that DVC runs in a
    temporary copy, the folder lies in the original project. The state of a finished training is removed when DVC has
    recorded its result and another training starts.

    Args:
        folder: a folder of the project, relative to its root.
        stage: the stage's name.

    Raises:
        UserError: another process runs the same training.
    """
    current, last = fingerprints(stage)
    all_states = Path(os.environ.get("DVC_ROOT", "."), folder, f".{stage}.unfinished")
    state = all_states / hashlib.sha256(json.dumps(current, sort_keys=True).encode()).hexdigest()[:12]
    forced = (state / FINISHED).exists() and current == last
    if not current or forced:
        shutil.rmtree(state, ignore_errors=True)
    if not current:
        print(
            f"{stage}: starting from scratch, and cannot be resumed: DVC cannot hash its dependencies; "
            f"`dvc repro {stage}` names one that is missing",
            file=sys.stderr,
        )
    elif not state.is_dir():
        _report_others(all_states, current, stage)
    state.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(state / LOCK, f"{stage} with these parameters"):
        _write(state / FINGERPRINT, current)
        yield state
        (state / FINISHED).touch()


def _report_others(all_states: Path, current: Fingerprint, stage: str) -> None:
    """Print how unfinished trainings differ from the one that starts, and remove the state of finished ones."""
    for folder in sorted(path for path in all_states.glob("*") if path.is_dir()):
        if (folder / FINISHED).exists():
            shutil.rmtree(folder)
            continue
        changes = explain_changes(_read(folder / FINGERPRINT), current)
        text = join_first(changes, limit=MAX_CHANGES)
        if _is_locked(folder / LOCK):
            hint = f"the state in {folder} belongs to a training that is running"
        else:
            hint = f"the earlier state stays in {folder}; delete it if you do not need it"
        print(f"{stage}: starting from scratch: {text} ({hint})", file=sys.stderr)


def _is_locked(path: Path) -> bool:
    try:
        with exclusive_lock(path, str(path)):
            return False
    except UserError:
        return True
