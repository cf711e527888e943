"""Sets from a folder of the user's own images, with masks if the set is labeled."""

import filecmp
import shutil
import sys
from collections.abc import Collection, Iterable
from functools import partial
from pathlib import Path

from psfr.compute import parallel
from psfr.compute.parallel import Executor
from psfr.data import images, names
from psfr.params import ImageSetParams, LabeledSetParams
from psfr.sources.pairs import Pair, choose_pairs, match_pairs, validate_pair
from psfr.utils import project
from psfr.utils.errors import raise_all
from psfr.utils.files import atomic_write


def copy_set(
    raw: Path,
    name: str,
    params: ImageSetParams,
    seed: int,
    executor: Executor,
    only: Collection[str] | None = None,
) -> None:
    """Validate and copy the chosen images of `params.images`, and their masks of `params.masks`, to `raw`.

    No file is copied before all are validated.

    Args:
        only: Names of the images to take, instead of those that `params.count` and `params.skip` choose.

    Raises:
        UserError: If a folder is missing or holds too few images, or if images or masks are damaged or do not match.
    """
    assert params.images is not None
    masks = params.masks if isinstance(params, LabeledSetParams) else None
    pairs = _list_pairs(_find(params.images), _find(masks) if masks is not None else None)
    chosen = choose_pairs(pairs, params, seed, name, only)
    remove_stale(raw, chosen)
    parallel.map(partial(_validate, raw), chosen, executor, f"check {name}")
    parallel.map(partial(_copy, raw), chosen, executor, f"copy {name}")


def _find(folder: str) -> Path:
    """Return the path of a user's folder. A copy of the project may have it without the files that git ignores."""

    def has_images(path: Path) -> bool:
        return any(file.suffix.lower() in images.SUFFIXES for file in images.walk_files(path))

    return project.find(folder, has_images)


def _list_pairs(image_folder: Path, mask_folder: Path | None) -> dict[str, Pair]:
    files = images.walk_files(image_folder)
    paths = images.select_images(files, image_folder)
    num_skipped = len(files) - len(paths)
    if num_skipped:
        suffixes = ", ".join(images.SUFFIXES)
        print(f"{image_folder}: skipped {num_skipped} files that are not {suffixes}", file=sys.stderr)
    from_path = names.need_paths([path.relative_to(image_folder) for path in paths], str(image_folder))
    faces = _by_name(paths, image_folder, from_path)
    if mask_folder is None:
        return {name: Pair(name, path) for name, path in faces.items()}
    mask_paths = images.select_images(images.walk_files(mask_folder), mask_folder, (".png",))
    masks = _by_name(mask_paths, mask_folder, from_path)
    return match_pairs(faces, masks, str(image_folder), str(mask_folder))


def _by_name(paths: list[Path], folder: Path, from_path: bool) -> dict[str, Path]:
    relative = names.name_files([path.relative_to(folder) for path in paths], from_path, str(folder))
    return {name: folder / path for name, path in relative.items()}


def remove_stale(raw: Path, pairs: Iterable[Pair]) -> None:
    """Remove the files of an earlier run from `raw` that do not belong to the chosen pairs."""
    expected: set[Path | None] = set()
    for pair in pairs:
        expected.update(pair.destinations(raw).values())
        expected.add(pair.merged_mask_path(raw))
    for path in images.walk_files(raw):
        if path not in expected:
            path.unlink()


def _validate(raw: Path, pair: Pair) -> None:
    problems = validate_pair(raw, (pair, [()] * len(pair.files)))
    raise_all([f"{path}: {reason}" for path, reason in problems])


def _copy(raw: Path, pair: Pair) -> None:
    """Copy the files of a pair that `raw` does not have with the same content.

    A link to the user's file would let a later edit change the files that DVC tracks. The files that are there may be
    links to the DVC cache: they are replaced, never written.
    """
    for path, destination in pair.destinations(raw).items():
        if not destination.is_file() or not filecmp.cmp(path, destination, shallow=False):
            with atomic_write(destination) as temporary:
                shutil.copyfile(path, temporary)
