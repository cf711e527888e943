"""Restore the images of a test set with every model; write the restored images and the parsing maps used."""

import json
import sys
from functools import partial
from pathlib import Path

from psfr import inference
from psfr.compute.devices import compute_dtype, get_device, report_compute
from psfr.compute.processes import Work, broadcast_from_rank_zero, get_rank, on_rank_zero, run_distributed
from psfr.data import images
from psfr.networks import serialization
from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.generator import Generator
from psfr.networks.inference.fuse import fuse
from psfr.params import MODEL_DIRS, TESTSET, Params, read_params, set_folder, stage_name, test_images_folder
from psfr.pretrained import loader
from psfr.utils.files import atomic_write
from psfr.utils.project import provide, workspace_path
from psfr.utils.resume import resumable_dir


def main(set_name: str = TESTSET) -> None:
    """Run the stage.

    Args:
        set_name: the test set, or a name of testsets in params.yaml.
    """
    params = read_params()
    models = {name: workspace_path(path) for name, path in params.models.items()}
    if get_rank() == 0:
        provide(path for path in models.values() if Path(MODEL_DIRS[-1]) in path.parents)
    broadcast_from_rank_zero(None)  # the others wait for the files
    device = get_device(params.compute)
    compute = report_compute("infer", params.compute)
    dtype = compute_dtype(params.compute, device)
    face_parser = fuse(serialization.load(Path("models/fpn.safetensors"), FaceParsingNetwork).to(device), dtype)
    generators = {name: fuse(_load_generator(path).to(device), dtype) for name, path in models.items()}
    lr, folder, stage = test_images_folder(set_name) / "lr", set_folder(set_name), stage_name("infer", set_name)
    paths = images.list_images(lr)
    sr_dir = resumable_dir(folder / "sr", stage, per_file_deps=(str(lr),))
    seg_dir = resumable_dir(folder / "parse", stage, per_file_deps=(str(lr),))
    with on_rank_zero(sr_dir) as sr, on_rank_zero(seg_dir) as seg:
        inference.restore(face_parser, generators, paths, sr, seg, params.image_size, params.compute)
        if get_rank() == 0:
            with atomic_write(sr / "compute.json") as path:  # for metrics/evaluation.json
                path.write_text(json.dumps(compute), encoding="utf-8")


def _load_generator(path: Path) -> Generator:
    """Load a checkpoint of this project (.safetensors), or a published one (.pth)."""
    if path.suffix != ".pth":
        return serialization.load(path, Generator)
    generator = serialization.from_published("generator", loader.load(path))
    assert isinstance(generator, Generator)
    return generator


def _work(params: Params, set_name: str = TESTSET) -> Work:
    return Work((1 + len(params.models)) * len(images.list_images(test_images_folder(set_name) / "lr")))


if __name__ == "__main__":
    run_distributed(
        partial(main, *sys.argv[1:]), "images", "networks", work=lambda params: _work(params, *sys.argv[1:])
    )
