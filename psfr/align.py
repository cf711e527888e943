"""Cut the faces out of photographs, aligned as in FFHQ: the article's preprocessing, and a folder to train or test on.

python -m psfr.align FOLDER -o OUT [--size 512] [--least 0]
"""

import argparse
import sys
from functools import partial
from pathlib import Path

from psfr.compute import parallel
from psfr.data import images
from psfr.photos import alignment, detection, io
from psfr.utils.errors import InputError, raise_together, run


def align(folder: Path, out: Path, size: int, least: int, workers: int | None) -> dict[Path, int]:
    """Write every face of every photograph of a folder as `out/NAME_NUMBER.png`, the largest having number 1.

    Args:
        size: pixels a side.
        least: frames of fewer pixels a side in their photograph are left out.

    Returns:
        How many faces each photograph gave.

    Raises:
        InputError: photographs that cannot be read, all named once the others are done; two that would have one name; none at all; one folder for both.
    """
    if out.resolve() == folder.resolve():
        raise InputError(f"{out}: faces would lie among the photographs: name another folder after -o")
    paths = [path for path in io.listed(folder) if out.resolve() not in path.resolve().parents]
    names = {path: "_".join(path.relative_to(folder).with_suffix("").parts) for path in paths}
    first: dict[str, Path] = {}
    raise_together(
        (
            f"{path} and {first[name]} would both become {out / name}_1.png"
            for path, name in names.items()
            if first.setdefault(name, path) is not path
        ),
        "rename one of each pair",
    )
    counts = parallel.each(partial(_align, out, size, least), list(names.items()), workers, "align")
    return dict(zip(paths, counts, strict=True))


def _align(out: Path, size: int, least: int, named: tuple[Path, str]) -> int:
    path, name = named
    picture = io.read(path).seen
    found = [frame for frame in detection.find(picture) if frame.size >= least]
    for number, frame in enumerate(found, 1):
        images.write(out / f"{name}_{number}.png", alignment.crop(picture, frame, size))
    return len(found)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m psfr.align", description="Cut the faces out of photographs, aligned as in FFHQ."
    )
    parser.add_argument("folder", type=Path, help="photographs, sub-folders included")
    parser.add_argument("-o", dest="out", type=Path, required=True, help="the folder to write to")
    parser.add_argument("--size", type=int, default=512, help="pixels a side of the faces written; 512 if left out")
    parser.add_argument(
        "--least", type=int, default=0, help="leave out faces whose frame has fewer pixels a side in the photograph"
    )
    parser.add_argument("--workers", type=int, default=None, help="processes; one a core if left out")
    options = parser.parse_args()
    if options.size < 1:
        raise InputError(f"--size {options.size}: a face has at least one pixel: give another")
    counts = align(options.folder, options.out, options.size, options.least, options.workers)
    faceless = [path for path, count in counts.items() if not count]
    for path in faceless:
        print(f"{path}: no face found", file=sys.stderr)
    print(f"{options.out}: {sum(counts.values())} faces of {len(counts)} photographs, {len(faceless)} without a face")
    if len(faceless) == len(counts):
        sys.exit(2)


if __name__ == "__main__":
    run(main)
