"""Training of the GAN: checkpoints, dvclive's metrics, and a picture of the same faces after every epoch."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from dvclive import Live

from psfr import params
from psfr.compute.devices import autocast, device
from psfr.compute.processes import by_first, rank, run
from psfr.data import degradation_table, images, labels
from psfr.data.datasets import Quartets, to_image
from psfr.networks import serialization
from psfr.networks.vgg import VggFeatures
from psfr.pretrained import loader, network_files
from psfr.training import gan
from psfr.training.checkpoint import Snapshots
from psfr.utils.errors import InputError
from psfr.utils.files import cached
from psfr.utils.resume import unfinished

MODELS = Path("models/psfrgan")
METRICS = Path("metrics/train")
FFHQ = Path("data/ffhq")
SHOWN = 4


def main() -> None:
    values = params.read()
    degradations = degradation_table.read_table(FFHQ / "degradations.csv")
    gray = {
        (row.name, row.variant)
        for row in degradations[degradations.gray == 1][["name", "variant"]].itertuples(index=False, name="Row")
    }
    quartets = Quartets(FFHQ / "hr", FFHQ / "lr", FFHQ / "parse", gray)
    state = gan.build(values, _vgg(values))

    metrics = Live(str(METRICS), save_dvc_exp=False, report=None, dvcyaml=None) if rank() == 0 else nullcontext()

    with by_first(unfinished(MODELS.parent, "train")) as folder, metrics as live:

        def after_epoch(epoch: int, means: dict[str, float]) -> None:
            serialization.save(MODELS / "generator.safetensors", state.generator, **gan.generator_sizes(values))
            serialization.save(
                MODELS / "discriminator.safetensors", state.discriminator, **values.discriminator.model_dump()
            )
            for name, mean in means.items():
                live.log_metric(name.replace("score_", "score/") if name.startswith("score_") else f"loss/{name}", mean)
            picture = folder / f"epoch_{epoch:03}.png"
            if not picture.is_file():
                images.write(picture, _faces(state, quartets, values))
            live.log_image(picture.name, images.read(picture))
            live.next_step()

        gan.train(values, state, quartets, Snapshots(folder, values.compute.checkpoint_seconds), after_epoch)
    if rank() == 0:
        cached("train", METRICS / "metrics.json")


def _vgg(values: params.Params) -> VggFeatures:
    path = loader.FOLDER / "perceptual" / network_files.VGG_BACKBONES[values.perceptual.network]
    vgg = VggFeatures(**values.perceptual.model_dump())
    try:
        vgg.load_trunk(loader.load(path))
    except ValueError as error:
        raise InputError(f"{path}: {error}: fetch it again with `dvc repro -f fetch_weights`") from None
    return vgg


@torch.inference_mode()
def _faces(state: gan.Gan, quartets: Quartets, values: params.Params) -> np.ndarray:
    """The first faces, a row each: degraded, region map, restored, true."""
    rows = []
    where = device(values.compute)
    for index in range(min(SHOWN, len(quartets))):
        batch = gan.on_device(tuple(tensor.unsqueeze(0) for tensor in quartets[index, 0]), where)
        high, low, _, regions = batch
        with autocast(values.compute, where):
            restored = state.generator(low, regions)
        rows.append(
            np.concatenate(
                [to_image(low[0]), labels.PALETTE[regions[0].cpu().numpy()], to_image(restored[0]), to_image(high[0])],
                1,
            )
        )
    return np.concatenate(rows)


if __name__ == "__main__":
    run(main)
