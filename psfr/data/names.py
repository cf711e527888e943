"""Name the images of a set: by their file names, or by their paths if several folders have files of the same name."""

import re
import sys
from collections.abc import Collection, Iterable
from pathlib import PurePath
from typing import TypeVar

from psfr.data.images import check_name
from psfr.utils.errors import UserError, raise_all
from psfr.utils.files import find_duplicates

P = TypeVar("P", bound=PurePath)

# In names of folders with copies of images in another size, as FFHQ's images1024x1024 and thumbnails128x128.
_COPIES = re.compile(r"thumbnail|thumbs|[0-9]+x[0-9]+$", re.IGNORECASE)


def need_paths(paths: Collection[PurePath], source: str) -> bool:
    """Return whether images have to be named by their paths, because file names repeat; then print that they are.

    Args:
        paths: of the images, relative to the folder or the remote.
        source: the folder or remote, for messages.

    Raises:
        UserError: file names repeat because a folder has copies of the images in another size.
    """
    num_repeated = len(paths) - len({path.stem for path in paths})
    if not num_repeated:
        return False
    copies = next((part for path in paths for part in path.parent.parts if _COPIES.search(part)), None)
    if copies is not None:
        problem = f"{num_repeated} file names repeat, {copies} seems to have copies in another size"
        raise UserError(f"{source}: {problem}: name the folder that holds only the images")
    line = f"{num_repeated} file names repeat, so images are named by their paths (FOLDER_NAME)"
    print(f"{source}: {line}", file=sys.stderr)
    return True


def name_files(paths: Iterable[P], from_path: bool, source: str) -> dict[str, P]:
    """Return each file by its name in a set.

    Args:
        paths: relative to the folder or the remote.
        from_path: whether names are the paths without suffix, with `_` for `/`: `person_0001` for `person/0001.jpg`.
            Otherwise they are the file names without suffix.
        source: the folder or remote, for the error message.

    Raises:
        UserError: two files have the same name, or a name is too long.
    """

    def name(path: PurePath) -> str:
        return "_".join([*path.parent.parts, path.stem]) if from_path else path.stem

    paths = list(paths)
    problems = [check_name(f"{name(path)}{path.suffix}") for path in paths]
    raise_all([f"{source}: {problem}" for problem in problems if problem], "rename it or its folders")
    raise_all(
        [f"{source}: {path} has the same name as {first}" for path, first in find_duplicates(paths, name)],
        "rename one of each pair: images are identified by their names without suffix",
    )
    return {name(path): path for path in paths}
