"""Restore the test images with every model; write the restored images and the parsing maps used."""

from pathlib import Path

from psfr import inference
from psfr.compute.processes import on_rank_zero, run_distributed
from psfr.data import images
from psfr.networks import serialization
from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.generator import Generator
from psfr.params import read_params
from psfr.pretrained import loader
from psfr.utils.resume import resumable_dir

TESTSET = Path("data/testset")


def main() -> None:
    params = read_params()
    face_parser = serialization.load(Path("models/fpn.safetensors"), FaceParsingNetwork)
    generators = {name: _load_generator(Path(path)) for name, path in params.models.items()}
    paths = images.list_images(TESTSET / "lr")
    sr_dir = resumable_dir(TESTSET / "sr", "infer", per_file_deps=("data/testset/lr",))
    seg_dir = resumable_dir(TESTSET / "parse", "infer", per_file_deps=("data/testset/lr",))
    with on_rank_zero(sr_dir) as sr, on_rank_zero(seg_dir) as seg:
        inference.restore(face_parser, generators, paths, sr, seg, params.image_size, params.compute)


def _load_generator(path: Path) -> Generator:
    """Load a checkpoint of this project (.safetensors), or a published one (.pth)."""
    if path.suffix != ".pth":
        return serialization.load(path, Generator)
    generator = serialization.from_published("generator", loader.load(path))
    assert isinstance(generator, Generator)
    return generator


if __name__ == "__main__":
    run_distributed(main)
