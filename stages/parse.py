"""Predict the parsing maps of the training images once, so that the GAN's training need not run the parsing network."""

from pathlib import Path

from psfr import inference
from psfr.compute.devices import compute_dtype, get_device, report_compute
from psfr.compute.processes import Work, on_rank_zero, run_distributed
from psfr.data import images
from psfr.networks import serialization
from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.inference.fpn import FusedParsingNetwork
from psfr.params import Params, read_params
from psfr.utils.resume import resumable_dir

FFHQ = Path("data/ffhq")


def main() -> None:
    params = read_params()
    device = get_device(params.compute)
    report_compute("parse", params.compute)
    network = serialization.load(Path("models/fpn.safetensors"), FaceParsingNetwork).to(device)
    face_parser = FusedParsingNetwork(network, compute_dtype(params.compute, device))
    folders = ["hr", *(f"lr/{variant}" for variant in range(params.degrade.variants))]
    paths = {folder: images.list_images(FFHQ / folder) for folder in folders}
    parse_dir = resumable_dir(
        FFHQ / "parse",
        "parse",
        per_file_deps=("data/ffhq/hr", "data/ffhq/lr"),
        ignored_deps=("degrade.variants",),
        same_paths=True,
    )
    with on_rank_zero(parse_dir) as out:
        for folder in folders:
            description = f"parse {folder}"
            inference.parse(face_parser, paths[folder], out / folder, params.image_size, params.compute, description)


def _work(params: Params) -> Work:
    return Work((1 + params.degrade.variants) * len(images.list_images(FFHQ / "hr")))


if __name__ == "__main__":
    run_distributed(main, "images", "networks", work=_work)
