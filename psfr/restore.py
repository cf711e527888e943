"""Restore the faces of photographs.

python -m psfr.restore PHOTO|FOLDER -o OUT [--format png|jpeg|webp|tiff] [--model published|MODEL]
    [--mirror FOLDER|URL] [--device auto|cpu|cuda|mps] [--faces all|largest|1,3] [--min-size PIXELS] [--aligned]
    [--list] [--scale 1|2|4] [--background FILE] [--strength auto|0..1] [--twicing] [--keep-faces] [--copy-faceless]
    [--overwrite] [--page]
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from psfr.data import images, labels
from psfr.photos import album, gallery, io, listing, models
from psfr.photos.options import MAX_IDENTITY_DISTANCE, NO_FACE_STATUS, parse_options
from psfr.photos.selection import Selection
from psfr.pretrained.loader import file_hash
from psfr.utils.errors import UserError, print_debug_traceback, printable, raise_all, run_main

if TYPE_CHECKING:
    from psfr.photos.background import Background
    from psfr.photos.restoration import RestoredFace
    from psfr.photos.restorer import Restorer


@dataclass(frozen=True)
class Result:
    """What was done for a photograph or a page of it.

    Args:
        faces: that were restored, the largest first.
        num_found: number of all faces that were found.
        files: that were written: the result, if there is one, and those of `--keep-faces`.
    """

    faces: "list[RestoredFace]"
    num_found: int
    files: list[Path]


def restore_file(
    path: Path, out: Path, restorer: "Restorer", background: "Background | None", options: argparse.Namespace
) -> dict[Path, Result]:
    """Restore a file, each page if it has several, and return what was done by the path of the result.

    Without a face, a result is written only with `--copy-faceless` or `--background`.

    Raises:
        UserError: as `io.read`, `Restorer.restore` and `io.write`.
    """
    results = {}
    for page, result in enumerate(album.page_paths(out, io.count_pages(path))):
        photograph = io.read(path, page)
        album.report_frames(path, photograph)
        how = {"scale": options.scale, "strength": options.strength, "twicing": options.twicing}
        if options.aligned:
            restoration = restorer.restore_aligned(photograph, **how)
        else:
            which = {"faces": options.faces, "min_size": options.min_size}
            restoration = restorer.restore(photograph, **how, **which, background=background)
        files = []
        if restoration.faces or options.copy_faceless or background:
            io.write(result, restoration.image)
            files.append(result)
        if options.keep_faces:
            files += _write_faces(result, restoration.faces)
        results[result] = Result(restoration.faces, restoration.num_found, files)
    return results


def _write_faces(result: Path, faces: "list[RestoredFace]") -> list[Path]:
    files = []
    for face in faces:
        prefix = f"{result.stem}_{face.number}"
        aligned, seg, restored = (
            result.parent / "faces" / f"{prefix}_{kind}.png" for kind in ("aligned", "regions", "restored")
        )
        images.write(aligned, face.aligned)
        labels.write(seg, face.seg)
        images.write(restored, face.restored)
        files += [aligned, seg, restored]
    return files


def main() -> None:
    """Run the command."""
    options = parse_options()
    if options.list:
        _list(options)
    else:
        _restore(options)


def _list(options: argparse.Namespace) -> None:
    """Print the faces of each photograph and write its contact sheet."""
    num_faceless = 0
    failed = []
    sheets = listing.sheet_paths(options.photo, options.out)
    for path, sheet in tqdm(sheets.items(), "list", unit="photo", disable=len(sheets) == 1):
        try:
            num_faces, lines = listing.list_faces(path, sheet, Selection(options.faces, options.min_size))
        except (UserError, OSError, MemoryError) as error:
            print_debug_traceback(error)
            failed.append(album.failure(path, error))
            continue
        num_faceless += num_faces == 0
        tqdm.write("\n".join(lines), file=sys.stdout)
    raise_all(failed + album.report_unread(options.photo, options.out or options.photo.parent))
    if num_faceless:
        sys.exit(NO_FACE_STATUS)


def _restore(options: argparse.Namespace) -> None:
    """Restore the photographs and print what was done."""
    outputs = album.result_paths(options.photo, options.out, options.format)
    page = _open_page(options, outputs) if options.page else None

    # Imported here because PyTorch takes seconds, and neither --help nor a wrong argument needs it.
    from psfr.compute.devices import get_device
    from psfr.photos.background import Background
    from psfr.photos.restorer import COMPUTE, Restorer

    get_device(COMPUTE.model_copy(update={"device": options.device}), "--")  # sets the number of threads
    background = None
    if options.background is not None:
        background = Background.from_file(options.background, options.device, show_progress=True)
    restorer = Restorer.from_pretrained(options.model, options.device, mirror=options.mirror)
    if models.is_trained_on_portraits(options.model):
        print(
            f"{options.model}: trained on synthetic portraits only (ffhq.source: sample): for photographs, train on "
            f"photographs or {models.PUBLISHED_HINT}",
            file=sys.stderr,
        )
    record = _open_record(options) if options.photo.is_dir() else None
    num_restored = num_faceless = num_passed_over = num_unlike = 0
    is_face_missing = False
    failed = []
    for path, out in tqdm(outputs.items(), "restore", unit="photo", disable=len(outputs) == 1):
        name = str(out.relative_to(options.out)) if record else ""
        try:
            if record and (entry := record.find(path, name)) is not None:
                num_passed_over += 1
                is_face_missing |= entry.num_faces == 0
                if page:
                    page.add(path, album.page_paths(out, len(entry.faces)), entry.faces)
                continue
            results = restore_file(path, out, restorer, background, options)
            num_faces = sum(len(result.faces) for result in results.values())
            described = [gallery.describe_faces(result.faces) for result in results.values()]
            if record:
                written = [file for result in results.values() for file in result.files]
                record.add(path, name, written, num_faces, described)
            if page:
                page.add(path, list(results), described)
        except (UserError, OSError, MemoryError) as error:
            print_debug_traceback(error)
            failed.append(album.failure(path, error))
            continue
        num_restored += num_faces > 0
        num_faceless += num_faces == 0
        for result_path, result in results.items():
            num_unlike += sum(face.identity_distance > MAX_IDENTITY_DISTANCE for face in result.faces)
            tqdm.write(_report(path, result_path, result), file=sys.stdout)
    if record:
        print(
            f"{num_restored} photographs restored, {num_faceless} without a face, {len(failed)} failed, "
            f"{album.passed_over(num_passed_over)}"
        )
        if num_unlike:
            print(f"{num_unlike} of the restored faces may look like another person")
    unread = album.report_unread(options.photo, options.out)
    if page:
        print(f"{printable(page.write(_page_settings(options), failed, unread))}: written, open it in a browser")
    raise_all([*failed, *unread])
    if is_face_missing or num_faceless:
        sys.exit(NO_FACE_STATUS)


def _open_record(options: argparse.Namespace) -> album.Record:
    """Return the record of an album. Its settings are all options that affect results, and the content of the models.

    Args:
        options: with a `background` that has been loaded.
    """
    ignored = ("photo", "out", "model", "mirror", "background", "overwrite", "list", "page")
    settings = {name: value for name, value in vars(options).items() if name not in ignored}
    settings["model"] = models.model_fingerprint(options.model)
    settings["background"] = options.background and file_hash(options.background)
    return album.Record(options.out, "restore", settings, options.overwrite)


def _open_page(options: argparse.Namespace, outputs: dict[Path, Path]) -> gallery.Gallery:
    is_album = options.photo.is_dir()
    folder = options.out if is_album else outputs[options.photo].parent
    return gallery.Gallery(folder, options.photo, MAX_IDENTITY_DISTANCE, options.background is not None)


def _page_settings(options: argparse.Namespace) -> dict[str, str]:
    """Return what the page says of the options that differ from the default, and of model, scale and strength."""
    settings = {"model": str(options.model), "scale": str(options.scale)}
    settings["strength"] = "auto" if options.strength is None else f"{options.strength:g}"
    faces = options.faces if isinstance(options.faces, str) else ", ".join(map(str, options.faces))
    others = {"faces": faces, "min-size": options.min_size, "background": options.background}
    settings |= {name: str(value) for name, value in others.items() if value not in ("all", 0, None)}
    return settings | {name: "" for name in ("aligned", "twicing") if getattr(options, name)}


def _report(path: Path, out: Path, result: Result) -> str:
    """Return what is printed for a photograph: one line, and one for each face."""
    if not result.faces:
        action = f"written to {printable(out)}" if result.files else "nothing written"
        return f"{printable(path)}: {listing.describe_none(result.num_found)}, {action}"
    lines = [f"{printable(out)}: {listing.describe_number(len(result.faces), result.num_found)}"]
    for face in result.faces:
        lines.append(
            f"  {face.number}: {listing.describe_frame(face.frame)}, "
            f"strength {face.strength:.2f}, severity {face.severities[0]:.2f} to {face.severities[1]:.2f}, "
            f"identity distance {face.identity_distance:.3f}"
        )
        if face.identity_distance > MAX_IDENTITY_DISTANCE:
            lines.append(
                f"     may look like another person (distance above {MAX_IDENTITY_DISTANCE}): "
                "try a lower --strength or --twicing"
            )
    return "\n".join(lines)


def cli() -> None:
    """Entry point of `psfr-restore`."""
    run_main(main)


if __name__ == "__main__":
    cli()
