"""Fetch the networks of the paper's authors once into the user's cache, and verify them at each use."""

import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from psfr.pretrained import fetch, network_files, registry
from psfr.pretrained.download import Downloader
from psfr.pretrained.loader import file_hash
from psfr.pretrained.registry import WeightFile
from psfr.utils.errors import UserError
from psfr.utils.files import atomic_write

NAMES = (network_files.PUBLISHED_FPN, network_files.PUBLISHED_GENERATOR)
MIRROR_VARIABLE = "PSFR_WEIGHTS"
TERMS = "269 MB of networks of PSFR-GAN's authors, CC BY-NC-SA 4.0: no commercial use, share alike"


def cache_dir() -> Path:
    """Return the folder of the published networks: `psfr` in the user's cache, on Linux `~/.cache/psfr`."""
    return platformdirs.user_cache_path("psfr", appauthor=False)


def fetch_published(mirror: str | None = None) -> Path:
    """Return the published generator's file, with the parsing network's beside it, after fetching what is missing.

    The SHA-256 of a file is recorded in NAME.sha256 when the file is first used. A file of another SHA-256 is fetched
    again, and refused if it still differs. An interrupted download is resumed. Only one process fetches at a time.

    Args:
        mirror: folder or URL that has both files; None for that of the environment variable PSFR_WEIGHTS or, without
            it, the authors' release.

    Raises:
        UserError: a file cannot be fetched, is not a weights file, or is not the one that was first used.
    """
    folder, mirror = cache_dir(), mirror or os.environ.get(MIRROR_VARIABLE) or None
    if mirror and "://" in mirror and not re.fullmatch(r"https?://[^/@?#]+(/[^@?#]*)?", mirror, re.IGNORECASE):
        raise UserError("mirror: not a plain http(s) URL or a folder: put a user and password into ~/.netrc")
    if not all(_is_verified(folder / name) for name in NAMES):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"{folder}: another process fetches the published networks: waiting for it", file=sys.stderr)
            lock.acquire()
        try:
            _fetch_missing(folder, mirror)
        finally:
            lock.release()
    return folder / network_files.PUBLISHED_GENERATOR


def _fetch_missing(folder: Path, mirror: str | None) -> None:
    missing = [weight for weight in registry.DOWNLOADABLE if weight.name in NAMES and not _adopt(folder, weight)]
    if missing:
        print(f"{folder}: {TERMS}", file=sys.stderr)
    downloader = Downloader()
    for weight in missing:
        target = folder / weight.name
        known = replace(weight, sha256=_recorded(target))
        try:
            fetch.fetch_file(known, mirror, target, downloader)
        except fetch.WrongFileError as error:
            hint = "name another --mirror"
            if known.sha256:
                hint = f"if the authors have replaced it, remove {_record(target)}"
            raise UserError(f"{error}: {hint} and run it again") from None
        except UserError as error:
            hint = f"download {' and '.join(NAMES)} elsewhere, and name their folder with --mirror or {MIRROR_VARIABLE}"
            raise UserError(f"{error}: {hint}") from None
        _adopt(folder, weight)


def _adopt(folder: Path, weight: WeightFile) -> bool:
    """Return whether a file is there and the one that was first used; if it is used for the first time, record it."""
    path = folder / weight.name
    if path.is_file() and not _recorded(path) and not fetch.find_problem(path, weight):
        with atomic_write(_record(path)) as temporary:
            temporary.write_text(f"{file_hash(path)}  {path.name}\n", encoding="ascii")  # as sha256sum writes it
    return _is_verified(path)


def _is_verified(path: Path) -> bool:
    return path.is_file() and file_hash(path) == _recorded(path)


def _recorded(path: Path) -> str:
    """Return the SHA-256 that a file had when it was first used; empty if it was not."""
    record = _record(path)
    words = record.read_text(encoding="ascii", errors="replace").split() if record.is_file() else []
    return words[0] if words and re.fullmatch("[0-9a-f]{64}", words[0]) else ""


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
