"""What is known of a file before it arrives: its size, and hashes."""

import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

import ijson

from psfr.utils.errors import InputError, shortened

HASHES = ("md5", "sha1", "sha256", "crc32")  # by rclone's names, the first that a remote has is taken
FFHQ = "ffhq-dataset-v2.json"  # FFHQ's own list of its files


class Sum(NamedTuple):
    """One thing known: `kind` is bytes or one of HASHES, `said_by` who knows it."""

    kind: str
    value: str
    said_by: str


def fault(path: Path, expected: Iterable[Sum]) -> str | None:
    """Why a file is not the expected one; None if it is."""
    content = None
    for kind, value, said_by in expected:
        if kind == "bytes":
            found = str(path.stat().st_size)
        else:
            content = path.read_bytes() if content is None else content
            found = (
                f"{zlib.crc32(content):08x}"
                if kind == "crc32"
                else hashlib.new(kind, content, usedforsecurity=False).hexdigest()
            )
        if found != value.lower():
            return (
                f"has {found} bytes, {said_by} says {value}"
                if kind == "bytes"
                else f"has {kind.upper()} {found}, {said_by} says {value}"
            )
    return None


def is_ffhq_name(name: str) -> bool:
    return re.fullmatch("[0-9]{5}[.]png", name) is not None


def of_ffhq(file: Path, images: Mapping[str, Path]) -> dict[Path, Sum]:
    """The MD5 sums that FFHQ's list has of aligned images; `images` has each by its path as it is on the remote.

    The list is read as a stream, for it is 255 MB long. A path belongs to an entry if it is the end of the entry's own path, such as
    `images1024x1024/00000/00000.png`: copies in another size lie in a folder of another name and are not taken for it.

    Raises:
        InputError: the list is damaged.
    """
    wanted = {PurePosixPath(path).name: path for path in images}
    found, entries = {}, 0
    try:
        with file.open("rb") as opened:
            for entries, (its_path, md5) in enumerate(_entries(opened), 1):
                path = wanted.get(PurePosixPath(its_path).name)
                if path and f"/{its_path}".endswith(f"/{path}"):
                    found[images[path]] = Sum("md5", re.fullmatch("[0-9a-fA-F]{32}", md5)[0], FFHQ)
    except (ijson.JSONError, ValueError, TypeError, KeyError) as error:
        raise _damaged(shortened(error)) from None
    if not entries:
        raise _damaged("no entries")
    return found


def _entries(opened: IO[bytes]) -> Iterator[tuple[str, str]]:
    """Path and MD5 of {"0": {"image": {"file_path": path, "file_md5": md5, ...}, ...}, ...}."""
    keys, depth, image = [""] * 4, 0, {}  # the key at each depth
    for event, value in ijson.basic_parse(opened, use_float=True):
        if event == "map_key" and depth < 4:
            keys[depth] = value
        elif event == "string" and depth == 3 and keys[2] == "image":
            image[keys[3]] = value
        elif event.startswith("start"):
            depth += 1
        elif event.startswith("end"):
            if depth == 3 and keys[2] == "image":
                yield image["file_path"], image["file_md5"]
                image = {}
            depth -= 1


def _damaged(reason: str) -> InputError:
    return InputError(f"{FFHQ}: damaged, or not the list of FFHQ ({reason}): put a sound one onto the remote, or none")
