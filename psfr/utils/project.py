"""Find the user's files from the project's root, also in a copy in which DVC runs an experiment.

`dvc exp run --temp` and the queue run in `.dvc/tmp/exps/NAME`, which has only what git and DVC track.
"""

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from psfr.utils.errors import raise_all
from psfr.utils.files import atomic_write


def project_root() -> Path:
    """Return the working directory, or the project's folder if the working directory is DVC's copy of it.

    DVC sets `DVC_ROOT` to that folder. The variable alone is not enough: it is inherited by a DVC of another project.
    """
    cwd = Path.cwd()
    root = os.environ.get("DVC_ROOT")
    if root and cwd.is_relative_to(Path(root, ".dvc/tmp").resolve()):
        return Path(root)
    return cwd


def find(path: str, exists: Callable[[Path], bool] = Path.exists) -> Path:
    """Return the path of a user's file or folder: in the working directory or, if it is not there, in the project.

    Args:
        path: absolute, or relative to the project's root.
        exists: whether what is looked for is at a path.
    """
    relative, root = Path(path), project_root()
    if root == Path.cwd() or exists(relative) or not exists(root / path):
        return relative
    return root / path


def workspace_path(path: str) -> Path:
    """Return the path of a file of the project in the working directory, even if `path` is absolute."""
    root = project_root()
    if root == Path.cwd() or not os.path.isabs(path):
        return Path(path)
    folder, name = os.path.split(path)
    return Path(os.path.relpath(os.path.realpath(folder), root.resolve()), name)


def provide(paths: Iterable[Path]) -> None:
    """Copy what the working directory, a copy of the project, lacks of the user's files or folders.

    DVC hashes their folder after the stage, so that its record is that of a run in the project.

    Args:
        paths: relative to the working directory.

    Raises:
        UserError: some are in neither folder; it names all of them.
    """
    paths, root = list(paths), project_root()
    for path in paths:
        original = root / path
        for file in original.rglob("*") if original.is_dir() else [original]:
            target = path / file.relative_to(original)
            if file.is_file() and not target.exists():
                with atomic_write(target) as temporary:
                    shutil.copyfile(file, temporary)
    raise_all([f"{path}: no such file" for path in paths if not path.exists()], "copy it there")
