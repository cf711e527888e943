"""Enlarge or clean photographs with a super-resolution model that spandrel loads, tile by tile."""

import threading
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from psfr.compute.devices import select_device
from psfr.photos.levels import LUMINANCE
from psfr.photos.restorer import COMPUTE
from psfr.pretrained import loader
from psfr.utils import compat
from psfr.utils.errors import UserError, truncate
from psfr.utils.seeds import rng_for

# In pixels of the photograph. Tiles begin at multiples of 64 and of what the model requires: all have the same windows.
MAX_STEP, MIN_STEP = 256, 64  # from one tile to the next
MAX_OUTPUT_STEP = 512  # the same in pixels of the output, which bounds the memory of a tile
MARGINS = (8, 16, 32, 64)  # of a tile that is discarded because the pixels beyond its border are missing there
RAMP = 16  # between two margins, adjacent tiles are cross-faded
PROBE_SIZE = 32  # side of the square whose dependence on what is around it is measured
TOLERANCE = 0.4 / 255  # of this dependence


class Background:
    """A super-resolution model, as the `background` of `Restorer.restore`.

    Memory does not grow with the photograph, except for the result itself. Adjacent tiles overlap by two margins, in
    which the model's output depends on the pixels that a tile lacks, and a ramp, in which they are cross-faded. The
    margin is the least of `MARGINS` that is sufficient for this model: its output for noise is the same as without a
    border there. Threads may share it: they take turns.

    Args:
        model: spandrel's descriptor of a model that maps RGB to RGB, or gray to gray, in [0, 1].
        device: as for `Restorer`. The model computes in float32.
        show_progress: whether to show a progress bar of the tiles.

    Raises:
        UserError: "cuda" or "mps" is requested and PyTorch finds no such GPU.
        FloatingPointError: the model's output is not finite.
    """

    def __init__(self, model: Any, device: Literal["auto", "cpu", "cuda", "mps"] = "auto", show_progress: bool = False):
        self.device = select_device(COMPUTE.model_copy(update={"device": device}), "")
        self._model = model.to(self.device, torch.float32).eval()
        self._show_progress = show_progress
        self._lock = threading.Lock()
        unit = model.size_requirements.multiple_of
        step = min(MAX_STEP, max(MIN_STEP, MAX_OUTPUT_STEP // model.scale // MIN_STEP * MIN_STEP))
        self.step = -(-step // unit) * unit
        self.margin = self._measure_margin()

    @classmethod
    def from_file(
        cls, path: Path, device: Literal["auto", "cpu", "cuda", "mps"] = "auto", show_progress: bool = False
    ) -> "Background":
        """Load a model from a .pth or .safetensors file; only tensors are unpickled.

        Raises:
            UserError: the file is missing or damaged, or no super-resolution model that spandrel knows.
        """
        compat.patch_torchvision()
        import spandrel  # imported here: it takes seconds

        state = loader.load(path, spandrel.canonicalize_state_dict, "name another file with --background")
        try:
            model = spandrel.ModelLoader().load_from_state_dict(state)
        except Exception as error:  # a wrong guess of the architecture raises exceptions of many types
            reason = truncate(error, 120) or type(error).__name__
            raise UserError(
                f"{path}: no model that spandrel knows ({reason}): name another file with --background"
            ) from None
        is_suitable = isinstance(model, spandrel.ImageModelDescriptor) and model.purpose in ("SR", "Restoration")
        if not is_suitable or (model.input_channels, model.output_channels) not in ((3, 3), (1, 1)):
            raise UserError(
                f"{path}: {model.architecture.name}, purpose {model.purpose}, {model.input_channels} to "
                f"{model.output_channels} channels: name a super-resolution model with --background"
            )
        try:
            return cls(model, device, show_progress)
        except FloatingPointError as error:
            raise UserError(f"{path}: {error}: name another file with --background") from None

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray, scale: int) -> np.ndarray:
        """Enlarge an image by `scale`, whatever factor the model has: its output is resized.

        Args:
            pixels: uint8 or uint16 RGB (H, W, 3). If all channels are equal, those of the result are, too.

        Returns:
            (H * scale, W * scale, 3) of the same dtype.
        """
        height, width = pixels.shape[:2]
        rows, columns = self._tiles(height), self._tiles(width)
        gray = bool((pixels == pixels[:, :, :1]).all())
        result = np.empty((height * scale, width * scale, 3), pixels.dtype)
        carry = np.zeros((0, width * scale, 3), np.float32)  # what the tiles above add to the next ones
        progress = tqdm(
            None, "background", len(rows) * len(columns), False, unit="tile", disable=not self._show_progress
        )
        with self._lock, progress:
            for row in rows:
                strip = np.zeros(((row.stop - row.start) * scale, width * scale, 3), np.float32)
                for column in columns:
                    tile = self._enlarge(pixels[row, column], scale, gray)
                    tile *= self._weights(column, width, scale)[None, :, None]
                    strip[:, column.start * scale : column.stop * scale] += tile
                    progress.update()
                strip *= self._weights(row, height, scale)[:, None, None]
                strip[: len(carry)] += carry
                done = len(strip) if row.stop == height else self.step * scale
                result[row.start * scale :][:done] = _to_levels(strip[:done], pixels.dtype)
                carry = strip[done:]
        return result

    @property
    def _overlap(self) -> int:
        return 2 * self.margin + RAMP

    def _tiles(self, length: int) -> list[slice]:
        """Return the tiles along an axis. Each but the last overlaps the next one by `_overlap` pixels."""
        starts = range(0, max(1, length - self._overlap), self.step)
        return [slice(start, min(start + self.step + self._overlap, length)) for start in starts]

    def _weights(self, tile: slice, length: int, scale: int) -> np.ndarray:
        """Return the weight of each of a tile's pixels along an axis of the result; those of all tiles add up to 1."""
        weights = np.ones((tile.stop - tile.start) * scale, np.float32)
        ramp = (np.arange(RAMP * scale, dtype=np.float32) + 0.5) / (RAMP * scale)
        rising = np.concatenate([np.zeros(self.margin * scale), ramp, np.ones(self.margin * scale)])
        if tile.start > 0:
            weights[: len(rising)] = rising
        if tile.stop < length:
            weights[-len(rising) :] = 1 - rising
        return weights

    def _enlarge(self, tile: np.ndarray, scale: int, gray: bool) -> np.ndarray:
        """Return the tile enlarged by `scale`, float32 (H * scale, W * scale, 3), in [0, 1] but for the filter."""
        levels = torch.from_numpy(tile.astype(np.float32) / np.iinfo(tile.dtype).max).permute(2, 0, 1)[None]
        output = self._run(levels[:, :1].expand(-1, 3, -1, -1) if gray else levels)
        if scale != self._model.scale:
            size = [side * scale for side in tile.shape[:2]]
            output = functional.interpolate(output, size, mode="bicubic", align_corners=False, antialias=True)
        enlarged = output[0].permute(1, 2, 0).numpy()
        return np.repeat((enlarged @ LUMINANCE)[:, :, None], 3, axis=2) if gray else enlarged

    def _run(self, image: torch.Tensor) -> torch.Tensor:
        """Apply the model to an image, float32 (1, 3, H, W) in [0, 1]."""
        image = image.contiguous().to(self.device)
        if self._model.input_channels == 3:
            return self._model(image).cpu()
        return torch.cat([self._model(channel).cpu() for channel in image.split(1, dim=1)], dim=1)

    @torch.inference_mode()
    def _measure_margin(self) -> int:
        """Return the least margin within which the model's output does not depend on what is beyond it."""
        side = PROBE_SIZE + 2 * MARGINS[-1]
        noise = torch.from_numpy(rng_for(0, "background").random((1, 3, side, side), np.float32))
        centers = []
        for margin in MARGINS:
            cut = MARGINS[-1] - margin
            output = self._run(noise[:, :, cut : side - cut, cut : side - cut])
            border = margin * self._model.scale
            centers.append(output[:, :, border:-border, border:-border])
        if not all(center.isfinite().all() for center in centers):
            raise FloatingPointError("its output is not finite")
        errors = [float((center - centers[-1]).abs().max()) for center in centers]
        return next(margin for margin, error in zip(MARGINS, errors, strict=True) if error <= TOLERANCE)


def _to_levels(image: np.ndarray, dtype: np.dtype) -> np.ndarray:
    highest = np.iinfo(dtype).max
    return np.rint(np.clip(image, 0, 1) * np.float32(highest)).astype(dtype)
