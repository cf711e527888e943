"""Sets from any remote that rclone supports: cloud drives, object stores, servers, and archives on them."""

import sys
from collections.abc import Collection, Iterable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from psfr.compute import parallel
from psfr.compute.parallel import Executor
from psfr.data import names
from psfr.data.images import SUFFIXES, check_name, is_system_name
from psfr.params import ImageSetParams, LabeledSetParams
from psfr.sources import checksums, fetching
from psfr.sources.checksums import Checksum
from psfr.sources.folder import remove_stale
from psfr.sources.pairs import Pair, choose_pairs, match_pairs, validate_pair
from psfr.utils.errors import UserError, join_first, raise_all
from psfr.utils.files import scratch_dir

MAX_REFETCH = 2  # times that a corrupt file is fetched again


class RemoteDir(NamedTuple):
    """A remote, its listing, and the local folder that its files are fetched to."""

    remote: str
    listing: fetching.Listing
    folder: Path

    def path(self, file: Path) -> str:
        """Return the path on the remote of a local file."""
        return str(file.relative_to(self.folder))

    def address(self, file: Path) -> str:
        return fetching.join_remote(self.remote, self.path(file))

    def checksums(self, file: Path) -> tuple[Checksum, ...]:
        return self.listing.checksums(self.path(file))

    def fetch(self, files: Iterable[Path], description: str) -> None:
        """Fetch those of the files that belong into the local folder and are not there."""
        paths = sorted(self.path(file) for file in files if file.is_relative_to(self.folder))
        sizes = {path: max(self.listing.files[path][0], 0) for path in paths}
        fetching.copy(self.remote, sizes, self.folder, description)


def fetch_set(
    raw: Path,
    name: str,
    params: ImageSetParams,
    seed: int,
    executor: Executor,
    only: Collection[str] | None = None,
) -> None:
    """Fetch the chosen images of the remote `params.images`, and their masks of `params.masks`, and move them to `raw`.

    Files are validated before they are moved.

    Args:
        only: Names of the images to take, instead of those that `params.count` and `params.skip` choose.

    Raises:
        UserError: If rclone fails, if the remote holds too few images, or if files are corrupt there or do not match;
            the message names all of them.
    """
    assert params.images is not None
    # Beside `raw` and kept after an interruption, so that fetched files survive a change of the parameters.
    with scratch_dir(raw.with_name(f".{name}-rclone.partial")) as scratch:
        remotes = [_list_remote(params.images, scratch / "images", f"list {name}")]
        if isinstance(params, LabeledSetParams):
            assert params.masks is not None
            remotes.append(_list_remote(params.masks, scratch / "masks", f"list {name}'s masks"))
        pairs = _list_pairs(remotes)
        chosen = choose_pairs(pairs, params, seed, name, only)
        remove_stale(raw, chosen)
        _restore_moved(raw, chosen)
        ffhq = _ffhq_checksums(remotes[0], [pair.image for pair in chosen], scratch)
        for remote in remotes:
            remote.fetch([file for pair in chosen for file in pair.files], f"fetch {name}")
        _validate(raw, chosen, ffhq, remotes, executor, name)
        for pair in chosen:
            for file, destination in pair.destinations(raw).items():
                destination.parent.mkdir(parents=True, exist_ok=True)
                file.replace(destination)


def _list_remote(address: str, folder: Path, description: str) -> RemoteDir:
    remote = fetching.find_remote(address)
    return RemoteDir(remote, fetching.list_remote(remote, description), folder)


def _list_pairs(remotes: list[RemoteDir]) -> dict[str, Pair]:
    """Return the pair of each image by its name in the set, with the local paths that files are fetched to."""
    paths = select_images(remotes[0].remote, remotes[0].listing.files, SUFFIXES)
    from_path = names.need_paths(paths, remotes[0].remote)
    faces = names.name_files(paths, from_path, remotes[0].remote)
    if len(remotes) == 1:
        pairs = {name: Pair(name, path) for name, path in faces.items()}
    else:
        mask_paths = select_images(remotes[1].remote, remotes[1].listing.files, (".png",))
        masks = names.name_files(mask_paths, from_path, remotes[1].remote)
        pairs = match_pairs(faces, masks, remotes[0].remote, remotes[1].remote)
    image_folder, mask_folder = remotes[0].folder, remotes[-1].folder
    return {
        name: Pair(name, image_folder / pair.image, tuple(mask_folder / mask for mask in pair.masks))
        for name, pair in pairs.items()
    }


def select_images(remote: str, files: Collection[str], suffixes: tuple[str, ...]) -> list[Path]:
    """Select the images among the files of a remote, without those that `images.is_system_name` leaves out.

    Returns:
        Path of each image on the remote, sorted.

    Raises:
        UserError: If there is no image, or if names are invalid.
    """
    paths = sorted(path for path in files if PurePosixPath(path).suffix.lower() in suffixes and not _is_hidden(path))
    if not paths:
        archive = next((path for path in files if path.endswith(".zip")), None)
        if archive:
            hint = f"to read those in {archive}, name `:archive:{remote.rstrip('/')}/{archive}`"
        else:
            hint = f"put {', '.join(suffixes)} files there"
        raise UserError(f"{remote}: no images in it: {hint}")
    problems = [_name_problem(path) for path in paths]
    raise_all([f"{remote}: {problem}" for problem in problems if problem], "rename it")
    return [Path(path) for path in paths]


def _is_hidden(path: str) -> bool:
    return any(is_system_name(part) and part != ".." for part in PurePosixPath(path).parts)


def _name_problem(path: str) -> str | None:
    """Return why a path of a listing is refused, or None; the server that sent it may not be trustworthy."""
    if path.startswith("/") or ".." in PurePosixPath(path).parts:
        return f"{path!a} leads out of the folder"
    if path != str(PurePosixPath(path)):
        return f"{path!a} is not a normalized path"
    return check_name(path)


def _ffhq_checksums(remote_dir: RemoteDir, files: list[Path], scratch: Path) -> dict[Path, Checksum]:
    """Return the checksums of FFHQ's own list for the images that it lists.

    The list is looked for among the images and, if they are named as those of FFHQ, in the parent of their folder.
    """
    listed = remote_dir.listing.files
    candidates = [
        path for path in listed if PurePosixPath(path).name == checksums.FFHQ_LIST and _name_problem(path) is None
    ]
    if candidates:
        path = min(candidates, key=len)
        remote, folder, prefix = remote_dir.remote, remote_dir.folder, ""
        size = listed[path][0]
    else:
        parent = fetching.parent_remote(remote_dir.remote)
        if parent is None or not all(checksums.is_ffhq_name(file.name) for file in files):
            return {}
        path = checksums.FFHQ_LIST
        remote, folder, prefix = parent[0], scratch, f"{parent[1]}/"
        size = fetching.file_size(remote, path)
        if size is None:
            return {}
    fetching.copy(remote, {path: size}, folder, "fetch checksums")
    images = {prefix + remote_dir.path(file): file for file in files}
    found = checksums.read_ffhq_checksums(folder / path, images)
    address = fetching.join_remote(remote, path)
    print(f"{address}: has the checksums of {len(found)} of {len(files)} images", file=sys.stderr)
    return found


def _restore_moved(raw: Path, pairs: list[Pair]) -> None:
    """Move the files that an interrupted run has moved to `raw` back, so that they are validated again."""
    for pair in pairs:
        for file, destination in pair.destinations(raw).items():
            if destination.is_file() and not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                destination.replace(file)


def _validate(
    raw: Path, pairs: list[Pair], ffhq: dict[Path, Checksum], remotes: list[RemoteDir], executor: Executor, name: str
) -> None:
    """Validate all fetched files; corrupt files are fetched again, up to MAX_REFETCH times.

    Raises:
        UserError: If files are corrupt on the remote too, or do not match.
    """

    def remote_of(file: Path) -> RemoteDir:
        return next(remote for remote in remotes if file.is_relative_to(remote.folder))

    def expected(file: Path) -> tuple[Checksum, ...]:
        return remote_of(file).checksums(file) + ((ffhq[file],) if file in ffhq else ())

    for num_left in range(MAX_REFETCH, -1, -1):
        tasks = [(pair, [expected(file) for file in pair.files]) for pair in pairs]
        results = parallel.map(partial(validate_pair, raw), tasks, executor, f"check {name}")
        problems = [problem for pair_problems in results for problem in pair_problems]
        if not problems:
            return
        if num_left == 0:
            raise_all([f"{remote_of(file).address(file)}: {reason}" for file, reason in problems])
        corrupt = {problem.path for problem in problems}
        listed = join_first(sorted(path.name for path in corrupt), ", ")
        print(f"{name}: corrupt, fetching again: {listed}", file=sys.stderr)
        for path in corrupt:
            path.unlink()
        for remote in remotes:
            remote.fetch(corrupt, f"fetch {name} again")
        pairs = [pair for pair, pair_problems in zip(pairs, results, strict=True) if pair_problems]
