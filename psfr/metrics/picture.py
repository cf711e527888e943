"""A picture of results: degraded, region map, restored and true side by side."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from psfr.data import images, labels
from psfr.metrics.report import Measured
from psfr.metrics.testset import DEGRADED, MAP, TRUE, FacesUnderTest
from psfr.utils.files import replacing

LEAST = (
    256  # pixels of a face in the picture: smaller ones are enlarged by whole numbers, each pixel staying one square
)
GAP, HEAD, CAPTION = 8, 34, 20
INK, PAPER, FAINT = (20, 20, 20), (255, 255, 255), (110, 110, 110)


def spread(distances: np.ndarray, count: int) -> list[int]:
    """Indices of `count` images from the best (smallest distance) to the worst, evenly spread over their ranking: of an odd number, the median in the middle."""
    ranking = np.argsort(distances, kind="stable")
    places = np.linspace(0, len(ranking) - 1, min(count, len(ranking)))
    return [int(ranking[round(place)]) for place in places]


def draw(path: Path, testset: FacesUnderTest, measured: Measured, count: int) -> None:
    """Write a grid of `count` rows, chosen by `spread` over the ST-LPIPS of the first model: a fair sample, the worst restored face included."""
    models = [version for version in testset.versions if version != DEGRADED]
    columns = [DEGRADED, MAP, *models, TRUE]
    ranked = measured.values[models[0]]["st_lpips"]
    rows = spread(ranked, count)
    place = np.empty(len(ranked), int)
    place[np.argsort(ranked, kind="stable")] = np.arange(1, len(ranked) + 1)

    cells = [[_cell(testset, column, measured.names[index]) for column in columns] for index in rows]
    side = cells[0][0].width
    width, height = len(columns) * (side + GAP) + GAP, HEAD + len(rows) * (side + CAPTION + GAP)
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    title, small = ImageFont.load_default(20), ImageFont.load_default(13)
    for column, name in enumerate(columns):
        pen.text((GAP + column * (side + GAP) + side // 2, HEAD // 2), name, INK, title, anchor="mm")
    for row, index in enumerate(rows):
        top = HEAD + row * (side + CAPTION + GAP)
        for column, version in enumerate(columns):
            left = GAP + column * (side + GAP)
            sheet.paste(cells[row][column], (left, top))
            pen.text(
                (left, top + side + CAPTION // 2), _caption(measured, version, index, place), FAINT, small, anchor="lm"
            )
    with replacing(path) as temporary:
        sheet.save(temporary, "PNG", optimize=True)


def _cell(testset: FacesUnderTest, column: str, name: str) -> Image.Image:
    path = testset.path(column, name)
    pixels = labels.PALETTE[labels.read(path)] if column == MAP else images.read(path)
    times = -(-LEAST // max(pixels.shape[:2]))
    return Image.fromarray(pixels.repeat(times, axis=0).repeat(times, axis=1))


def _caption(measured: Measured, version: str, index: int, place: np.ndarray) -> str:
    if version == TRUE:
        return measured.names[index][:32]
    if version == MAP:
        return f"rank {place[index]} of {len(place)}"
    values = measured.values[version]
    return f"{values['psnr'][index]:.2f} dB   ST-LPIPS {values['st_lpips'][index]:.3f}"
