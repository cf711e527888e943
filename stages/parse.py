"""Region maps of the training images, made once: the GAN's training never runs the face parsing network."""

from pathlib import Path

from psfr import checkpoints, images, inference, params
from psfr.errors import run
from psfr.files import replacing_folder
from psfr.networks.fpn import FaceParsingNetwork


def main() -> None:
    values = params.read()
    fpn = checkpoints.load(Path("models/fpn.safetensors"), FaceParsingNetwork)
    folders = [Path("data/ffhq/hr"), *(Path("data/ffhq/lr") / str(variant) for variant in range(values.degrade.variants))]
    listed = [images.listed(folder) for folder in folders]
    with replacing_folder(Path("data/ffhq/parse")) as out:
        for folder, paths in zip(folders, listed, strict=True):
            name = folder.relative_to("data/ffhq")
            inference.parse(fpn, paths, out / name, values.image_size, values.compute, f"parse {name}")


if __name__ == "__main__":
    run(main)
