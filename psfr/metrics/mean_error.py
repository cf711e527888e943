"""Picture of the mean error: what a model does to all images alike, such as stripes, frames and tints."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from psfr.compute import processes
from psfr.data.contact_sheet import contact_sheet
from psfr.metrics import fixed_pattern
from psfr.metrics.fidelity import DATA_RANGE, MAX_LEVEL
from psfr.utils.files import atomic_write

COLOR_RANGE, STRIPE_RANGE = 16, 4  # levels of error that are drawn as black and as white
MIN_CELL = 256  # pixels: smaller images are enlarged by a whole factor, so that every pixel stays one square
GAP = 8


class ErrorSum:
    """Running mean of errors. Sums of whole levels are exact, so they depend neither on batches nor on processes."""

    def __init__(self) -> None:
        self.total: Tensor | None = None
        self.count = 0

    def add(self, restored: Tensor, hq: Tensor) -> None:
        """Add the errors of a batch; images (B, 3, H, W) in [-1, 1] of whole levels."""
        levels = (MAX_LEVEL / DATA_RANGE * (restored - hq)).round().to(torch.int32).sum(0, dtype=torch.int32)
        self.total = levels if self.total is None else self.total + levels
        self.count += len(restored)

    def mean(self) -> np.ndarray:
        """Return the mean error in levels over the images of all processes, float64 (H, W, 3). All must call it."""
        sums = processes.all_gather_object((None if self.total is None else self.total.cpu().numpy(), self.count))
        total = np.sum([total for total, _ in sums if total is not None], axis=0)
        return total.transpose(1, 2, 0) / sum(count for _, count in sums)


def write(path: Path, mean_errors: dict[str, np.ndarray], summary: dict) -> None:
    """Write the mean error of each variant beside a scale, as a PNG in which gray is no error.

    The first row shows color, so tints; the second one the luminance without low frequencies, so stripes.

    Args:
        mean_errors: `report.Evaluation.mean_errors`.
        summary: the result of `report.summarize`, for the captions.
    """
    errors = list(mean_errors.values())
    height, width = errors[0].shape[:2]
    fine = [fixed_pattern.remove_low_frequencies(error @ fixed_pattern.LUMINANCE) for error in errors]
    ramp = np.broadcast_to(np.linspace(1, -1, height)[:, None], (height, width))
    rows = [
        [*(_draw(error / COLOR_RANGE) for error in errors), _draw(ramp)],
        [*(_draw(error / STRIPE_RANGE) for error in fine), _draw(ramp)],
    ]
    captions = [
        [*(f"tint {summary[variant]['tint']:.1f}" for variant in mean_errors), _scale("color", COLOR_RANGE)],
        [*(_stripes(summary[variant]) for variant in mean_errors), _scale("fine luminance", STRIPE_RANGE)],
    ]
    scale = -(-MIN_CELL // height)
    sheet = contact_sheet(rows, [*mean_errors, "scale"], captions, gap=GAP, margin=GAP, scale=scale)
    with atomic_write(path) as temporary:
        Image.fromarray(sheet).save(temporary, "PNG", optimize=True)


def _draw(error: np.ndarray) -> np.ndarray:
    """Return errors in [-1, 1] as an image, uint8 RGB; a single channel becomes gray."""
    pixels = (MAX_LEVEL / 2 * (1 + error)).clip(0, MAX_LEVEL).round().astype(np.uint8)
    return pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=2)


def _scale(name: str, levels: int) -> str:
    return f"{name}: white +{levels}, black -{levels} levels"


def _stripes(values: dict) -> str:
    horizontal, vertical = values["fixed_pattern_horizontal"], values["fixed_pattern_vertical"]
    return "" if horizontal is None else f"fixed pattern {horizontal:.2f} / {vertical:.2f}"
