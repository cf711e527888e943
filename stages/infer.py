"""Restored test images of every model, and the region maps that the models saw."""

from pathlib import Path

from psfr import inference, params
from psfr.compute.processes import by_first, run
from psfr.data import images
from psfr.networks import serialization
from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.generator import Generator
from psfr.pretrained import loader
from psfr.utils.resume import resuming_folder


def main() -> None:
    values = params.read()
    fpn = serialization.load(Path("models/fpn.safetensors"), FaceParsingNetwork)
    generators = {name: _generator(Path(path)) for name, path in values.models.items()}
    paths = images.listed(Path("data/testset/lr"))
    restored, maps = (
        by_first(resuming_folder(Path("data/testset", name), "infer", items=("data/testset/lr",)))
        for name in ("sr", "parse")
    )
    with restored as sr, maps as parse:
        inference.restore(fpn, generators, paths, sr, parse, values.image_size, values.compute)


def _generator(path: Path):
    """Ours (.safetensors), or a published checkpoint (.pth) at the published sizes."""
    if path.suffix == ".pth":
        return serialization.from_published("generator", loader.load(path))
    return serialization.load(path, Generator)


if __name__ == "__main__":
    run(main)
