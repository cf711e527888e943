"""Albums: a distinct name for the result of each photograph, and a record of those that are done."""

import json
import os
import re
import sys
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from tqdm import tqdm

from psfr.data import formats, images
from psfr.photos import io
from psfr.utils.errors import UserError, printable, raise_all

SHEET_SUFFIX = ".faces"  # of contact sheets of faces, before the number of a page and the suffix of the file
_IMAGE_SUFFIXES = {*formats.SUFFIXES, *formats.UNREAD_SUFFIXES}


def list_album(photo: Path, out: Path) -> list[Path]:
    """Return the photographs of a folder and its subfolders, without those in `out`, or the one that `photo` names.

    Contact sheets that `psfr-restore --list` wrote beside a photograph are no photographs of its folder.

    Raises:
        UserError: there is no such file, the folder has no photographs, or `out` is the folder itself.
    """
    if not photo.is_dir():
        if not photo.exists():
            raise UserError(f"{photo}: no such image or folder: check the path")
        return [photo]
    folder, out = photo.resolve(), out.resolve()
    if folder == out:
        raise UserError(f"{out}: output folder is the input folder: choose another with -o")
    paths = io.list_photos(photo)
    sheets = {path.with_name(path.stem + SHEET_SUFFIX) for path in paths}
    paths = [
        path for path in paths if path.suffix != ".png" or path.with_name(re.sub(r"_\d+$", "", path.stem)) not in sheets
    ]
    return [path for path in paths if out not in path.resolve().parents] if folder in out.parents else paths


def check_folder(out: Path) -> None:
    """Check that results can be written into a folder, which need not exist.

    Raises:
        UserError: it is a file, or would be a new folder with the name of an image.
    """
    if out.is_dir():
        return
    if out.exists():
        raise UserError(f"{out}: is a file: name a folder with -o")
    if out.suffix.lower() in _IMAGE_SUFFIXES:
        raise UserError(f"{out}: the name of an image, but results need a folder: name one with -o")


def distinct_names(paths: list[Path], root: Path, separator: str = "/") -> dict[Path, str]:
    """Return a name for the result of each photograph, without suffix, that no other one has.

    It is the photograph's path in the album without suffix. If two share it, as `a.jpg` and `a.tif` do, both keep their
    suffix, and if they still share a name (`a/b.jpg` and `a_b.jpg` if the separator is "_"), a checksum is appended.
    The names of the pages of a TIFF file, see `page_path`, count as its own. Names that differ in case only count as
    the same, as they are on macOS and Windows.

    Args:
        paths: photographs in `root`.
        root: folder of the album.
        separator: between the folders of the path in the name.
    """
    candidates = {}
    for path in paths:
        relative = path.relative_to(root)
        name = separator.join(relative.parts)
        checksum = zlib.crc32(os.fsencode(relative))
        candidates[path] = [separator.join([*relative.parts[:-1], relative.stem]), name, f"{name}~{checksum:08x}"]
    choices = dict.fromkeys(paths, 0)
    num_pages = {path: io.count_pages(path) for path in paths if path.suffix.lower() in io.FORMATS["tiff"]}
    while True:
        names = {path: candidates[path][choice] for path, choice in choices.items()}
        own = {path: _folded({name, *page_names(name, num_pages.get(path, 1))}) for path, name in names.items()}
        num_users = Counter(name for owned in own.values() for name in owned)
        shared = [path for path in paths if choices[path] < 2 and any(num_users[name] > 1 for name in own[path])]
        if not shared:
            return names
        for path in shared:
            choices[path] += 1


def _folded(names: set[str]) -> set[str]:
    return {name.casefold() for name in names}


def page_names(name: str, num_pages: int) -> list[str]:
    """Return the name of the result of each page: that of the file if it has one page, else `NAME_1`, `NAME_2`, ..."""
    return [name] if num_pages == 1 else [f"{name}_{number}" for number in range(1, num_pages + 1)]


def page_paths(result: Path, num_pages: int) -> list[Path]:
    """Return where the result of each page of a photograph is written, as `page_names` names them."""
    return [result.with_name(name + result.suffix) for name in page_names(result.stem, num_pages)]


def result_paths(photo: Path, out: Path, image_format: str = "png") -> dict[Path, Path]:
    """Return where the result of each photograph is written.

    Args:
        photo: a photograph, or the folder of an album.
        out: folder for the results or, if `photo` is a single one, an image file.
        image_format: of results in a folder, one of `io.FORMATS`.

    Raises:
        UserError: as `list_album` and `check_folder`, a result would overwrite a photograph, or `out` is a file of
            another format.
    """
    paths = list_album(photo, out)
    suffix = io.FORMATS[image_format][0]
    if photo.is_dir():
        check_folder(out)
        results = {path: out / f"{name}{suffix}" for path, name in distinct_names(paths, photo).items()}
    elif out.suffix.lower() in io.SUFFIXES and not out.is_dir():
        results = {photo: out}
    elif out.suffix.lower() in _IMAGE_SUFFIXES and not out.is_dir():
        raise UserError(f"{out}: unsupported output format: use one of {', '.join(io.SUFFIXES)}")
    else:
        check_folder(out)
        results = {photo: out / f"{photo.stem}{suffix}"}
    photos = {_inode(path) for path in paths if path.exists()}
    written = [page for path, result in results.items() for page in page_paths(result, io.count_pages(path))]
    raise_all(
        [f"{path} would be overwritten" for path in written if path.exists() and _inode(path) in photos],
        "choose another folder with -o",
    )
    return results


def unread(photo: Path, out: Path) -> tuple[Counter[str], Counter[str]]:
    """Return how many pictures of formats that are not read, and how many other files an album has, by suffix.

    Files in `out` do not count, nor does a single photograph.
    """
    pictures, others = Counter[str](), Counter[str]()
    if photo.is_dir():
        for path in images.walk_files(photo):
            suffix = path.suffix.lower()
            if suffix not in formats.SUFFIXES and out.resolve() not in path.resolve().parents:
                (pictures if suffix in formats.UNREAD_SUFFIXES else others)[suffix or "without suffix"] += 1
    return pictures, others


def report_unread(photo: Path, out: Path) -> list[str]:
    """Print the suffixes of the other files of an album; return a message if it has pictures that are not read."""
    pictures, others = unread(photo, out)
    if others:
        print(f"{printable(photo)}: passed over, no pictures: {_by_suffix(others)}", file=sys.stderr)
    if not pictures:
        return []
    return [f"{photo}: pictures of formats that are not read: {_by_suffix(pictures)}: convert them to PNG or JPEG"]


def _by_suffix(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {printable(suffix)}" for suffix, count in counts.most_common(20))


def report_frames(path: Path, photograph: io.Photograph) -> None:
    """Print that only the first picture of an animated file is used."""
    if photograph.num_frames > 1:
        tqdm.write(f"{printable(path)}: the first of {photograph.num_frames} frames is used", file=sys.stderr)


def failure(photo: Path, error: Exception) -> str:
    """Return a message for a photograph that could not be processed."""
    return str(error) if str(photo) in str(error) else f"{photo}: {error or 'not enough memory'}"


def passed_over(num_photos: int) -> str:
    """Return the end of an album's summary."""
    return f"{num_photos} passed over" + (" (done before; --overwrite repeats them)" if num_photos else "")


def _inode(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino


@dataclass(frozen=True)
class Entry:
    """What a record says of a photograph.

    Args:
        name: of its result, as `distinct_names` returns it.
        settings: with which it was processed; None if that has begun, but not ended.
        stamp: modification time (ns) and size (bytes) of the photograph when it was read.
        files: that were written, relative to the output folder.
        num_faces: number of its faces.
        faces: what the command records of them, serializable as JSON.
    """

    name: str
    settings: Any
    stamp: tuple[int, int]
    files: tuple[str, ...]
    num_faces: int
    faces: Any = ()


class Record:
    """The photographs of an output folder that are done: a run that was interrupted passes over them.

    The record is a hidden file in the output folder with one line of JSON for each photograph, appended when all of its
    files are written. The last line of a photograph counts, and lines that are not valid are ignored.

    Args:
        out: output folder.
        command: that writes into it; each has its own record.
        settings: options and models, serializable as JSON. A result of other settings is not done.
        overwrite: whether no result is done.
    """

    def __init__(self, out: Path, command: str, settings: dict[str, Any], overwrite: bool):
        self._out, self._overwrite = out, overwrite
        self._path = out / f".psfr-{command}.jsonl"
        self._settings = json.loads(json.dumps(settings))
        self._stamps: dict[str, tuple[int, int]] = {}
        self._entries: dict[str, Entry] = {}
        self._owners: dict[str, str] = {}  # the photograph of each file, the last if two albums wrote it
        for line in self._path.read_bytes().splitlines() if self._path.is_file() else []:
            try:
                self._set(*_parse(line))
            except (ValueError, TypeError, KeyError, AttributeError):
                continue

    def find(self, photo: Path, name: str) -> Entry | None:
        """Return what is known of a photograph that is done; None if it is to be processed.

        It is done if it was processed under this name with the same settings, is unchanged, and has its files.
        """
        key = self._key(photo)
        self._stamps[key] = _stamp(photo)
        entry = self._entries.get(key)
        if entry is None:
            return None
        is_current = (entry.name, entry.settings, entry.stamp) == (name, self._settings, self._stamps[key])
        if is_current and not self._overwrite and all(self._has(file, key) for file in entry.files):
            return entry
        # From here on, its files may be of the former settings or of these.
        self._append(key, Entry(entry.name, None, entry.stamp, entry.files, entry.num_faces))
        return None

    def add(self, photo: Path, name: str, files: list[Path], num_faces: int, faces: Any = ()) -> None:
        """Record a photograph, after `find`, as done, and remove the files that an earlier run wrote for it only."""
        key = self._key(photo)
        entry = self._entries.get(key)
        new_files = tuple(file.relative_to(self._out).as_posix() for file in files)
        for file in entry.files if entry is not None else ():
            if file not in new_files and self._owners.get(file) == key:
                (self._out / file).unlink(missing_ok=True)
        self._append(key, Entry(name, self._settings, self._stamps[key], new_files, num_faces, faces))

    def announce(self, photo: Path, name: str) -> Callable[[list[Path]], None]:
        """Return a function that records, after `find` and from any process, files before they are written.

        If the process is killed while it writes them, the next run knows them as files of this photograph.
        """
        key = self._key(photo)
        entry = self._entries.get(key)
        files = () if entry is None else entry.files
        return partial(_announce, self._path, key, Entry(name, None, self._stamps[key], files, 0))

    def _key(self, photo: Path) -> str:
        """Return the path of a photograph relative to the output folder: both may be moved together."""
        path = photo.parent.resolve() / photo.name
        try:
            return os.path.relpath(path, self._out.resolve())
        except ValueError:  # another drive of Windows
            return str(path)

    def _has(self, file: str, key: str) -> bool:
        path = self._out / file
        return self._owners[file] == key and path.is_file() and path.stat().st_size > 0

    def _set(self, key: str, entry: Entry) -> None:
        self._entries[key] = entry
        self._owners |= dict.fromkeys(entry.files, key)

    def _append(self, key: str, entry: Entry) -> None:
        self._set(key, entry)
        _append_line(self._path, key, entry)


def _announce(record: Path, key: str, entry: Entry, files: list[Path]) -> None:
    names = [file.relative_to(record.parent).as_posix() for file in files]
    _append_line(record, key, replace(entry, files=tuple(dict.fromkeys([*entry.files, *names]))))


def _append_line(record: Path, key: str, entry: Entry) -> None:
    record.parent.mkdir(parents=True, exist_ok=True)
    with record.open("a", encoding="ascii") as file:
        # The line feed comes first: the last line may have been cut off by a crash.
        file.write("\n" + json.dumps({"photo": key, **asdict(entry)}))


def _stamp(photo: Path) -> tuple[int, int]:
    try:
        stat = photo.stat()
    except OSError:
        return 0, 0  # reading the photograph will tell why
    return stat.st_mtime_ns, stat.st_size


def _parse(line: bytes) -> tuple[str, Entry]:
    values = json.loads(line)
    key, files, (time, size) = values.pop("photo"), tuple(values.pop("files")), values.pop("stamp")
    for file in files:
        if PurePath(file).is_absolute() or ".." in PurePath(file).parts:
            raise ValueError(file)  # not in the output folder
    return key, Entry(files=files, stamp=(time, size), **values)
