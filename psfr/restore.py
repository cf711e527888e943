"""Restore the faces of photographs, each in its place.

python -m psfr.restore PHOTO|FOLDER -o OUT [--model MODEL] [--scale 1|2|4] [--strength 0..1] [--twice] [--keep-faces] [--copy-faceless]
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from psfr.data import images, labels
from psfr.params import Compute
from psfr.photos import alignment, blending, detection, io
from psfr.photos.alignment import Frame
from psfr.photos.io import Photograph
from psfr.photos.restorer import Restorer, load_restorer
from psfr.utils.errors import InputError, raise_together, run

COMPUTE = Compute(
    device="auto", precision="auto", batch_size=1, workers=0, devices=1, checkpoint_seconds=0, scheduler=None
)
NONE_FOUND = 2  # exit status

RestoreFn = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class RestoredFace:
    """One face of a photograph, in its frame, and what became of it."""

    frame: Frame  # in the photograph
    aligned: np.ndarray  # uint8 RGB (S, S, 3)
    regions: np.ndarray  # uint8 (S, S), labels
    restored: (
        np.ndarray
    )  # uint8 RGB (S, S, 3), as the network draws it, or `twiced`; in a photograph of one tone, in that
    distance: float  # between the embeddings of the face in the photograph and in the result


def restore(
    photograph: Photograph, restorer: RestoreFn, size: int, scale: int, strength: float, twice: bool = False
) -> tuple[Photograph, list[RestoredFace]]:
    """Restore every face of a photograph.

    Args:
        restorer: makes of an aligned face, uint8 RGB (size, size, 3), its region map and the restored face, as `photos.restorer.Restorer` does.
        scale: how many times its size the result has.
        strength: 0 leaves the faces as they are, 1 restores them fully.
        twice: as `twiced`.

    Returns:
        The result, which differs from the (enlarged) photograph in the faces alone, and the faces, the largest first.

    Raises:
        InputError: the result would be too large, or dlib's files are missing.
    """
    seen = photograph.seen
    result = photograph.enlarged(scale)
    frames = detection.find(seen)
    done = []
    for frame in frames:
        aligned = alignment.crop(seen, frame, size)
        tone = blending.tone(aligned)
        regions, restored = restorer(aligned if tone is None else images.gray(aligned))
        if twice:
            restored = twiced(restorer, restored)
        if tone is not None:
            restored = tone.of(aligned, restored)
        others = np.array(
            [[frame.unit(other.centre), other.size / frame.size] for other in frames if other is not frame]
        )
        change = strength * blending.difference(aligned, restored, blending.mask(regions, others))
        blending.paste(result.levels, change, frame.scaled(scale))
        done.append((frame, aligned, regions, restored))
    return result, [RestoredFace(*face, _distance(seen, result, face[0], scale)) for face in done]


def twiced(restorer: RestoreFn, restored: np.ndarray) -> np.ndarray:
    """A restored face, uint8 RGB (S, S, 3), with what the restorer loses of it when it restores it once more (Tukey's twicing, 1977).

    That face is sharp already, so what is lost then is the network's doing, not the photograph's, and much of it was lost of the true face too.
    """
    return np.clip(2 * restored.astype(np.int16) - restorer(restored)[1], 0, 255).astype(np.uint8)


def _distance(seen: np.ndarray, result: Photograph, frame: Frame, scale: int) -> float:
    after = alignment.crop(result.levels, frame.scaled(scale), detection.SIZE)
    if after.dtype == np.uint16:
        after = np.rint(after / np.float32(257)).astype(np.uint8)
    return detection.distances(alignment.crop(seen, frame, detection.SIZE), after)[0]


def restore_file(path: Path, out: Path, restorer: Restorer, options: argparse.Namespace) -> list[RestoredFace]:
    """Restore one file as `out`, which is not written where there is no face, unless the options ask for a copy; the faces."""
    result, found = restore(io.read(path), restorer, restorer.size, options.scale, options.strength, options.twice)
    if found or options.copy_faceless:
        io.write(out, result)
    if options.keep_faces:
        for number, face in enumerate(found, 1):
            kept = out.parent / "faces" / f"{out.stem}_{number}"
            images.write(kept.with_name(f"{kept.name}_aligned.png"), face.aligned)
            labels.write(kept.with_name(f"{kept.name}_regions.png"), face.regions)
            images.write(kept.with_name(f"{kept.name}_restored.png"), face.restored)
    return found


def _outputs(given: Path, out: Path) -> dict[Path, Path]:
    """Each photograph, with the file that its restored version becomes.

    Raises:
        InputError: nothing to restore, or two of the photographs, or a photograph and a result, would be one file.
    """
    if given.is_dir():
        paths = [
            path
            for path in io.listed(given)
            if out.resolve() not in path.resolve().parents or out.resolve() == given.resolve()
        ]
        outputs = {path: out / path.relative_to(given).with_suffix(".png") for path in paths}
    else:
        outputs = {given: out if out.suffix.lower() in io.SUFFIXES else out / f"{given.stem}.png"}
    first: dict[Path, Path] = {}
    raise_together(
        [
            f"{path} and {first[to]} would both become {to}"
            for path, to in outputs.items()
            if first.setdefault(to, path) is not path
        ]
        + [
            f"{to} would be written over"
            for to in outputs.values()
            if to.exists() and any(to.samefile(path) for path in outputs if path.exists())
        ],
        "rename one, or name another folder after -o",
    )
    return outputs


def main() -> None:
    options = _arguments().parse_args()
    outputs = _outputs(options.photo, options.out)
    restorer = load_restorer(options.model, COMPUTE)
    faceless, failed = [], []
    for path, out in tqdm(outputs.items(), "restore", unit="photo", disable=len(outputs) == 1):
        try:
            found = restore_file(path, out, restorer, options)
        except (InputError, OSError, MemoryError) as error:
            failed.append(str(error) if str(path) in str(error) else f"{path}: {error or 'not enough memory'}")
            continue
        if not found:
            faceless.append(path)
        tqdm.write(_said(path, out, found, options.copy_faceless), file=sys.stdout)
    if len(outputs) > 1:
        print(
            f"{len(outputs) - len(faceless) - len(failed)} photographs restored, {len(faceless)} without a face, {len(failed)} failed"
        )
    raise_together(failed)
    if faceless:
        sys.exit(NONE_FOUND)


def _said(path: Path, out: Path, found: list[RestoredFace], copied: bool) -> str:
    """What became of a photograph, a line for it and one for each face."""
    if not found:
        return f"{path}: no face found, {f'copied to {out}' if copied else 'nothing written'}"
    lines = [f"{out}: {len(found)} face{'s' * (len(found) > 1)}"]
    for number, face in enumerate(found, 1):
        x, y = face.frame.centre.real, face.frame.centre.imag
        lines.append(
            f"  {number}: at {x:.0f}, {y:.0f}, frame of {face.frame.size:.0f} pixels, identity distance {face.distance:.3f}"
        )
    return "\n".join(lines)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m psfr.restore",
        description="Restore the faces of photographs, each in its place.",
        epilog=f"exit status: 0 all restored, {NONE_FOUND} a photograph without a face, 1 a photograph failed",
    )
    parser.add_argument("photo", type=Path, help="a photograph, or a folder of them, sub-folders included")
    parser.add_argument(
        "-o", dest="out", type=Path, required=True, help="a .png or .jpg file for one photograph, or a folder"
    )
    parser.add_argument(
        "--model",
        default="models",
        help="the folder of a run, a published .pth file, or a git revision of this project; models if left out",
    )
    parser.add_argument("--scale", type=int, choices=(1, 2, 4), default=1, help="times the photograph's size")
    parser.add_argument(
        "--strength", type=_share, default=1.0, help="0 leaves faces as they are, 1 (if left out) restores them fully"
    )
    parser.add_argument(
        "--twice",
        action="store_true",
        help="restore the restored face too, and give back what that loses: often nearer to the person, twice the work",
    )
    parser.add_argument(
        "--keep-faces",
        action="store_true",
        help="write aligned, parsed and restored faces too, into faces/ beside the result",
    )
    parser.add_argument("--copy-faceless", action="store_true", help="write photographs without a face as they are")
    return parser


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


if __name__ == "__main__":
    run(main)
