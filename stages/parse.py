"""Region maps of the training images, made once: the GAN's training never runs the face parsing network."""

from pathlib import Path

from psfr import inference, params
from psfr.compute.processes import by_first, run
from psfr.data import images
from psfr.networks import serialization
from psfr.networks.fpn import FaceParsingNetwork
from psfr.utils.resume import resuming_folder


def main() -> None:
    values = params.read()
    fpn = serialization.load(Path("models/fpn.safetensors"), FaceParsingNetwork)
    folders = [
        Path("data/ffhq/hr"),
        *(Path("data/ffhq/lr") / str(variant) for variant in range(values.degrade.variants)),
    ]
    listed = [images.listed(folder) for folder in folders]
    with by_first(resuming_folder(Path("data/ffhq/parse"), "parse", items=("data/ffhq/hr", "data/ffhq/lr"))) as out:
        for folder, paths in zip(folders, listed, strict=True):
            name = folder.relative_to("data/ffhq")
            inference.parse(fpn, paths, out / name, values.image_size, values.compute, f"parse {name}")


if __name__ == "__main__":
    run(main)
