"""Files and folders appear whole or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def partial(path: Path) -> Path:
    """The temporary name beside `path`."""
    return path.with_name(f".{path.name}.partial")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`, and rename it to `path` when the block ends well; otherwise remove it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = partial(path)
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk does not say where
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def removing(path: Path) -> Iterator[Path]:
    """Give a folder that is removed when the block ends well, and otherwise kept for the next try."""
    path.mkdir(parents=True, exist_ok=True)
    yield path
    shutil.rmtree(path)


def take_place(folder: Path, path: Path) -> None:
    """Rename a folder to `path`, in the place of what was there."""
    if path.exists():
        shutil.rmtree(path)
    folder.replace(path)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give an empty temporary folder beside `path`; when the block ends well it takes the place of `path`, otherwise it is removed."""
    path = Path(path)
    temporary = partial(path)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        take_place(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def cached(stage: str, *files: Path) -> None:
    """Lay copies of a stage's small files into `metrics/cached/STAGE`, which DVC caches.

    Git keeps the files themselves (`cache: false`), so DVC pushes none of them; but the run cache gives a colleague a stage's result
    only if each of its files is there. DVC finds them by content: pushed under one name, they are there under the other.
    """
    with replacing_folder(Path("metrics/cached") / stage) as folder:
        for file in files:
            shutil.copyfile(file, folder / file.name)
