"""Contact sheet of results: degraded image, parsing map, restored images and, if there is one, true image."""

from pathlib import Path

import numpy as np
from PIL import Image

from psfr.data import images, labels
from psfr.data.contact_sheet import contact_sheet
from psfr.metrics.report import Evaluation
from psfr.metrics.testset import DEGRADED, MAP, TRUE, TestSet
from psfr.utils.files import atomic_write

MIN_CELL = 256  # pixels: smaller images are enlarged by a whole factor, so that every pixel stays one square
GAP = 8
MAX_NAME = 32  # characters of an image's name in a caption


def pick_by_rank(distances: np.ndarray, count: int) -> list[int]:
    """Return the indices of `count` images evenly spread over their ranking, from the smallest distance to the largest.

    An odd `count` puts the median in the middle.
    """
    ranking = np.argsort(distances, kind="stable")
    ranks = np.linspace(0, len(ranking) - 1, min(count, len(ranking)))
    return [int(ranking[round(rank)]) for rank in ranks]


def write(path: Path, testset: TestSet, evaluation: Evaluation, num_rows: int) -> None:
    """Write the contact sheet of `num_rows` test images as a PNG.

    The images are picked by the rank of the first model's ST-LPIPS, so the best and the worst restoration are included.
    Without true images they are picked evenly from the set.
    """
    models = [variant for variant in testset.variants if variant != DEGRADED]
    columns = [DEGRADED, MAP, *models, *([TRUE] if testset.has_true else [])]
    distances = evaluation.values[models[0]].get("st_lpips", np.arange(len(evaluation.names)))
    ranks = np.empty(len(distances), int)
    ranks[np.argsort(distances, kind="stable")] = np.arange(1, len(distances) + 1)

    indices = pick_by_rank(distances, num_rows)
    rows = [[_read(testset, column, evaluation.names[index]) for column in columns] for index in indices]
    captions = [[_caption(evaluation, column, index, ranks) for column in columns] for index in indices]
    scale = -(-MIN_CELL // max(rows[0][0].shape[:2]))
    sheet = contact_sheet(rows, columns, captions, gap=GAP, margin=GAP, scale=scale)
    with atomic_write(path) as temporary:
        Image.fromarray(sheet).save(temporary, "PNG", optimize=True)


def _read(testset: TestSet, column: str, name: str) -> np.ndarray:
    path = testset.path(column, name)
    return labels.PALETTE[labels.read(path)] if column == MAP else images.read(path)


def _caption(evaluation: Evaluation, column: str, index: int, ranks: np.ndarray) -> str:
    name = evaluation.names[index][:MAX_NAME]
    if column == TRUE:
        return name
    values = evaluation.values[DEGRADED if column == MAP else column]
    is_compared = "st_lpips" in values
    if column == MAP:
        return f"rank {ranks[index]} of {len(ranks)}" if is_compared else name
    if not is_compared:
        return f"NIQE {values['niqe'][index]:.2f}" if "niqe" in values else ""
    return f"{values['psnr'][index]:.2f} dB   ST-LPIPS {values['st_lpips'][index]:.3f}"
