"""Find images that two sets have in common, by the content of their files."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from psfr.data import images
from psfr.utils.errors import UserError, join_first

# What the GAN and the face parsing network are trained on
TRAINING_DIRS = (Path("data/ffhq/raw"), Path("data/celebamask/raw/images"))


def find_equal_files(files: Iterable[Path], others: Iterable[Path]) -> list[tuple[Path, Path]]:
    """Return each file whose content one of the other files has too, with the first such file.

    Only files of equal size are read, so that two sets of photographs are compared without reading them.
    """
    files_by_size, others_by_size = _group_by_size(files), _group_by_size(others)
    pairs = []
    for size in files_by_size.keys() & others_by_size.keys():
        first_by_hash: dict[bytes, Path] = {}
        for other in others_by_size[size]:
            first_by_hash.setdefault(_hash(other), other)
        for file in files_by_size[size]:
            equal = first_by_hash.get(_hash(file))
            if equal is not None:
                pairs.append((file, equal))
    return sorted(pairs)


def check_unseen(test_files: Iterable[Path], where: str, hint: str) -> None:
    """Check that no test image is a copy of a training image; images that were encoded again are not recognized.

    Args:
        where: the test set, for the error message.
        hint: how to fix it, for the error message.

    Raises:
        UserError: files of both sets have the same content. The message names them.
    """
    training_files = [path for folder in TRAINING_DIRS for path in images.list_images(folder)]
    pairs = find_equal_files(test_files, training_files)
    if pairs:
        named = join_first([f"{file} = {equal}" for file, equal in pairs], ", ")
        raise UserError(f"{where}: {len(pairs)} test images are also training images ({named}): {hint}")


def _group_by_size(files: Iterable[Path]) -> dict[int, list[Path]]:
    groups = defaultdict(list)
    for file in files:
        groups[file.stat().st_size].append(file)
    return groups


def _hash(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
