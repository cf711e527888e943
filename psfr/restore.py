"""Restore the faces of photographs.

python -m psfr.restore PHOTO|FOLDER -o OUT [--format png|jpeg|webp|tiff] [--model MODEL] [--scale 1|2|4]
    [--strength auto|0..1] [--twicing] [--keep-faces] [--copy-faceless] [--overwrite]
"""

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from psfr.data import color, images, labels
from psfr.metrics import identity
from psfr.params import ComputeParams
from psfr.photos import album, alignment, blending, detection, io
from psfr.photos.alignment import Frame
from psfr.photos.io import Photograph
from psfr.photos.levels import Levels, estimate_levels
from psfr.photos.restorer import Restorer, is_trained_on_portraits, load_restorer, model_fingerprint
from psfr.photos.strength import choose_strength, estimate_severity
from psfr.utils.errors import UserError, print_debug_traceback, printable, raise_all, run_main

COMPUTE = ComputeParams(
    device="auto", precision="auto", batch_size=1, workers=0, devices=1, checkpoint_seconds=0, scheduler=None
)
NO_FACE_STATUS = 3  # exit status if a photograph has no face
MAX_IDENTITY_DISTANCE = 0.6  # photographs of one person are usually within it

# Maps an aligned face, uint8 RGB (S, S, 3), to its parsing map, uint8 (S, S), and the restored face, uint8 (S, S, 3).
RestoreFn = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class RestoredFace:
    """A restored face of a photograph.

    Args:
        frame: its position in the photograph.
        aligned: the face before restoration, uint8 RGB (S, S, 3).
        seg: its parsing map, uint8 (S, S).
        restored: the fully restored face, after twicing and at the photograph's levels and in its tint if there is one,
            uint8 RGB (S, S, 3).
        strength: with which it was blended into the photograph, from 0 to 1.
        severities: of the face's degradation in the photograph and in the result, as
            `psfr.photos.strength.estimate_severity` estimates it.
        identity_distance: between the face in the photograph and in the result, as `psfr.metrics.identity` computes it.
    """

    frame: Frame
    aligned: np.ndarray
    seg: np.ndarray
    restored: np.ndarray
    strength: float
    severities: tuple[float, float]
    identity_distance: float


def restore(
    photograph: Photograph,
    restore_fn: RestoreFn,
    size: int,
    scale: int,
    strength: float | None = None,
    twicing: bool = False,
) -> tuple[Photograph, list[RestoredFace]]:
    """Restore every face of a photograph.

    Args:
        photograph: any number of faces, at any rotation.
        restore_fn: restores an aligned face, as `psfr.photos.restorer.Restorer` does.
        size: side length of the aligned faces that `restore_fn` takes.
        scale: factor by which the result is larger than the photograph.
        strength: weight of the change, from 0 (no change) to 1 (full restoration), or None to choose it for each face
            by how degraded it is, see `psfr.photos.strength`.
        twicing: whether to call `apply_twicing`.

    Returns:
        The result, which differs from the (upscaled) photograph only in the faces, and the faces, the largest first.

    Raises:
        UserError: the result would be too large, or dlib's files are missing or damaged.
    """
    image = photograph.to_rgb8()
    result = photograph.upscaled(scale)
    frames = detection.find_faces(image)
    faces: list[tuple[Frame, np.ndarray, np.ndarray, np.ndarray, float, Levels]] = []
    for frame in frames:
        aligned = alignment.crop(image, frame, size)
        visible = alignment.inside(frame, image.shape, size)
        change = estimate_levels(aligned, visible)
        normal = change.apply(aligned)
        seg, restored = restore_aligned(normal, restore_fn, twicing)
        others = [other for other in frames if other is not frame]
        other_faces = np.array([[frame.to_unit(other.center), other.size / frame.size] for other in others])
        alpha = blending.blend_mask(seg, other_faces, visible)
        weight = choose_strength(estimate_severity(normal)) if strength is None else strength
        delta = weight * blending.residual(normal, restored, alpha) / np.float32(change.gain)
        blending.blend(result.pixels, delta, frame.scaled(scale))
        faces.append((frame, aligned, seg, restored, weight, change))
    # The faces are measured last: the residual of an adjacent face may reach into the frame.
    restored_faces = []
    for frame, aligned, seg, restored, weight, change in faces:
        both = aligned, _crop_result(result, frame.scaled(scale), size)
        before, after = (estimate_severity(change.apply(face)) for face in both)
        distance = _identity_distance(image, result, frame, scale)
        restored_faces.append(
            RestoredFace(frame, aligned, seg, change.revert(aligned, restored), weight, (before, after), distance)
        )
    return result, restored_faces


def restore_aligned(aligned: np.ndarray, restore_fn: RestoreFn, twicing: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return parsing map and fully restored face. A monochrome face is restored in grayscale and tinted again."""
    tint = blending.detect_tint(aligned)
    seg, restored = restore_fn(aligned if tint is None else images.gray(aligned))
    if twicing:
        restored = apply_twicing(restore_fn, restored)
    if tint is not None:
        restored = tint.apply(aligned, restored)
    return seg, restored


def apply_twicing(restore_fn: RestoreFn, restored: np.ndarray) -> np.ndarray:
    """Add to a restored face what a second restoration removes from it (twicing; Tukey, 1977).

    The restored face is already sharp, so what the second restoration removes is the network's own error, which is an
    estimate of its error in the first restoration.

    Args:
        restore_fn: the function that restored the face.
        restored: uint8 RGB (S, S, 3).

    Returns:
        uint8 RGB (S, S, 3): 2 * restored - restore_fn(restored), clipped.
    """
    return np.clip(2 * restored.astype(np.int16) - restore_fn(restored)[1], 0, 255).astype(np.uint8)


def _identity_distance(image: np.ndarray, result: Photograph, frame: Frame, scale: int) -> float:
    aligned = alignment.crop(image, frame, identity.SIZE)
    restored = _crop_result(result, frame.scaled(scale), identity.SIZE)
    visible = alignment.inside(frame, image.shape, identity.SIZE)[:, :, None]
    aligned, restored = (np.where(visible, face, np.uint8(0)) for face in (aligned, restored))  # nothing mirrored
    return identity.embedding_distances(aligned, [restored], detection.identity_models())[0]


def _crop_result(result: Photograph, frame: Frame, size: int) -> np.ndarray:
    """Return a face of the result as uint8 RGB (size, size, 3)."""
    return color.to_8_bits(alignment.crop(result.pixels, frame, size))


def restore_file(
    path: Path, out: Path, restorer: Restorer, options: argparse.Namespace
) -> dict[Path, list[RestoredFace]]:
    """Restore a file, each page if it has several, and return the faces of each result.

    Without a face, a result is written only with `--copy-faceless`.

    Raises:
        UserError: as `io.read`, `restore` and `io.write`.
    """
    results = {}
    for page, result in enumerate(album.page_paths(out, io.count_pages(path))):
        photograph = io.read(path, page)
        album.report_frames(path, photograph)
        restored, faces = restore(photograph, restorer, restorer.size, options.scale, options.strength, options.twicing)
        if faces or options.copy_faceless:
            io.write(result, restored)
        if options.keep_faces:
            _write_faces(result, faces)
        results[result] = faces
    return results


def _write_faces(result: Path, faces: list[RestoredFace]) -> None:
    for number, face in enumerate(faces, 1):
        prefix = f"{result.stem}_{number}"
        folder = result.parent / "faces"
        images.write(folder / f"{prefix}_aligned.png", face.aligned)
        labels.write(folder / f"{prefix}_regions.png", face.seg)
        images.write(folder / f"{prefix}_restored.png", face.restored)


def main() -> None:
    """Run the command."""
    options = _parser().parse_args()
    outputs = album.result_paths(options.photo, options.out, options.format)
    restorer = load_restorer(options.model, COMPUTE)
    if is_trained_on_portraits(options.model):
        print(
            f"{options.model}: trained on synthetic portraits only (ffhq.source: sample): for photographs, train on "
            "photographs or use the published model",
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
                continue
            results = restore_file(path, out, restorer, options)
            num_faces = sum(map(len, results.values()))
            if record:
                written = [result for result, faces in results.items() if faces or options.copy_faceless]
                record.add(path, name, written, num_faces)
        except (UserError, OSError, MemoryError) as error:
            print_debug_traceback(error)
            failed.append(album.failure(path, error))
            continue
        num_restored += num_faces > 0
        num_faceless += num_faces == 0
        for result, faces in results.items():
            num_unlike += sum(face.identity_distance > MAX_IDENTITY_DISTANCE for face in faces)
            tqdm.write(_report(path, result, faces, options.copy_faceless), file=sys.stdout)
    if record:
        print(
            f"{num_restored} photographs restored, {num_faceless} without a face, {len(failed)} failed, "
            f"{album.passed_over(num_passed_over)}"
        )
        if num_unlike:
            print(f"{num_unlike} of the restored faces may look like another person")
    failed += album.report_unread(options.photo, options.out)
    raise_all(failed)
    if is_face_missing or num_faceless:
        sys.exit(NO_FACE_STATUS)


def _open_record(options: argparse.Namespace) -> album.Record:
    """Return the record of an album. Its settings are all options that affect results, and the content of the model."""
    ignored = ("photo", "out", "model", "overwrite")
    settings = {name: value for name, value in vars(options).items() if name not in ignored}
    settings["model"] = model_fingerprint(options.model)
    return album.Record(options.out, "restore", settings, options.overwrite)


def _report(path: Path, out: Path, faces: list[RestoredFace], copied: bool) -> str:
    """Return what is printed for a photograph: one line, and one for each face."""
    if not faces:
        action = f"copied to {printable(out)}" if copied else "nothing written"
        return f"{printable(path)}: no face found, {action}"
    lines = [f"{printable(out)}: {len(faces)} face{'s' if len(faces) > 1 else ''}"]
    for number, face in enumerate(faces, 1):
        center = face.frame.center
        lines.append(
            f"  {number}: at {center.real:.0f}, {center.imag:.0f}, frame of {face.frame.size:.0f} pixels, "
            f"strength {face.strength:.2f}, severity {face.severities[0]:.2f} to {face.severities[1]:.2f}, "
            f"identity distance {face.identity_distance:.3f}"
        )
        if face.identity_distance > MAX_IDENTITY_DISTANCE:
            lines.append(
                f"     may look like another person (distance above {MAX_IDENTITY_DISTANCE}): "
                "try --twicing or a lower --strength"
            )
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m psfr.restore",
        description="Restore the faces of photographs.",
        epilog="exit status: 0 all restored, 1 an error, 2 invalid arguments, "
        f"{NO_FACE_STATUS} no error, but a photograph without a face",
    )
    parser.add_argument("photo", type=Path, help="a photograph, or a folder of photographs, searched recursively")
    parser.add_argument(
        "-o",
        dest="out",
        type=Path,
        required=True,
        help=f"a {', '.join(io.SUFFIXES)} file for one photograph, or a folder",
    )
    parser.add_argument(
        "--format", choices=list(io.FORMATS), default="png", help="format of results in a folder (default: png)"
    )
    parser.add_argument(
        "--model",
        default="models",
        help="folder of a run, published .pth file, or git revision of this project (default: models)",
    )
    parser.add_argument("--scale", type=int, choices=(1, 2, 4), default=1, help="upscale the photograph (default: 1)")
    parser.add_argument(
        "--strength",
        type=_strength,
        default="auto",
        help="0 keeps the faces, 1 restores them fully, auto chooses by their estimated degradation (default: auto)",
    )
    parser.add_argument(
        "--twicing",
        action="store_true",
        help="restore each restored face again and add what that loses: often closer to the person, at twice the time",
    )
    parser.add_argument(
        "--keep-faces",
        action="store_true",
        help="also write the aligned faces, their parsing maps and the restored faces to faces/ next to the result",
    )
    parser.add_argument("--copy-faceless", action="store_true", help="write photographs without a face unchanged")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="restore every photograph of a folder, also if an earlier run did it with these options and this model",
    )
    return parser


def _strength(text: str) -> float | None:
    """Return a strength, None for auto."""
    if text == "auto":
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number from 0 to 1 or auto")
    return value


def cli() -> None:
    """Entry point of `psfr-restore`."""
    run_main(main)


if __name__ == "__main__":
    cli()
