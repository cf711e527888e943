"""Time and peak memory of `psfr-restore --background` on a large photograph.

python -m benchmarks.background [--megapixels 24] [--scale 1|2|4] [--architecture esrgan|compact] [--factor 1|2|4]
    [--tiles N]

The photograph shows scikit-image's `astronaut` (NASA, public domain) several times. The weights are random, of the
published sizes: memory and time do not depend on them. The last line is JSON.
"""

import argparse
import itertools
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data

from benchmarks.machine import PUBLISHED_PARAMS, peak_memory_gb
from psfr import restore
from psfr.networks import serialization
from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.generator import Generator
from psfr.params import read_params
from psfr.photos import models
from psfr.photos.background import Background
from psfr.photos.options import NO_FACE_STATUS
from psfr.training import fpn, gan
from psfr.utils import compat


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.background", description="Time and peak memory of psfr-restore --background."
    )
    parser.add_argument("--megapixels", type=float, default=24)
    parser.add_argument("--scale", type=int, choices=(1, 2, 4), default=2)
    parser.add_argument("--architecture", choices=("compact", "esrgan"), default="esrgan")
    parser.add_argument("--factor", type=int, choices=(1, 2, 4), default=4, help="of the super-resolution model")
    parser.add_argument(
        "--tiles",
        type=int,
        help="number of tiles that the network is applied to; interpolate the others: the memory is "
        "the same in minutes instead of hours (default: all)",
    )
    options = parser.parse_args()
    if options.tiles is not None:
        _apply_to_first_tiles(options.tiles)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_photograph(folder / "photo.jpg", options.megapixels)
        _write_networks(folder / "models")
        _write_background(folder / "background.pth", options.architecture, options.factor)
        arguments = [folder / "photo.jpg", "-o", folder / "out.png", "--model", folder / "models"]
        arguments += ["--background", folder / "background.pth", "--scale", options.scale, "--strength", 1]
        sys.argv = ["psfr-restore", *map(str, arguments)]
        start = time.perf_counter()
        try:
            restore.cli()
        except SystemExit as stop:
            if stop.code != NO_FACE_STATUS:
                raise
        seconds = time.perf_counter() - start
    result = {"seconds": round(seconds), "peak_memory_gb": round(peak_memory_gb(torch.device("cpu")), 2)}
    print(json.dumps(result | vars(options)))


def _apply_to_first_tiles(num_tiles: int) -> None:
    enlarge = Background._enlarge
    tiles = itertools.count()

    def enlarge_first(self: Background, tile: np.ndarray, scale: int, gray: bool) -> np.ndarray:
        if next(tiles) < num_tiles:
            return enlarge(self, tile, scale, gray)
        return np.repeat(np.repeat(np.float32(tile / 255), scale, axis=0), scale, axis=1)

    Background._enlarge = enlarge_first


def _write_photograph(path: Path, megapixels: float) -> None:
    """Write a photograph of 3:2 of the astronaut in rows."""
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    astronaut = Image.fromarray(data.astronaut()).resize((height // 2, height // 2), Image.Resampling.BICUBIC)
    tiled = np.tile(np.asarray(astronaut), (2, 3, 1))
    Image.fromarray(tiled).save(path, quality=95)


def _write_networks(folder: Path) -> None:
    """Write networks of the published size."""
    params = read_params(PUBLISHED_PARAMS)
    config = fpn.network_config(params)
    serialization.save(folder / models.FPN_FILE, FaceParsingNetwork(**config), **config)
    config = gan.generator_config(params)
    serialization.save(folder / models.GENERATOR_FILE, Generator(**config), **config)


def _write_background(path: Path, architecture: str, factor: int) -> None:
    """Write a network of Real-ESRGAN: `realesr-animevideov3` (compact) or `RealESRGAN_x4plus` (esrgan, any factor)."""
    compat.patch_torchvision()
    from spandrel.architectures.Compact import Compact
    from spandrel.architectures.ESRGAN import ESRGAN

    if architecture == "compact":
        network = Compact(num_feat=64, num_conv=16, upscale=factor)
    else:
        unshuffle = 4 // factor
        network = ESRGAN(
            in_nc=3 * unshuffle**2,
            out_nc=3,
            num_filters=64,
            num_blocks=23,
            scale=4,
            shuffle_factor=unshuffle if unshuffle > 1 else None,
        )
    torch.save({"params_ema": network.state_dict()}, path)


if __name__ == "__main__":
    main()
