"""Crop the faces of photographs, aligned as in FFHQ: the preprocessing of the reimplementation.

python -m psfr.align PHOTO|FOLDER -o OUT [--size 512] [--min-size 0] [--workers N] [--overwrite]
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from psfr.compute import parallel
from psfr.data import images
from psfr.photos import album, alignment, detection, io
from psfr.photos.options import NO_FACE_STATUS, whole_number
from psfr.utils.errors import UserError, print_debug_traceback, printable, raise_all, run_main


@dataclass(frozen=True)
class AlignedAlbum:
    """What became of the photographs of an album.

    Args:
        num_faces: number of faces in the output folder, by photograph.
        num_cut: number of faces that were left out because the border cuts them, by photograph.
        failed: a message for each photograph that could not be read or whose faces could not be written.
        num_passed_over: number of photographs that an earlier run had done.
    """

    num_faces: dict[Path, int]
    num_cut: dict[Path, int]
    failed: list[str]
    num_passed_over: int


def align(
    photo: Path, out: Path, size: int, min_size: int, workers: int | None, overwrite: bool = False
) -> dict[Path, int]:
    """Write each face of each photograph to `out/NAME_NUMBER.png`, the largest with number 1.

    A TIFF file of several pages gives `out/NAME_PAGE_NUMBER.png`. Colors are converted to sRGB by the file's profile.
    Faces that the border cuts are left out (`detection.is_cut`): what lies outside would be mirrored.

    Photographs that an earlier run did with the same size and minimum size are passed over, and the faces that it wrote
    for the others are replaced.

    Args:
        photo: a photograph, or a folder of photographs, searched recursively.
        out: output folder.
        size: side length of the faces in pixels.
        min_size: skip faces whose frame has a smaller side in the photograph, in pixels.
        workers: number of processes; None for one per core.
        overwrite: whether to pass over nothing.

    Returns:
        The number of faces written for each photograph.

    Raises:
        UserError: the folder has no photographs, `out` is the folder itself or a file, or photographs cannot be read;
            the last is raised after all others are processed.
    """
    aligned = align_album(photo, out, size, min_size, workers, overwrite)
    raise_all(aligned.failed)
    return aligned.num_faces


def align_album(
    photo: Path, out: Path, size: int, min_size: int, workers: int | None, overwrite: bool = False
) -> AlignedAlbum:
    """Do the same as `align`, but return what was left out and what failed."""
    paths = album.list_album(photo, out)
    album.check_folder(out)
    names = album.distinct_names(paths, photo if photo.is_dir() else photo.parent, "_")
    record = album.Record(out, "align", {"size": size, "min_size": min_size}, overwrite)
    entries = {path: record.find(path, name) for path, name in names.items()}
    num_faces = {path: len(entry.files) for path, entry in entries.items() if entry is not None}
    num_cut = {path: entry.num_faces - len(entry.files) for path, entry in entries.items() if entry is not None}
    num_passed_over, failed = len(num_faces), []
    pending = [(path, name, record.announce(path, name)) for path, name in names.items() if entries[path] is None]
    for path, result in parallel.imap(partial(_align, out, size, min_size), pending, workers, "align"):
        if isinstance(result, str):
            failed.append(result)
        else:
            files, num_cut[path] = result
            num_faces[path] = len(files)
            record.add(path, names[path], files, num_faces[path] + num_cut[path])
    return AlignedAlbum(num_faces, num_cut, failed, num_passed_over)


def _align(
    out: Path, size: int, min_size: int, item: tuple[Path, str, Callable[[list[Path]], None]]
) -> tuple[Path, tuple[list[Path], int] | str]:
    """Return the photograph and the files of its faces and the number of cut ones or, if it failed, a message.

    Args:
        out, size, min_size: as for `align`.
        item: the photograph, the name of its faces, and the function that records their files before they are written.
    """
    path, name, announce = item
    files: list[Path] = []
    num_cut = 0
    try:
        for page, page_name in enumerate(album.page_names(name, io.count_pages(path))):
            photograph = io.read(path, page)
            album.report_frames(path, photograph)
            image = photograph.to_srgb8()
            frames = [frame for frame in detection.find_faces(image) if frame.size >= min_size]
            whole = [frame for frame in frames if not detection.is_cut(image, frame)]
            num_cut += len(frames) - len(whole)
            faces = {out / f"{page_name}_{number}.png": frame for number, frame in enumerate(whole, 1)}
            files += faces
            announce(files)
            for file, frame in faces.items():
                images.write(file, alignment.crop(image, frame, size))
    except (UserError, OSError, MemoryError) as error:
        print_debug_traceback(error)
        return path, album.failure(path, error)
    return path, (files, num_cut)


def main() -> None:
    """Run the command.

    Raises:
        UserError: as `align`.
    """
    parser = argparse.ArgumentParser(
        prog="python -m psfr.align",
        description="Crop the faces of photographs, aligned as in FFHQ.",
        epilog=f"exit status: 0 faces found, 1 an error, 2 invalid arguments, {NO_FACE_STATUS} no error, but no face",
    )
    parser.add_argument("photo", type=Path, help="a photograph, or a folder of photographs, searched recursively")
    parser.add_argument("-o", dest="out", type=Path, required=True, help="output folder")
    parser.add_argument(
        "--size", type=_positive, default=512, help="side of the cropped faces in pixels (default: 512)"
    )
    parser.add_argument(
        "--min-size",
        type=whole_number,
        default=0,
        help="skip faces whose frame has a smaller side in the photograph, in pixels (default: 0)",
    )
    parser.add_argument(
        "--workers",
        type=whole_number,
        default=None,
        help="number of processes beside this one (default: one per core)",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="process every photograph, also if an earlier run did it with these sizes",
    )
    options = parser.parse_args()
    aligned = align_album(
        options.photo, options.out, options.size, options.min_size, options.workers, options.overwrite
    )
    faceless = [path for path, count in aligned.num_faces.items() if not count]
    for path in faceless:
        reason = "no face that the border does not cut" if aligned.num_cut[path] else "no face found"
        print(f"{printable(path)}: {reason}", file=sys.stderr)
    num_cut = sum(aligned.num_cut.values())
    last = album.passed_over(aligned.num_passed_over)
    if num_cut:
        last = f"{num_cut} faces cut by the border left out, {last}"
    num_photos = len(aligned.num_faces) + len(aligned.failed)
    print(
        f"{printable(options.out)}: {sum(aligned.num_faces.values())} faces of {num_photos} photographs, "
        f"{len(faceless)} without a face, {len(aligned.failed)} failed, {last}"
    )
    raise_all([*aligned.failed, *album.report_unread(options.photo, options.out)])
    if len(faceless) == num_photos:
        sys.exit(NO_FACE_STATUS)


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number, at least 1")
    return int(text)


def cli() -> None:
    """Entry point of `psfr-align`."""
    run_main(main)


if __name__ == "__main__":
    cli()
