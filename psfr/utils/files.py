"""Write files and folders atomically, and find duplicate names.

DVC and other stages must never read half of a file: a path either does not exist, or holds a complete result.
"""

import shutil
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def temporary_path(path: Path) -> Path:
    """Return the temporary name beside `path`, `.NAME.partial`."""
    return path.with_name(f".{path.name}.partial")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Context manager that yields a temporary file name and renames the file to `path` on success.

    The file is written under another name first because a crash or a full disk must not leave a truncated file that
    DVC or a later run takes for the result. After an exception the temporary file is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # ENOSPC comes without a file name
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def scratch_dir(path: Path) -> Iterator[Path]:
    """Context manager that yields a folder and removes it on success; after an exception it stays for the next run."""
    path.mkdir(parents=True, exist_ok=True)
    yield path
    shutil.rmtree(path)


def replace_dir(folder: Path, path: Path) -> None:
    """Rename `folder` to `path`, replacing the folder that is there."""
    if path.exists():
        shutil.rmtree(path)
    folder.replace(path)


@contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """Context manager that yields an empty temporary folder, which replaces `path` on success.

    As in `atomic_write`, nobody must find half of the files. After an exception the temporary folder is removed.
    """
    path = Path(path)
    temporary = temporary_path(path)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        replace_dir(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def mirror_to_cache(stage: str, *files: Path) -> None:
    """Copy a stage's small result files to `metrics/cached/STAGE`, which DVC caches.

    The files themselves are kept by git (`cache: false`), so `dvc push` does not upload them. The run cache restores a
    stage for a colleague only if the content of each of its files is in the DVC remote, under whatever name.
    """
    with atomic_dir(Path("metrics/cached") / stage) as folder:
        for file in files:
            shutil.copyfile(file, folder / file.name)


def find_duplicates(items: Iterable[T], key: Callable[[T], Hashable]) -> list[tuple[T, T]]:
    """Return each item whose key an earlier item has, with the first item of that key.

    Args:
        items: in the order in which they are compared.
        key: what has to be unique, such as the stem of a path.
    """
    first: dict[Hashable, T] = {}
    collisions = []
    for item in items:
        name = key(item)
        if name in first:
            collisions.append((item, first[name]))
        else:
            first[name] = item
    return collisions
