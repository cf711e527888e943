"""Draw test faces before and after restoration, in the folder of a finished run: the README's first picture.

python -m benchmarks.before_after [--count 6] [--model ours] [--output docs/before-after.jpg]

The faces are those whose ST-LPIPS falls most, so the picture shows what a model can do, not what it does on average:
that is in the table of metrics, and docs/results.png has the worst face too.
"""

import argparse
from pathlib import Path

import pandas as pd
from PIL import Image

from psfr.data import images
from psfr.data.contact_sheet import contact_sheet
from psfr.data.resize import resize_image
from psfr.utils import errors
from psfr.utils.errors import UserError
from psfr.utils.files import atomic_write

TESTSET, SCORES = Path("data/testset"), Path("metrics/per_image.csv")
SIDE = 224  # of a face in the picture, in pixels
PAIRS_PER_ROW = 3
QUALITY = 90  # of a .jpg


def best_names(scores: pd.DataFrame, model: str, count: int) -> list[str]:
    """Return the names of the images whose ST-LPIPS falls most, the best first.

    Args:
        scores: `metrics/per_image.csv`, names as text.
        model: of the restored images.

    Raises:
        UserError: the scores have no such model.
    """
    distances = scores.pivot(index="name", columns="model", values="st_lpips")
    if model not in distances:
        raise UserError(f"{SCORES}: no model {model}: choose one of {', '.join(distances.columns.drop('degraded'))}")
    return list((distances["degraded"] - distances[model]).sort_values(ascending=False, kind="stable").index[:count])


def main() -> None:
    """Run the command.

    Raises:
        UserError: the current folder has no finished run, or no such model.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.before_after", description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=6, help="number of faces (default: 6)")
    parser.add_argument("--model", default="ours", help="entry of `models` (default: ours)")
    parser.add_argument("--output", type=Path, default=Path("docs/before-after.jpg"), help="a .jpg or .png file")
    options = parser.parse_args()
    if not SCORES.is_file():
        raise UserError(f"{SCORES}: no such file: run `dvc repro` first, in the top folder of the project")
    names = best_names(pd.read_csv(SCORES, dtype={"name": str}), options.model, options.count)
    folders = TESTSET / "lr", TESTSET / "sr" / options.model
    faces = [resize_image(images.read(folder / f"{name}.png"), SIDE) for name in names for folder in folders]
    columns = 2 * PAIRS_PER_ROW
    rows = [faces[start : start + columns] for start in range(0, len(faces), columns)]
    sheet = contact_sheet(rows, ["before", "after"] * (len(rows[0]) // 2), gap=4, margin=4)
    with atomic_write(options.output) as temporary:
        image_format = "PNG" if options.output.suffix.lower() == ".png" else "JPEG"
        Image.fromarray(sheet).save(temporary, image_format, optimize=True, quality=QUALITY)


if __name__ == "__main__":
    errors.run_main(main)
