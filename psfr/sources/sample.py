"""Sets of synthetic portraits, each with its exact parsing map."""

from functools import partial
from pathlib import Path

from psfr import portraits
from psfr.compute import parallel
from psfr.compute.parallel import Executor
from psfr.data import images, labels
from psfr.params import ImageSetParams, LabeledSetParams
from psfr.utils.seeds import derive_seed


def render_set(raw: Path, name: str, params: ImageSetParams, image_size: int, seed: int, executor: Executor) -> None:
    """Render `params.count` portraits, numbered from `params.skip` on, to `raw`; existing files are kept.

    The seed of the portraits depends on the name of the set, so no two sets show the same people.
    """
    assert params.count is not None
    numbers = range(params.skip, params.skip + params.count)
    expected = {f"{number:05d}.png" for number in numbers}
    for path in images.walk_files(raw):
        if path.name not in expected:
            path.unlink()
    labeled = isinstance(params, LabeledSetParams)
    render = partial(_render, raw, labeled, derive_seed(seed, "portraits", name), image_size)
    parallel.map(render, numbers, executor, f"render {name}")


def _render(raw: Path, labeled: bool, seed: int, image_size: int, number: int) -> None:
    file = f"{number:05d}.png"
    image_path = raw / "images" / file if labeled else raw / file
    mask_path = raw / "masks" / file
    if image_path.is_file() and (mask_path.is_file() or not labeled):
        return
    image, seg = portraits.draw(seed, number, image_size)
    images.write(image_path, image)
    if labeled:
        labels.write(mask_path, seg)
