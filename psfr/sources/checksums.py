"""Expected sizes and hashes of files, from a remote or from FFHQ's own list."""

import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

import ijson

from psfr.utils.errors import UserError, truncate

HASHES = ("md5", "sha1", "sha256", "crc32")  # as rclone calls them; the first one that a remote supports is used
FFHQ_LIST = "ffhq-dataset-v2.json"  # FFHQ's list of its files


class Checksum(NamedTuple):
    """Expected size or hash of a file: `kind` is "bytes" or one of HASHES, `source` names who states it."""

    kind: str
    value: str
    source: str


def checksum_mismatch(path: Path, expected: Iterable[Checksum]) -> str | None:
    """Return the first mismatch of a file with its expected checksums, or None."""
    content = None
    for kind, value, source in expected:
        if kind == "bytes":
            actual = str(path.stat().st_size)
        else:
            content = path.read_bytes() if content is None else content
            actual = _digest(kind, content)
        if actual != value.lower():
            found = f"{actual} bytes" if kind == "bytes" else f"{kind.upper()} {actual}"
            return f"has {found}, {source} says {value}"
    return None


def _digest(kind: str, content: bytes) -> str:
    if kind == "crc32":
        return f"{zlib.crc32(content):08x}"
    return hashlib.new(kind, content, usedforsecurity=False).hexdigest()


def is_ffhq_name(name: str) -> bool:
    return re.fullmatch("[0-9]{5}[.]png", name) is not None


def read_ffhq_checksums(file: Path, images: Mapping[str, Path]) -> dict[Path, Checksum]:
    """Read the MD5 hashes of images from FFHQ's list, a JSON file of 255 MB that is read as a stream.

    An image matches an entry if its path is the end of the entry's path, such as `images1024x1024/00000/00000.png`.
    Copies in another size lie in a folder of another name, so they do not match.

    Args:
        file: The list.
        images: Local path of each image by its path on the remote.

    Raises:
        UserError: If the list is damaged.
    """
    remote_paths = {PurePosixPath(path).name: path for path in images}
    found: dict[Path, Checksum] = {}
    num_entries = 0
    try:
        with file.open("rb") as stream:
            for listed_path, md5 in _entries(stream):
                num_entries += 1
                path = remote_paths.get(PurePosixPath(listed_path).name)
                if path and f"/{listed_path}".endswith(f"/{path}"):
                    if not re.fullmatch("[0-9a-fA-F]{32}", md5):
                        raise ValueError(f"{md5} is not an MD5 hash")
                    found[images[path]] = Checksum("md5", md5, FFHQ_LIST)
    except (ijson.JSONError, ValueError, TypeError, KeyError) as error:
        raise _damaged(truncate(error)) from None
    if not num_entries:
        raise _damaged("no entries")
    return found


def _entries(stream: IO[bytes]) -> Iterator[tuple[str, str]]:
    """Yield path and MD5 of {"0": {"image": {"file_path": path, "file_md5": md5, ...}, ...}, ...}."""
    keys, depth, image = [""] * 4, 0, {}  # the key at each depth
    for event, value in ijson.basic_parse(stream, use_float=True):
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


def _damaged(reason: str) -> UserError:
    hint = "replace it on the remote or remove it there"
    return UserError(f"{FFHQ_LIST}: damaged, or not the list of FFHQ ({reason}): {hint}")
