"""Restored test images of every model, and the region maps that the models saw."""

from pathlib import Path

from psfr import checkpoints, images, inference, params, weights
from psfr.errors import run
from psfr.files import replacing_folder
from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.generator import Generator


def main() -> None:
    values = params.read()
    fpn = checkpoints.load(Path("models/fpn.safetensors"), FaceParsingNetwork)
    generators = {name: _generator(Path(path)) for name, path in values.models.items()}
    paths = images.listed(Path("data/testset/lr"))
    with replacing_folder(Path("data/testset/sr")) as restored, replacing_folder(Path("data/testset/parse")) as maps:
        inference.restore(fpn, generators, paths, restored, maps, values.image_size, values.compute)


def _generator(path: Path):
    """Ours (.safetensors), or a published checkpoint (.pth) at the published sizes."""
    if path.suffix == ".pth":
        return checkpoints.from_published("generator", weights.load(path))
    return checkpoints.load(path, Generator)


if __name__ == "__main__":
    run(main)
