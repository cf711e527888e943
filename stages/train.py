"""Train the GAN; log its losses, validate it on held-out faces, and save the networks with a model card."""

from functools import partial
from pathlib import Path

from psfr.compute.devices import report_compute
from psfr.compute.processes import Work, get_rank, on_rank_zero, run_distributed
from psfr.data import degradation_table, images
from psfr.data.datasets import PairedFaceDataset
from psfr.networks import serialization
from psfr.networks.vgg import VggFeatures
from psfr.params import Params, read_params
from psfr.pretrained import loader, network_files
from psfr.training import gan, model_card
from psfr.training.checkpoint import CheckpointManager
from psfr.training.kept_generators import LAST_GENERATOR
from psfr.training.metrics_log import open_log
from psfr.training.validation import Validation, split_names
from psfr.training.watching import Watching
from psfr.utils.errors import UserError
from psfr.utils.files import mirror_to_cache
from psfr.utils.resume import training_state_dir

MODELS = Path("models/psfrgan")
METRICS = Path("metrics/train")
FFHQ = Path("data/ffhq")


def main() -> None:
    params = read_params()
    compute = report_compute("train", params.compute)
    table = degradation_table.read_table(FFHQ / "degradations.csv")
    gray = set(table.loc[table.gray == 1, ["name", "variant"]].itertuples(index=False, name=None))
    faces = partial(PairedFaceDataset, FFHQ / "hr", FFHQ / "lr", FFHQ / "parse", gray)
    train_names, held_out_names = _split(params)
    dataset = faces(train_names, params.flip, params.seed)
    state = gan.build(params, _load_vgg(params))
    with on_rank_zero(training_state_dir(MODELS.parent, "train")) as state_dir, open_log(METRICS, compute) as live:
        watching = None
        if live:
            is_validated = params.validate_every and held_out_names
            validation = Validation(faces(held_out_names), params.compute) if is_validated else None
            watching = Watching(params, state, validation, live, state_dir, compute)
        checkpoints = CheckpointManager(state_dir, params.compute.checkpoint_seconds)
        num_steps = gan.train(params, state, dataset, checkpoints, watching)
        if watching:
            watching.save_generator(MODELS / LAST_GENERATOR)
            config_d = gan.discriminator_config(params)
            serialization.save(MODELS / "discriminator.safetensors", state.discriminator, compute, **config_d)
            watching.kept.write(MODELS, num_steps)
            model_card.write(MODELS, params, dataset, len(held_out_names), compute)
    if get_rank() == 0:
        mirror_to_cache("train", METRICS / "metrics.json")


def _split(params: Params) -> tuple[list[str], list[str]]:
    """Return the names of the faces to train and to validate on."""
    return split_names([path.stem for path in images.list_images(FFHQ / "hr")], params.held_out)


def _load_vgg(params: Params) -> VggFeatures:
    path = loader.WEIGHTS_DIR / "perceptual" / network_files.VGG_BACKBONES[params.perceptual.network]
    vgg = VggFeatures(**params.perceptual.model_dump())
    try:
        vgg.load_backbone(loader.load(path))
    except ValueError as error:
        raise UserError(f"{path}: {error}: fetch it again with `dvc repro -f fetch_weights`") from None
    return vgg


def _work(params: Params) -> Work:
    num_images = len(_split(params)[0])
    # A set that is smaller than a batch is one batch.
    return Work(params.epochs * num_images, min(params.batch_size, num_images))


if __name__ == "__main__":
    run_distributed(main, "images", "networks", "quality", work=_work)
